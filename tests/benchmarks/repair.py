"""Pictures of which units were lost, as they are predicted: metrics, and a strip of pictures.

    python tests/benchmarks/repair.py PICTURES... [--model vqgan] [--quality 100] [--lost 5,10,20] [-o strip.webp]

Of each file the payload bytes of some units, drawn by a fixed seed, are overwritten; what is left is decoded through
`decode(repair=True)`. "holes" are the same files with every lost token set to the commonest, as a decoder has to do
that cannot predict. The strip shows the first picture: whole, then repaired at each loss.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
import PIL.Image
import torch

import codec
from codec import container
from codec.evaluation.metrics import compare
from codec.media.image import Image, to_pillow
from codec.system import no_progress

METRICS = ("psnr", "ms-ssim", "ssimulacra2")


def damaged(data: bytes, share: float, seed: int) -> bytes:
    """Return a file of compact units with the payloads of a share of them overwritten, at least one."""
    units = container.parse(data).units
    sizes = [len(unit.payload) for unit in units]
    starts = len(data) - 4 - sum(sizes) + np.cumsum([0, *sizes])
    rng = np.random.default_rng(seed)
    out = bytearray(data)
    for i in rng.choice(len(units), max(round(share * len(units)), 1), replace=False):
        out[starts[i] : starts[i + 1]] = rng.bytes(sizes[i])
    return bytes(out)


def with_holes(whole: codec.Stream, lost: list[tuple[int, int, int, int]]) -> Image:
    """Return the picture with the tokens of lost areas (x, y, width, height) set to the commonest of all."""
    system, _, params = whole.coded()
    tokens = whole.symbols()["tokens"].clone()
    common, block = int(tokens.flatten().mode().values), system.block
    for x, y, width, height in lost:
        tokens[y // block : -(-(y + height) // block), x // block : -(-(x + width) // block)] = common
    return system.synthesize({"tokens": tokens}, params, progress=no_progress)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--model", default="vqgan")
    parser.add_argument("--quality", type=float, default=100)
    parser.add_argument("--lost", default="5,10,20", help="percent of the units, comma separated")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    shares = [float(value) / 100 for value in args.lost.split(",")]
    rows: dict[str, list[dict[str, float]]] = {}
    panes: list[Image] = []
    for number, path in enumerate(args.pictures):
        original = codec.read(path)
        data = codec.encode(original, model=args.model, quality=args.quality)
        whole = codec.open(data)
        rows.setdefault("whole", []).append(compare(original, whole.decode(), METRICS))
        panes += [whole.decode()] if number == 0 else []
        for share in shares:
            stream = codec.open(damaged(data, share, number), tolerant=True)
            repaired, lost = stream.decode(repair=True), stream.lost()
            rows.setdefault(f"{share:.0%} repaired", []).append(compare(original, repaired, METRICS))
            rows.setdefault(f"{share:.0%} holes", []).append(compare(original, with_holes(whole, lost), METRICS))
            panes += [repaired] if number == 0 else []
    print(f"{len(args.pictures)} pictures, {args.model}, quality {args.quality:g}")
    for name, found in rows.items():
        means = (f"{metric} {statistics.mean(row[metric] for row in found):8.4f}" for metric in METRICS)
        print(f"{name:14}", *means, sep="  ")
    if args.output:
        sheet = PIL.Image.new("RGB", (sum(p.width for p in panes) + 6 * (len(panes) - 1), panes[0].height), "white")
        for i, pane in enumerate(panes):
            sheet.paste(to_pillow(pane), (i * (pane.width + 6), 0))
        sheet.resize((sheet.width // 2, sheet.height // 2), PIL.Image.Resampling.LANCZOS).save(args.output, quality=70)


if __name__ == "__main__":
    main()
