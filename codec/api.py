"""`codec.encode` and `codec.decode`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from codec import checkpoint, rate
from codec.limits import MAX_PIXELS, UNLIMITED
from codec.media import image as media
from codec.params import quality_index, quality_of
from codec.stream import Source, Stream

if TYPE_CHECKING:
    from codec.media.image import Image
    from codec.system import Progress

DEFAULT_QUALITY = 60.0


def encode(
    image: Any,
    *,
    model: str = checkpoint.DEFAULT_MODEL,
    quality: float | None = None,
    effort: int = 1,
    target_size: int | None = None,
    bpp: float | None = None,
    psnr: float | None = None,
    strip: bool = False,
    device: str = "auto",
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> bytes:
    """Compress an image and return the bytes of a .lcb file.

    Args:
        image: path, bytes or binary file of an image; Pillow image; array [H, W] or [H, W, C]; tensor [C, H, W].
        model: name of an installed model, see `codec list models`.
        quality: 0..100 (default 60). Instead of it, at most one of: `target_size` (bytes, not exceeded), `bpp`
            (bits per pixel of the file, not exceeded), `psnr` (dB, at least).
        effort: 1..10: 1 is one forward pass, more looks longer for a better stream.
        strip: leave ICC, EXIF and XMP out.
        device: `auto`, `cpu` or `cuda`.
        progress: called with the fraction done.

    Raises:
        ValueError: an option is out of range, or two targets are given.
        MediaError: the image cannot be carried without silent loss, or not be read at all.
        LimitError: it has more than `max_pixels` pixels.
        RateError: the target is out of reach.
        ModelError, UnknownSystemError: the model cannot be used.
    """
    from codec.engine import images
    from codec.system import no_progress

    targets = {"quality": quality, "target_size": target_size, "bpp": bpp, "psnr": psnr}
    given = [name for name, value in targets.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other")
    picture = media.read(image, max_pixels=max_pixels)
    info = checkpoint.find_model(model)
    system = checkpoint.load(info, device)

    def attempt(value: float) -> bytes:
        return images.encode(
            picture, info, system, quality=value, effort=effort, strip=strip, progress=progress or no_progress
        )

    single = system.single_rate
    if psnr is not None:
        measure = lambda data: _psnr(data, picture, device)
        return rate.smallest_above(attempt, measure, psnr, f"a PSNR of {psnr:g} dB", single=single)
    if bpp is not None or target_size is not None:
        limit = target_size if bpp is None else bpp * picture.width * picture.height / 8
        what = f"a size of {limit} bytes" if bpp is None else f"a rate of {bpp:g} bits per pixel ({limit:.0f} bytes)"
        return rate.largest_below(attempt, len, limit, what, single=single)
    quality = DEFAULT_QUALITY if quality is None else quality
    return attempt(quality_of(quality_index(quality)))


def decode(source: Source, *, device: str = "auto", **limits: int) -> Image:
    """Decompress a .lcb file (path, bytes or binary file).

    Args:
        limits: `max_pixels` and `max_memory` (bytes), checked before anything is allocated.

    Raises:
        FormatError: damaged, truncated or not a .lcb file.
        LimitError: larger than the limits.
        UnknownSystemError, MissingModelError: what it needs is not installed.
    """
    return Stream(source, device=device, **limits).decode()


def _psnr(data: bytes, original: Image, device: str) -> float:
    return psnr_of(Stream(data, device=device, max_pixels=UNLIMITED, max_memory=UNLIMITED).decode(), original)


def psnr_of(decoded: Image, original: Image) -> float:
    """Return the PSNR in dB over all samples of two images of the same kind; alpha does not count."""
    peak = float(np.iinfo(original.samples.dtype).max)
    total = 0.0
    for a, b in zip(decoded.samples, original.samples, strict=True):  # row by row: no full-size float copies
        total += float(np.square(a.astype(np.float32) - b).sum(dtype=np.float64))
    mse = total / original.samples.size
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)
