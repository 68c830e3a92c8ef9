"""Decoded pictures for the crop viewer: what is shown, which part of it, and as which bytes.

A whole Kodak picture without loss is half a megabyte, and a report holds dozens. So every picture is shown by one crop
of at most 384x384 pixels, the same for the original and all codecs, at the place with the most detail: there the codecs
differ. Crops are lossless WebP; nothing that is seen was added by the report.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
import PIL.Image

from codec.errors import MediaError
from codec.media.image import Image, eight_bits

CROP = 384  # pixels; two fit beside each other on a laptop, one on a telephone
_STEP = 8  # pixels between the places that are tried
_EDGE_CAP = 48  # 8-bit levels: beyond it an edge counts no more, or one bright outline outweighs a field of texture


@dataclass(frozen=True)
class Decoded:
    """What one codec made of a picture.

    Attributes:
        curve: name of the curve in the evaluation, `avif:speed=6`.
        setting: `q=50`.
        bpp: of this file, bits per pixel.
        psnr: of this file, dB; None without loss.
        image: as decoded, the size of the original.
    """

    curve: str
    setting: str
    bpp: float
    psnr: float | None
    image: Image


@dataclass(frozen=True)
class Picture:
    """An original and what the codecs made of it.

    Attributes:
        file: name of the original, relative to the folder that was given.
        original: as read.
        decoded: in the order of the curves, within a curve in rising rate.
    """

    file: str
    original: Image
    decoded: list[Decoded]


@dataclass(frozen=True)
class Crop:
    """A rectangle of a picture, in pixels from its upper left corner."""

    x: int
    y: int
    width: int
    height: int

    def of(self, image: Image) -> Image:
        """Return that part of an image."""
        rows, columns = slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)
        return Image(np.ascontiguousarray(image.samples[rows, columns]))


def detailed_crop(image: Image, size: int = CROP) -> Crop:
    """Return the crop of at most `size` x `size` pixels with the largest sum of capped luma differences."""
    luma = image.samples.astype(np.float32).mean(axis=2)
    if image.samples.dtype == np.uint16:
        luma /= 257
    edges = np.zeros_like(luma)
    edges[:, 1:] += np.abs(np.diff(luma, axis=1))
    edges[1:] += np.abs(np.diff(luma, axis=0))
    total = np.pad(np.minimum(edges, _EDGE_CAP).cumsum(0, np.float64).cumsum(1), ((1, 0), (1, 0)))
    height, width = min(size, image.height), min(size, image.width)
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    row, column = np.unravel_index(sums[::_STEP, ::_STEP].argmax(), sums[::_STEP, ::_STEP].shape)
    return Crop(int(column) * _STEP, int(row) * _STEP, width, height)


def data_uri(image: Image, icc: bytes | None = None) -> str:
    """Return an image as a `data:` address of lossless WebP; 16-bit samples are rounded to 8, as screens show them."""
    samples = eight_bits(image.samples)
    pillow = PIL.Image.fromarray(np.repeat(samples, 3, axis=2) if samples.shape[2] == 1 else samples)
    out = io.BytesIO()
    pillow.save(out, "webp", lossless=True, quality=80, method=4, icc_profile=icc or b"")
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def check_sizes(picture: Picture) -> None:
    """Raise MediaError when a decoded picture does not have the size of its original."""
    size = picture.original.samples.shape
    for decoded in picture.decoded:
        if decoded.image.samples.shape[:2] != size[:2]:
            raise MediaError(
                f"{picture.file} by {decoded.curve} {decoded.setting}: {decoded.image!r} is not the size of "
                f"{picture.original!r}; show pictures that were decoded whole"
            )
