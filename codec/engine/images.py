"""Image values to .lcb bytes and back: joins media, systems, coder and container."""

from __future__ import annotations

from dataclasses import replace

import torch

from codec import checkpoint
from codec.container import Container
from codec.engine import units
from codec.errors import CorruptError, LimitError, MediaError
from codec.media import image as media
from codec.media.image import Image
from codec.params import pack
from codec.system import Params, Progress, System, no_progress

ANALYZE_SHARE = 0.7  # of the time an encode takes, for progress


def encode(
    picture: Image,
    model: checkpoint.ModelInfo,
    system: System,
    *,
    quality: float,
    effort: int = 1,
    strip: bool = False,
    progress: Progress = no_progress,
) -> bytes:
    """Return a .lcb file of a picture with its alpha and metadata.

    Args:
        quality: 0..100.
        effort: 1..10, see `System.analyze`.
        strip: leave ICC, EXIF and XMP out.

    Raises:
        ValueError: quality or effort out of range.
    """
    if not 1 <= effort <= 10:
        raise ValueError(f"effort {effort} is outside 1..10")
    symbols, params = system.analyze(
        picture, quality=quality, effort=effort, progress=lambda f: progress(f * ANALYZE_SHARE)
    )
    coding = lambda f: progress(ANALYZE_SHARE + f * (1 - ANALYZE_SHARE))
    coded = units.encode(symbols, params, system, coding)
    alpha = None if picture.alpha is None else media.pack_plane(picture.alpha)
    metadata = {} if strip else picture.metadata
    return Container(model.system, model.version, model.short_digest, pack(params), coded, metadata, alpha).pack()


def check_limits(params: Params, *, max_pixels: int, max_memory: int) -> None:
    """Refuse a stream by its header, before anything is allocated for it.

    Raises:
        LimitError: it claims more than the limits allow.
    """
    size, pixels = f"{params['width']}x{params['height']}", params["width"] * params["height"]
    if pixels > max_pixels:
        raise LimitError(f"the stream claims {size} pixels, over the limit of {max_pixels}; raise --max-pixels")
    samples = (1 if params["gray"] else 3) * (2 if params["deep"] else 1)
    needed = pixels * (3 * samples + 3)  # bytes: the picture, copies while it is saved, symbols
    if needed > max_memory:
        raise LimitError(
            f"decoding {size} pixels would take about {needed >> 20} MiB, over the limit of {max_memory >> 20}; "
            "raise --max-memory"
        )


def decode(container: Container, params: Params, system: System, progress: Progress = no_progress) -> Image:
    """Return the picture of a parsed file, with alpha and metadata."""
    symbols = units.decode_symbols(container, system, params, lambda f: progress(0.4 * f))
    with torch.no_grad():
        picture = system.synthesize(symbols, params, progress=lambda f: progress(0.4 + 0.6 * f))
    alpha = None
    if container.alpha is not None:
        try:
            alpha = media.unpack_plane(container.alpha, params["width"], params["height"])
        except MediaError as exc:
            raise CorruptError(str(exc)) from exc
    return replace(picture, alpha=alpha, metadata=dict(container.metadata))
