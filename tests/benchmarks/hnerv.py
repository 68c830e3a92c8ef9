"""What each part of hnerv brings, at equal steps: `python tests/benchmarks/hnerv.py CLIP [--epochs 60] [--frames 60]`.

Rows: the published way (a plain decoder of 3x3 convolutions trained for pixels alone, then 8 bits a weight and an
embedding between smallest and largest value of each tensor, counted by the entropy of the 8-bit symbols and 32 bits
for each range), the same with embeddings of half the channels, rate-aware fits of the plain decoder and of it with
separable residual blocks, the default decoder fitted both ways, and with each of the options. Rates of the naive rows
are lower bounds, those of the others payload bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import codec
from codec import checkpoint
from codec.engine import units
from codec.media.video import VideoFormat
from codec.models import hnerv
from codec.models.layers import frame_embeddings
from codec.models.layers.frame_decoder import FrameDecoder, Shape
from codec.models.layers.overfit import Fit, Plan
from codec.params import video_params

_RANGE_BITS = 32  # two float16 for each tensor's range
_LEVELS = 255


class Naive(Fit):
    """A fit for pixels alone, rounded to 8 bits afterwards."""

    def _loss(self, index: Tensor, share: float | None) -> Tensor:
        step, _ = self.weights.log2()
        tensors = self.weights.tensors(self.weights.in_steps(step), step)
        e, before = (self.embeddings.dequantized(self.embeddings.in_steps(index - i)) for i in range(2))
        return ((self._decode(tensors, e, before, index) - self._frames[index]) * 255).square().mean()

    @torch.no_grad()
    def measure(self) -> tuple[float, float, float]:
        step, _ = self.weights.log2()
        bits, tensors = 0.0, {}
        for name, tensor in self.weights.tensors(self.weights.in_steps(step), step).items():
            tensors[name], cost = eight_bits(tensor)
            bits += cost
        embeddings, cost = eight_bits(self.embeddings.values)
        bits, errors = bits + cost, []
        for index in torch.arange(len(self._frames)).split(8):
            e, before = (embeddings[(index - i).clamp_min(0)] * (index >= i)[:, None, None, None] for i in range(2))
            pixels = self._decode(tensors, e, before, index).clamp(-0.5, 0.5)
            errors.append(((pixels - self._frames[index]) * 255).square().mean((1, 2, 3)))
        error = torch.cat(errors)
        return bits, float((10 * torch.log10(255**2 / error)).mean()), float(error.mean())


def eight_bits(tensor: Tensor) -> tuple[Tensor, float]:
    """Return a tensor rounded to 8 bits between its ends, and the entropy of its symbols with the range, in bits."""
    low, high = tensor.min(), tensor.max()
    step = ((high - low) / _LEVELS).clamp_min(1e-12)
    symbols = torch.round((tensor - low) / step)
    counts = torch.unique(symbols, return_counts=True)[1].double()
    return symbols * step + low, float((counts * torch.log2(symbols.numel() / counts)).sum()) + _RANGE_BITS


def fit(kind: type[Fit], frames: np.ndarray, shape: Shape, plan: Plan) -> dict[str, float]:
    """Return bits per pixel and PSNR in dB of a fit; of a rate-aware one from the bytes of its payload."""
    count, height, width, _ = frames.shape
    x = hnerv.signal_of(frames)
    torch.manual_seed(0)
    start = frame_embeddings.principal(x, shape.grid(height, width), shape.channels)
    system = checkpoint.load(checkpoint.find_model("hnerv"), "cpu")
    fitted = kind(FrameDecoder(shape), x, start, plan, system.shape)
    fitted.run(lambda fraction: None, lambda text: print(f"  {text}", file=sys.stderr), None)
    if kind is Naive:
        bits, psnr, _ = fitted.measure()
        return {"bpp": bits / (count * height * width), "psnr": psnr}
    symbols = fitted.symbols()
    form = VideoFormat(width, height, Fraction(25), "rgb24")
    params = video_params(form, 0, count, hnerv.numbers_of(shape)) | {"length": count, "frames": count, "first": True}
    unit = units.encode_unit(system, system.units(params)[0], {n: v[None].double() for n, v in symbols.items()})
    pictures = np.stack(list(system.synthesize_group(symbols, params, None)))
    errors = (pictures.astype(np.float32) - frames).__pow__(2).mean((1, 2, 3))
    psnr = float(np.mean(10 * np.log10(255**2 / errors)))
    return {"bpp": 8 * len(unit.payload) / (count * height * width), "psnr": psnr}


def plain(side: int, pixels: int, quality: float, options: frozenset[str]) -> Shape:
    """Return the decoder of the published way for a clip: embeddings of 8 channels, 5.5 positions high or wide.

    Its weights are 0.15 to 2.2 for each pixel to the power of three quarters, by quality, those of residual blocks
    counted even where there are none.
    """
    stages = max(round(np.log2(side / 22)), 1)
    target = pixels**0.75 * 0.15 * (2.2 / 0.15) ** quality
    widths = range(8, 129, 4)
    count = lambda width: hnerv.count(Shape(8, width, int(stages), frozenset({"separable"})))
    return Shape(8, min(widths, key=lambda width: abs(np.log(count(width) / target))), int(stages), options)


def shapes(side: int, pixels: int, quality: float) -> list[tuple[str, type[Fit], Shape]]:
    """Return the rows: names, ways of fitting, decoders."""
    own = hnerv.choose(side, pixels, quality)
    old = [plain(side, pixels, quality, frozenset(options)) for options in ((), ("separable",))]
    rows = [("naive 8 bits", Naive, old[0]), ("naive 8 bits, 4 channels", Naive, replace(old[0], channels=4))]
    rows += [("rate-aware", Fit, old[0]), ("rate-aware + separable", Fit, old[1])]
    rows += [("default, naive 8 bits", Naive, own), ("default", Fit, own)]
    more = [name for name in hnerv.OPTIONS if name not in own.options | {"separable"}]  # those blocks are there
    return rows + [(f"default + {name}", Fit, replace(own, options=own.options | {name})) for name in more]


def main() -> None:
    """Print one JSON object a fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--frames", type=int, default=None)
    parser.add_argument("--rows", nargs="+", default=None, help="some of them")
    parser.add_argument("--qualities", type=float, nargs="+", default=[20, 40, 60])
    chosen = parser.parse_args()
    from codec.media.video_pixels import to_rgb

    clip = codec.read(chosen.clip)
    frames = to_rgb(clip.frames[: chosen.frames].planes, clip.format)
    pixels = frames[..., 0].size
    for quality in chosen.qualities:
        for name, kind, shape in shapes(min(frames.shape[1:3]), pixels, quality / 100):
            if chosen.rows is None or name in chosen.rows:
                result = fit(kind, frames, shape, Plan(chosen.epochs, hnerv.weight_of(quality / 100)))
                facts = {"row": name, "quality": quality} | {k: round(v, 4) for k, v in result.items()}
                print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
