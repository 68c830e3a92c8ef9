"""What image systems of the family analysis - quantization - prior - synthesis share: tiles, units, refinement.

A subclass provides the transforms (`latents_of`, `signal_of`) and the prior (`code`); see `models.layers.gained`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from codec.coding.coder import RateMeter
from codec.coding.exact import fix
from codec.media.image import Image
from codec.models.layers.gained import GainedCodec
from codec.models.layers.refine import refine
from codec.models.layers.tiled import TILE_PIXELS, Tiled
from codec.models.layers.tiles import pixels, tiles
from codec.params import image_params, quality_index
from codec.system import Params, Progress, Symbols, UnitSpec, no_progress

UNIT_PIXELS = 1024  # side of a unit: part of the bitstream
_TRADE_SPAN = 0.04  # of the quality scale: where `_refine` looks what bits are worth
_LIMIT = 1 << 20  # symbols saturate here; only extreme gains come near


class TransformCodec(Tiled, GainedCodec):
    """Base of image systems that quantize the output of a transform. Symbols: `y` [h, w, C], and what `side` adds.

    Signals are images [B, 3, H, W] in -0.5..0.5; distortion is counted in 8-bit levels, rate in bits per pixel.

    What a subclass sets beside is said at `Tiled`.
    """

    media = "image"
    channels = 3
    levels = peak = 255.0
    rate_name = "bpp"

    def rate_of(self, bits: Tensor, batch: Tensor) -> Tensor:
        return bits / (batch.shape[-1] * batch.shape[-2])

    def side_shapes(self, rows: int, cols: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of what `side` adds for a grid of y."""
        return {}

    # --- files ---------------------------------------------------------------------------------------------

    def shapes(self, params: Params) -> dict[str, tuple[int, ...]]:
        rows, cols = self._grid(params)
        return {"y": (rows, cols, self.latents)} | self.side_shapes(rows, cols)

    def units(self, params: Params) -> list[UnitSpec]:
        rows, cols, _ = self.shapes(params)["y"]
        every = slice(None)
        return [
            UnitSpec(
                params | {"grid": (1, r.stop - r.start, c.stop - c.start)},
                {"y": (r, c, every)} | {name: (*part, every) for name, part in self.side_regions(r, c).items()},
            )
            for r, c in tiles(rows, cols, UNIT_PIXELS // self.block)
        ]

    def side_regions(self, r: slice, c: slice) -> dict[str, tuple[slice, slice]]:
        """Return which part of the side symbols belongs to some rows and columns of y (a whole unit)."""
        return {}

    @torch.no_grad()
    def analyze(self, signal: Image, *, quality: float, effort: int, progress: Progress) -> tuple[Symbols, Params]:
        params = image_params(signal.samples, quality_index(quality))
        t = self._t(params).float()
        grid = self.shapes(params)["y"]
        symbols = {name: torch.empty(shape, dtype=torch.int32) for name, shape in self.shapes(params).items()}
        parts = list(tiles(*grid[:2], TILE_PIXELS // self.block))
        for i, (r, c) in enumerate(parts):
            y = self._latents(signal.samples, r, c, t) * torch.exp2(self.gain(t).float())[..., None, None].cpu()
            if effort > 1:
                part = lambda f, i=i: progress((i + f) / len(parts))
                y = self._refine(pixels(signal.samples, r, c, self.block), y, t, effort, part)
            symbols["y"][r, c] = fix(y, 0).clamp(-_LIMIT, _LIMIT)[0].permute(1, 2, 0).int()
            progress((i + 1) / len(parts))
        for r, c in tiles(*grid[:2], UNIT_PIXELS // self.block):
            y = symbols["y"][r, c].permute(2, 0, 1)[None].float()
            for name, values in self.side(y.to(self._device), t.to(self._device)).items():
                symbols[name][self.side_regions(r, c)[name]] = fix(values, 0)[0].int()
        return symbols, params

    def _refine(self, target: Tensor, y: Tensor, t: Tensor, effort: int, progress: Progress) -> Tensor:
        """Return latents of one tile, in steps, that cost less than rounding y; see `models.layers.refine`.

        Bits are traded for squared error at the rate at which plain rounding trades them around this quality for this
        very tile. With the lambda of training instead, refined files would drift along the curve, not below it.

        Args:
            target: [1, 3, H, W], y: latents in steps [1, C, h, w], t: quality [1] in 0..1.
        """
        twin = self._differentiable()
        gain = lambda t: torch.exp2(twin.gain(t))[:, :, None, None]

        def measure(y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            """Return bits and squared error of latents in quantization steps."""
            meter = RateMeter(twin.shape, noise=False)
            with torch.no_grad():
                side = {name: fix(values, 0) for name, values in twin.side(fix(y, 0), t).items()}
            symbols = {"y": y.permute(0, 2, 3, 1)} | side
            twin.code(meter, {"grid": (1, *y.shape[2:]), "t": t}, symbols)
            x_hat = twin.signal_of(y / gain(t), t).float()
            return meter.bits.sum(), (x_hat - target).square().sum()

        ends = [(t + shift).clamp(0, 1) for shift in (-_TRADE_SPAN, _TRADE_SPAN)]
        v = y / gain(t)
        (low_bits, high_error), (high_bits, low_error) = (measure(fix(v * gain(end), 0), end) for end in ends)
        weight = self.lambda_of(t) * 255**2 / 3  # bits for a unit of squared error, as in training
        if high_bits > low_bits and high_error > low_error:
            weight = (high_bits - low_bits) / (high_error - low_error)

        def cost(y: Tensor) -> Tensor:
            bits, error = measure(y, t)
            return bits + weight * error

        return refine(cost, y, effort, progress)

    @torch.no_grad()
    def synthesize(self, symbols: Symbols, params: Params, *, progress: Progress) -> Image:
        y, t = symbols["y"], self._t(params).float()
        return self._picture(lambda r, c: self._dequantize(y[None, r, c], t), y.shape[:2], params, progress)

    @torch.no_grad()
    def render(self, latents: Tensor, params: Params) -> Image:
        rows, cols, channels = self.shapes(params)["y"]
        if latents.shape != (channels, rows, cols):
            raise ValueError(
                f"{latents.shape = } instead of {(channels, rows, cols)}, what `embed` returns for this file"
            )
        latents = self.contract(latents[None].to(self._device))
        return self._picture(lambda r, c: latents[..., r, c], (rows, cols), params, no_progress)
