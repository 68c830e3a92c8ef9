"""One picture as several codecs decode it, side by side at about the same number of bytes: a strip for a page.

    python tests/benchmarks/strip.py PICTURE -c vqgan:q=0..100/10 -c avif:q=0 -c webp:scale=3 --bytes 1500 -o strip.webp

A SPEC is one of `codec eval`. Of its settings the one whose file is nearest to --bytes is shown, or its lowest where
none comes near; every caption tells the bytes that were written. The part that is shown is the one with the most
detail, or the one at --at. The strip is WebP, at the best quality that keeps it below --limit, or PNG by its name.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import torch
from PIL import ImageDraw, ImageFont

import codec
from codec.evaluation.metrics import compare
from codec.evaluation.pictures import PICTURES
from codec.evaluation.report import Decoded
from codec.evaluation.report.appearance import MINUS
from codec.evaluation.report.pictures import Crop, detailed_crop
from codec.evaluation.spec import CurveSpec, parse_specs
from codec.media.image import Image, to_pillow

GAP, LINE, MARGIN = 6, 15, 4  # pixels
INK, PAPER = "#222222", "#ffffff"
_SEEN = ("psnr", "ssimulacra2")


def nearest(picture: Image, curve: CurveSpec, wanted: int) -> Decoded:
    """Return a picture at the setting of a curve whose file has most nearly the bytes that are wanted."""
    coded = {setting: curve.codec(setting).encode(picture) for setting in curve.settings}
    setting, data = min(coded.items(), key=lambda pair: abs(math.log(len(pair[1]) / wanted)))
    decoded = curve.codec(setting).decode(data)
    metrics = compare(picture, decoded, _SEEN)
    rate = PICTURES.rate_of(len(data), PICTURES.size_of(picture))
    return Decoded(curve.name, setting, rate, metrics["psnr"], decoded, len(data), metrics)


def caption(decoded: Decoded) -> list[str]:
    """Return what is written below a picture: codec, size, how it looks."""
    quality = decoded.quality.replace(MINUS, "-")  # which Pillow's font has
    return [decoded.name, f"{decoded.size}, {decoded.rate:.3f} bpp", quality]


def strip(original: Image, shown: Sequence[Decoded], crop: Crop) -> PIL.Image.Image:
    """Return the original and what codecs made of it, in a row, each with its caption."""
    about = ["original", f"{crop.width}x{crop.height} of {original.width}x{original.height}"]
    panes = [(original, about), *((decoded.signal, caption(decoded)) for decoded in shown)]
    width = len(panes) * (crop.width + GAP) - GAP
    sheet = PIL.Image.new("RGB", (width, crop.height + MARGIN + 3 * LINE), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    for i, (image, lines) in enumerate(panes):
        left = i * (crop.width + GAP)
        sheet.paste(to_pillow(crop.of(image)).convert("RGB"), (left, 0))
        for number, line in enumerate(lines):
            draw.text((left, crop.height + MARGIN + number * LINE), line, INK, font)
    return sheet


def packed(sheet: PIL.Image.Image, form: str, limit: int) -> bytes:
    """Return the strip as a file: PNG, or WebP at the best quality that keeps it below so many bytes."""
    for quality in (None,) if form == "png" else range(95, 0, -5):
        out = io.BytesIO()
        sheet.save(out, form, **({} if quality is None else {"quality": quality, "method": 6}))
        if out.tell() <= limit or quality is None:
            return out.getvalue()
    return sys.exit(f"no quality makes the strip smaller than {limit} bytes; choose a smaller --crop")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("-c", "--codec", action="append", required=True, metavar="SPEC")
    parser.add_argument("--bytes", type=int, required=True, help="of each coded file, as nearly as there are settings")
    parser.add_argument("-o", "--output", type=Path, required=True, help="strip.webp or strip.png")
    parser.add_argument("--crop", type=int, default=224, help="pixels a side of what is shown")
    parser.add_argument("--at", metavar="X,Y", help="upper left corner of what is shown")
    parser.add_argument("--limit", type=int, default=60_000, help="bytes of the strip")
    args = parser.parse_args(words)
    form = args.output.suffix.lower().lstrip(".")
    if form not in ("png", "webp"):
        parser.error(f"{args.output} is neither .png nor .webp")
    torch.set_num_threads(1)  # what is written does not depend on it
    original = Image(codec.read(args.picture).samples)
    crop = detailed_crop(original, args.crop)
    if args.at:
        x, y = map(int, args.at.split(","))
        crop = Crop(x, y, min(args.crop, original.width - x), min(args.crop, original.height - y))
    shown = [nearest(original, curve, args.bytes) for curve in parse_specs(args.codec)]
    for decoded in shown:
        print(*caption(decoded), sep=", ")
    args.output.write_bytes(packed(strip(original, shown, crop), form, args.limit))


if __name__ == "__main__":
    main()
