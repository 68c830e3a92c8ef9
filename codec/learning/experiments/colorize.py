"""Colours from gray photographs: a network that maps latents to latents against one that maps pixels to pixels.

DATA is a folder of photographs; every tenth is held out. All rows keep the luma as it was and are judged by the chroma
they give it, as PSNR of Cb and Cr of BT.601 together; "gray" says what no colour at all gets.

    latents      of the .lcb file of the gray picture -> latents of the coloured one -> the codec's synthesis
    pixels       luma of the gray picture in blocks of 8x8 -> both chroma planes; from the original, from a JPEG file of
                 as many bytes as the .lcb file, and reduced to about as many numbers as the latents

All networks work on one position a block of 8x8 pixels and cost as many multiply-adds.
"""

from __future__ import annotations

import io
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
from codec.errors import MediaError
from codec.learning.experiments.fitting import Plan, fit
from codec.learning.experiments.work import megamacs
from codec.learning.networks import Mapper
from codec.lines import append_line

PLAN = Plan(epochs=16, batch=8, lr=2e-3, decay=0.01, mixup=0.0)
MODEL, QUALITY = "walloc-12", 60.0
_SUFFIXES = (".avif", ".jpg", ".jpeg", ".png", ".webp")
_BLOCK = 8
_SIDE = 24  # grid positions a side of a crop
_WIDTH, _BLOCKS = 96, 3
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Route:
    """One way from a gray picture to its colours.

    Attributes:
        name: in the table.
        encode: gray samples [H, W, 3] uint8 -> bytes.
        load: bytes -> input [channels, h, w].
        target: coloured samples, input -> what the network shall give, [outputs, h, w].
        colours: bytes, output -> RGB samples [H, W, 3]; only their chroma counts.
    """

    name: str
    encode: Callable[[np.ndarray], bytes]
    load: Callable[[bytes], Tensor]
    target: Callable[[np.ndarray, Tensor], Tensor]
    colours: Callable[[bytes, Tensor], np.ndarray]


def run(
    data: Path, out: Path, *, limit: int = 400, plan: Plan = PLAN, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Train and test on every route and return the rows, which are also appended to `rows.jsonl` in `out`.

    Args:
        limit: photographs, evenly chosen.

    Raises:
        MediaError: there are too few photographs.
    """
    coloured = read(data, limit)
    tests, training = coloured[::10], [x for i, x in enumerate(coloured) if i % 10]
    out.mkdir(parents=True, exist_ok=True)
    rows = [{"input": "gray", "chroma_psnr": round(float(np.mean([chroma_psnr(x, _gray(x)) for x in tests])), 2)}]
    for route in routes([_gray(x) for x in training[::8]]):
        rows.append(_row(route, training, tests, plan, tell))
        append_line(out / "rows.jsonl", rows[-1])
    return rows


def read(folder: Path, limit: int) -> list[np.ndarray]:
    """Return at most `limit` photographs of a folder, [H, W, 3] with sides cut to whole blocks.

    Raises:
        MediaError: there are fewer than twenty large enough.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _SUFFIXES]
    found = []
    for path in files[:: max(len(files) // limit, 1)][:limit]:
        with PIL.Image.open(path) as picture:
            samples = np.array(picture.convert("RGB"))
        height, width = (n // (2 * _BLOCK) * 2 * _BLOCK for n in samples.shape[:2])
        if min(height, width) >= _SIDE * _BLOCK:
            found.append(samples[:height, :width])
    if len(found) < 20:
        raise MediaError(f"{folder} holds {len(found)} photographs of {_SIDE * _BLOCK} pixels a side; give at least 20")
    return found


def routes(probe: Sequence[np.ndarray]) -> list[Route]:
    """Return what is compared; `probe` are gray pictures to fit the bytes of foreign files to."""
    latents = _latents()
    target = np.mean([len(latents.encode(x)) for x in probe])
    fitting = [q for q in range(1, 96, 2) if np.mean([len(_jpeg(q, x)) for x in probe]) <= target]
    quality = max(fitting, default=1)
    return [
        latents,
        Route(f"pixels, JPEG quality {quality}", partial(_jpeg, quality), _luma, _chroma, _coloured),
        Route("pixels, half size", _png_half, partial(_luma, block=4), partial(_chroma, block=4), _coloured),
        Route("pixels, originals", _png, _luma, _chroma, _coloured),
    ]


def chroma_psnr(original: np.ndarray, other: np.ndarray) -> float:
    """Return the PSNR in dB of Cb and Cr of RGB samples [H, W, 3] uint8."""
    error = np.mean([np.square(a - b).mean() for a, b in zip(_ycc(original)[1:], _ycc(other)[1:], strict=True)])
    return float(10 * np.log10(255**2 / max(error, 1e-6)))


def _row(
    route: Route, training: Sequence[np.ndarray], tests: Sequence[np.ndarray], plan: Plan, tell: Callable[[str], None]
) -> dict[str, Any]:
    tell(f"{route.name}: encoding")
    files = [[route.encode(_gray(x)) for x in part] for part in (training, tests)]
    inputs = [route.load(data) for data in files[0]]
    pairs = [torch.cat([x, route.target(samples, x)]) for x, samples in zip(inputs, training, strict=True)]
    channels = len(inputs[0])
    outputs = len(pairs[0]) - channels

    def draw(chosen: Sequence[int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        crops = []
        for index in chosen:
            row, col = (rng.integers(n - _SIDE + 1) for n in pairs[index].shape[1:])
            crops.append(pairs[index][:, row : row + _SIDE, col : col + _SIDE])
        return torch.stack(crops).split([channels, outputs], 1)

    make = lambda: Mapper(channels, outputs, width=_WIDTH, blocks=_BLOCKS)
    network, seconds = fit(make, draw, len(pairs), plan, tell, F.mse_loss)
    scores = []
    for samples, data in zip(tests, files[1], strict=True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            out = network(route.load(data)[None])[0].float()
        scores.append(chroma_psnr(samples, route.colours(data, out)))
    return {
        "input": route.name,
        "bytes": round(float(np.mean([len(data) for data in (*files[0], *files[1])]))),
        "numbers": inputs[0].numel(),
        "mmac": round(megamacs(make(), torch.zeros(1, channels, _SIDE, _SIDE)), 1),
        "epoch_seconds": round(seconds, 2),
        "chroma_psnr": round(float(np.mean(scores)), 2),
    }


def _latents() -> Route:
    """Return the route through files of ours: the network says what to add to the gray picture's latents."""
    encode = partial(codec.encode, model=MODEL, quality=QUALITY)
    load = lambda data: codec.open(data).latents()
    target = lambda samples, x: load(encode(samples)) - x

    def colours(data: bytes, out: Tensor) -> np.ndarray:
        stream = codec.open(data)
        return stream.render(stream.latents() + out).samples

    return Route(f"{MODEL} latents", encode, load, target, colours)


def _ycc(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return luma and both colour differences of BT.601, in 8-bit levels."""
    rgb = samples.astype(np.float64)
    luma = rgb @ _LUMA
    return luma, (rgb[..., 2] - luma) / 1.772, (rgb[..., 0] - luma) / 1.402


def _rgb(luma: np.ndarray, blue: np.ndarray, red: np.ndarray) -> np.ndarray:
    r, b = luma + 1.402 * red, luma + 1.772 * blue
    g = (luma - _LUMA[0] * r - _LUMA[2] * b) / _LUMA[1]
    return np.stack([r, g, b], -1).round().clip(0, 255).astype(np.uint8)


def _gray(samples: np.ndarray) -> np.ndarray:
    return np.repeat((samples @ _LUMA).round().astype(np.uint8)[..., None], 3, -1)


def _png(samples: np.ndarray) -> bytes:
    return _saved(PIL.Image.fromarray(samples[..., 0]), "PNG", {})


def _png_half(samples: np.ndarray) -> bytes:
    picture = PIL.Image.fromarray(samples[..., 0])
    return _saved(picture.resize([n // 2 for n in picture.size], PIL.Image.Resampling.BOX), "PNG", {})


def _jpeg(quality: int, samples: np.ndarray) -> bytes:
    options = {"quality": quality, "optimize": True, "progressive": True}
    return _saved(PIL.Image.fromarray(samples[..., 0]), "JPEG", options)


def _saved(picture: PIL.Image.Image, format: str, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def _luma(data: bytes, block: int = _BLOCK) -> Tensor:
    """Return luma in blocks, [block**2, h, w], of about unit variance."""
    with PIL.Image.open(io.BytesIO(data)) as picture:
        x = torch.from_numpy(np.array(picture.convert("L"))).float()
    return F.pixel_unshuffle((x[None, None] - 128) / 64, block)[0]


def _chroma(samples: np.ndarray, x: Tensor, block: int = _BLOCK) -> Tensor:
    """Return both colour differences in blocks, [2 * block**2, h, w], of about unit variance."""
    planes = torch.from_numpy(np.stack(_ycc(samples)[1:])).float() / 16
    size = [n * block for n in x.shape[1:]]
    return F.pixel_unshuffle(F.adaptive_avg_pool2d(planes[None], size), block)[0]


def _coloured(data: bytes, out: Tensor) -> np.ndarray:
    """Return samples whose chroma is what a network gave, on flat luma so that no colour leaves the range of RGB."""
    block = round((len(out) / 2) ** 0.5)
    planes = F.pixel_shuffle(out[None], block) * 16
    size = [n * _BLOCK for n in out.shape[1:]]
    blue, red = F.interpolate(planes, size, mode="bilinear", align_corners=False)[0].double().numpy()
    return _rgb(np.full(size, 128.0), blue, red)
