"""Which data a kind of signal is trained on."""

from __future__ import annotations

from pathlib import Path

from codec.errors import RecipeError
from codec.system import System
from codec.training.dataset import Dataset


def dataset(system: System, sources: list[Path], *, smallest: int) -> Dataset:
    """Return the files of some folders and tars as training data for a system.

    Raises:
        MediaError: there are none.
        RecipeError: there is no training for this kind of signal.
    """
    if system.media == "image":
        from codec.training.photos import Photos

        return Photos(sources, smallest=smallest)
    if system.media == "audio":
        from codec.training.sounds import Sounds

        return Sounds(sources, smallest=smallest, rate=system.rate, channels=system.channels)
    if system.media == "video" and not system.fits:
        from codec.training.films import Films

        return Films(sources, smallest=smallest, frames=system.film)
    raise RecipeError(f"there is no training for systems of {system.media}")
