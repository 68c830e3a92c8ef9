"""Photographs into classes: latents read from files against pixels, at equal compute and at equal bytes.

DATA/train and DATA/validation, DATA/test hold a folder a class. Everything a row is trained on comes out of files:

    latents      of .lcb files: entropy decoding, no synthesis
    pixels       of JPEG and WebP files of as many bytes in all, reduced in size where the format cannot go so low at
                 full size; of the original files; and of the originals reduced to as many numbers as the latents

All networks see a grid of one position a block of 8x8 original pixels (16x16 for latents at 1/16, then with twice the
width): pixels are folded into channels, so every row costs as many multiply-adds. Training is the same for all: random
crops of seven eighths of the grid, mirroring (of latents: the mirrored picture encoded as well), mixup. Rows report the
accuracy on validation and test together, on which nothing was chosen, and how fast one thread gets from bytes to input.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.nn import functional as F

import codec
from codec.learning.experiments import pictures
from codec.learning.experiments.fitting import Plan, accuracy, fit
from codec.learning.experiments.pictures import Pictures
from codec.learning.experiments.work import megamacs
from codec.learning.networks import Classifier, Shape
from codec.learning.views import View
from codec.lines import append_line

PLAN = Plan(epochs=30, batch=64, lr=3e-3)
_WIDTHS = {8: (64, 128), 16: (128, 256)}  # of the network, by pixels a grid position
_KEPT = 7 / 8  # of the grid's shorter side, by crops
_SCALES = (1.0, 0.75, 0.5, 0.375, 0.25)  # a foreign codec tries before it gives up on quality
_WAYS = {
    "JPEG": ({"optimize": True}, {"optimize": True, "progressive": True}),
    "WEBP": ({"method": 6},),
    "PNG": ({"optimize": True},),
}
_QUIET = 0.05  # deviation below which a channel is not made louder: one that is silent but for once in a while
_TOGETHER = 64  # files decoded at once
_LOWEST = 8  # quality of JPEG and WebP below which fewer pixels look better


@dataclass(frozen=True)
class Source:
    """One way to store photographs and to get a network's input from a file.

    Attributes:
        name: in the table.
        block: original pixels a side of a grid position.
        encode: photograph [H, W, 3] uint8 -> bytes.
        load: files -> inputs [channels, h, w].
    """

    name: str
    block: int
    encode: Callable[[np.ndarray], bytes]
    load: Callable[[Sequence[bytes]], list[Tensor]]


def run(
    data: Path,
    out: Path,
    *,
    models: Sequence[tuple[str, float]] = (("walloc-12", 30.0), ("waveprior", 0.0)),
    seeds: int = 1,
    plan: Plan = PLAN,
    tell: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Train and test on every source and return the rows, which are also appended to `rows.jsonl` in `out`.

    Args:
        models: names and qualities of those that make latents; foreign files get as many bytes as those of the first.
        seeds: networks a row, whose mean accuracy counts.

    Raises:
        MediaError: there are no photographs.
    """
    training, held_out = (
        pictures.read(data / "train"),
        _joined([pictures.read(data / p) for p in ("validation", "test")]),
    )
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for source in sources(training, models):
        row = _row(source, training, held_out, seeds, plan, tell)
        append_line(out / "rows.jsonl", row)
        rows.append(row)
    return rows


def sources(training: Pictures, models: Sequence[tuple[str, float]]) -> list[Source]:
    """Return what is compared."""
    probe = [_array(x) for x in training.pixels[:: max(len(training.pixels) // 128, 1)]]
    found = [_latents(name, quality) for name, quality in models]
    target = float(np.mean([len(found[0].encode(x)) for x in probe]))
    numbers = found[0].load([found[0].encode(probe[0])])[0].numel()
    for format in ("JPEG", "WEBP"):
        scale, quality = at_size(format, probe, target)
        name = f"{format}{f' at {scale:g} of the size' if scale < 1 else ''}"
        found.append(Source(name, 8, partial(_write, format, scale, quality), _pixels))
    side = probe[0].shape[0] * probe[0].shape[1] * 3 / numbers
    found.append(
        Source("pixels, as many numbers", 8, partial(_write, "PNG", side**-0.5, None), partial(_pixels, fold=4))
    )
    found.append(Source("pixels, originals", 8, partial(_write, "WEBP", 1.0, 82), _pixels))
    return found


def at_size(format: str, probe: Sequence[np.ndarray], target: float) -> tuple[float, int]:
    """Return the scale and quality at which a format takes `target` bytes on average: the largest that can."""
    mean = lambda scale, quality: np.mean([len(_write(format, scale, quality, x)) for x in probe])
    for scale in _SCALES:
        if mean(scale, _LOWEST) <= target or scale == _SCALES[-1]:
            low, high = 1, 95
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if mean(scale, middle) <= target else (low, middle - 1)
            return scale, low
    raise AssertionError("the last scale returns")


def _row(
    source: Source, training: Pictures, held_out: Pictures, seeds: int, plan: Plan, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Encode, decode, train and test."""
    tell(f"{source.name}: encoding {2 * len(training.pixels) + len(held_out.pixels)} photographs and mirror images")
    files = [[source.encode(_array(x)) for x in part.pixels] for part in (training, held_out)]
    mirrored = [source.encode(_array(x.flip(-1))) for x in training.pixels]
    begun = time.perf_counter()
    inputs = source.load(files[0])
    speed = len(inputs) / (time.perf_counter() - begun)
    flipped, tests = source.load(mirrored), source.load(files[1])
    mean, deviation = _moments(inputs)
    inputs, flipped, tests = ([(x - mean) / deviation for x in part] for part in (inputs, flipped, tests))
    side = round(_KEPT * min(min(x.shape[1:]) for x in inputs))
    draw = lambda chosen, rng: (_crops(inputs, flipped, side, chosen, rng), training.labels[chosen])
    shape = Shape(len(mean), len(training.classes), widths=_WIDTHS[source.block])
    scores, seconds = [], 0.0
    for seed in range(seeds):
        chosen = Plan(**vars(plan) | {"seed": plan.seed + seed})
        network, seconds = fit(lambda: Classifier(shape), draw, len(inputs), chosen, tell)
        scores.append(100 * accuracy(network, tests, held_out.labels))
        tell(f"{source.name}: {scores[-1]:.1f} %")
    return {
        "input": source.name,
        "bytes": round(float(np.mean([len(data) for data in (*files[0], *files[1])])), 1),
        "numbers": round(float(np.mean([x.numel() for x in inputs]))),
        "mmac": round(megamacs(Classifier(shape), torch.zeros(1, len(mean), side, side)), 1),
        "load_per_second": round(speed, 1),
        "epoch_seconds": round(seconds, 2),
        "accuracy": round(float(np.mean(scores)), 2),
        "spread": round(float(np.std(scores)), 2),
    }


def _crops(
    inputs: Sequence[Tensor], flipped: Sequence[Tensor], side: int, chosen: Sequence[int], rng: np.random.Generator
) -> Tensor:
    """Return random crops [B, channels, side, side] of some inputs or of their mirrored twins."""
    crops = []
    for index in chosen:
        x = (flipped if rng.random() < 0.5 else inputs)[index]
        row, col = (rng.integers(n - side + 1) for n in x.shape[1:])
        crops.append(x[:, row : row + side, col : col + side])
    return torch.stack(crops)


def _moments(inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel, [channels, 1, 1]."""
    some = torch.cat([x.flatten(1) for x in inputs[:512]], 1)
    return some.mean(1)[:, None, None], some.std(1).clamp_min(_QUIET)[:, None, None]


def _latents(model: str, quality: float) -> Source:
    """Return files of a model of ours, and their latents."""
    info = codec.find_model(model)
    sample = codec.encode(np.zeros((64, 64, 3), np.uint8), model=model, quality=quality)
    block = 64 // codec.open(sample).latents().shape[1]
    encode = lambda x: codec.encode(x, model=info.name, quality=quality)
    return Source(f"{model} latents", block, encode, _decoded)


def _decoded(files: Sequence[bytes]) -> list[Tensor]:
    """Return the latents of files, decoded in groups as a DataLoader of `LatentDataset` does."""
    found = []
    for start in range(0, len(files), _TOGETHER):
        part = files[start : start + _TOGETHER]
        items = View().items(part, [None] * len(part), [f"photograph {start + i}" for i in range(len(part))])
        found += [item["latents"] for item in items]
    return found


def _write(format: str, scale: float, quality: int | None, samples: np.ndarray) -> bytes:
    """Return a file of a photograph reduced by `scale`: the smallest of the ways its encoder has."""
    picture, found = PIL.Image.fromarray(samples), []
    if scale < 1:
        picture = picture.resize([max(round(n * scale), 1) for n in picture.size], PIL.Image.Resampling.LANCZOS)
    for options in _WAYS[format]:
        file = io.BytesIO()
        picture.save(file, format, **options | ({} if quality is None else {"quality": quality}))
        found.append(file.getvalue())
    return min(found, key=len)


def _pixels(files: Sequence[bytes], fold: int = 1) -> list[Tensor]:
    """Return pixels folded into channels, [192, h, w] each, or [192 / fold**2, h, w] of reduced pictures.

    Where a file holds a reduced picture and `fold` is 1, it is enlarged first: the network sees what a decoder shows.
    """
    return [_folded(data, fold) for data in files]


def _folded(data: bytes, fold: int) -> Tensor:
    with PIL.Image.open(io.BytesIO(data)) as picture:
        x = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255 - 0.5
    shorter = pictures.SIDE // fold
    if min(x.shape[1:]) != shorter:
        size = [round(n * shorter / min(x.shape[1:])) for n in x.shape[1:]]
        x = F.interpolate(x[None], size, mode="bilinear", align_corners=False, antialias=True)[0]
    block = 8 // fold
    height, width = (n // block * block for n in x.shape[1:])
    return F.pixel_unshuffle(x[None, :, :height, :width], block)[0]


def _array(picture: Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).contiguous().numpy()


def _joined(parts: Sequence[Pictures]) -> Pictures:
    files, pixels = ([item for part in parts for item in getattr(part, name)] for name in ("files", "pixels"))
    return Pictures(files, pixels, torch.cat([part.labels for part in parts]), parts[0].classes)
