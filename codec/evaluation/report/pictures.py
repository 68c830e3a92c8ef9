"""Decoded pictures for the crop viewer: what is shown, which part of it, and as which bytes.

A whole Kodak picture without loss is half a megabyte, and a report holds dozens. So every picture is shown by one crop
of at most 384x384 pixels, the same for the original and all codecs, at the place with the most detail: there the codecs
differ. Crops are lossless WebP; nothing that is seen was added by the report.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from string import Template

import numpy as np
import PIL.Image

from codec.errors import MediaError
from codec.evaluation.report.asset import asset
from codec.evaluation.report.exhibits import Decoded, Exhibit
from codec.media.image import Image, eight_bits

SCRIPT = "viewer.js"
POLICY = "img-src data:"
CROP = 384  # pixels; two fit beside each other on a laptop, one on a telephone
_STEP = 8  # pixels between the places that are tried
_EDGE_CAP = 48  # 8-bit levels: beyond it an edge counts no more, or one bright outline outweighs a field of texture


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


def section(exhibits: Sequence[Exhibit]) -> str:
    """Return contact sheets of crops, which the script turns into the viewer."""
    return Template(asset("pictures.html")).substitute(sheets="\n".join(map(_sheet, exhibits)))


def _sheet(picture: Exhibit) -> str:
    check_sizes(picture)
    original, icc = picture.original, picture.original.metadata.get("icc")
    crop = detailed_crop(original)
    caption = f"{crop.width}x{crop.height} pixels at ({crop.x}, {crop.y}) of {original.width}x{original.height}"
    shown = [_figure(data_uri(crop.of(original), icc), crop)]
    shown += [_figure(data_uri(crop.of(d.signal), icc), crop, d) for d in picture.decoded]
    return (
        f'<details class="sheet" data-file="{escape(picture.file)}" data-crop="{caption}" open>'
        f"<summary>{escape(picture.file)} <span>{caption}</span></summary>"
        f'<div class="crops">{"".join(shown)}</div></details>'
    )


def _figure(uri: str, crop: Crop, decoded: Decoded | None = None) -> str:
    """Return a crop with its caption; the script reads what it needs from the attributes."""
    size = f'width="{crop.width}" height="{crop.height}" loading="lazy"'
    if decoded is None:
        return f'<figure><img src="{uri}" alt="original" {size}><figcaption>original</figcaption></figure>'
    name, quality = escape(decoded.name), decoded.quality
    facts = ", ".join(filter(None, (decoded.size, f"{decoded.rate:.3f} bpp", quality)))
    return (
        f'<figure data-curve="{escape(decoded.curve)}" data-setting="{escape(decoded.setting)}" '
        f'data-bpp="{decoded.rate:.6g}" data-facts="{facts}"><img src="{uri}" alt="{name}" {size}>'
        f"<figcaption>{name}<br>{facts}</figcaption></figure>"
    )


def check_sizes(picture: Exhibit) -> None:
    """Raise MediaError when a decoded picture does not have the size of its original."""
    size = picture.original.samples.shape
    for decoded in picture.decoded:
        if decoded.signal.samples.shape[:2] != size[:2]:
            raise MediaError(
                f"{picture.file} by {decoded.curve} {decoded.setting}: {decoded.signal!r} is not the size of "
                f"{picture.original!r}; show pictures that were decoded whole"
            )
