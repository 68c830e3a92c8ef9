"""Vector quantizers: interchangeable parts between an encoder and a decoder. A recipe names one.

[config.quantizer]
kind = "residual"   # one of KINDS; the other keys are the arguments of its function
books = 8
entries = 1024
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from codec.models.layers.quantizers.base import Quantizer
from codec.models.layers.quantizers.books import Cascade, grouped, masked, residual, single
from codec.models.layers.quantizers.projected import Projected
from codec.models.layers.quantizers.scalar import FiniteScalar

KINDS: dict[str, Callable[..., Quantizer]] = {
    "residual": residual,
    "grouped": grouped,
    "masked": masked,
    "single": single,
    "projected": Projected,
    "fsq": FiniteScalar,
}

__all__ = [
    "KINDS", "Cascade", "FiniteScalar", "Projected", "Quantizer", "build", "grouped", "masked", "residual", "single",
]  # fmt: skip


def build(width: int, config: Mapping[str, Any]) -> Quantizer:
    """Return the quantizer of vectors [width] that a recipe describes.

    Raises:
        ValueError: it names no quantizer, or its numbers do not fit each other.
    """
    arguments = dict(config)
    kind = arguments.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"there is no quantizer {kind!r}; choose from {', '.join(KINDS)}")
    return KINDS[kind](width, **arguments)
