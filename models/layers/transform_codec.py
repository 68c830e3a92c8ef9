"""What systems of the family analysis - quantization - prior - synthesis share, for images.

    x --[ g_a ]--> latents --[ x gain(q), round ]--> y --[ code: prior ]--> bits
                                                     |
    x_hat <--[ g_s ]-- latents <--[ / gain(q) ]------'

A subclass provides the transforms (`latents_of`, `image_of`) and the prior (`code`); tiles, units, gains that follow
the quality, the training loss and the refinement of latents for one file are here.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from codec.coding.coder import RateMeter
from codec.coding.distributions import ScaleMixture
from codec.coding.exact import ACTIVATION_BITS, EXP2_BITS, WEIGHT_BITS, exp2, fix
from codec.media.image import Image
from codec.models.layers.quality import ANCHORS, interpolate
from codec.models.layers.refine import refine
from codec.models.layers.tiles import blank, grow, paste, pixels, scaled, tiles
from codec.params import QUALITY_STEPS, image_params, quality_index
from codec.system import Params, Progress, Symbols, System, UnitSpec

UNIT_PIXELS = 1024  # side of a unit: part of the bitstream
TILE_PIXELS = 1024  # side of a tile of the transforms: bounds memory, changes no file
_TRADE_SPAN = 0.04  # of the quality scale: where `_refine` looks what bits are worth
_LIMIT = 1 << 20  # symbols saturate here; only extreme gains come near


class TransformCodec(System):
    """Base of image systems that quantize the output of a transform. Symbols: `y` [h, w, C], and what `side` adds.

    Class attributes:
        block: pixels a side of one latent position.

    Instance attributes a subclass sets:
        latents: channels C.
        lambda_range: weight of the squared error (in 8-bit levels) against bits per pixel, at quality 0 and 100.
        halo_a, halo_s: reach of analysis and synthesis, in latent positions.
    """

    media = "image"
    rates: ClassVar[dict[str, float]] = {"log2_gain": 8.0, "prior.": 2.0, "shape.": 2.0}
    block: ClassVar[int]
    halo_a: int
    halo_s: int

    def __init__(self, latents: int, lambda_range: tuple[float, float]) -> None:
        super().__init__()
        self.latents = latents
        self.lambda_range = lambda_range
        self.log2_gain = nn.Parameter(torch.zeros(ANCHORS, latents))
        self.shape = ScaleMixture()
        self._twin: tuple[Self] | None = None

    # --- what a subclass provides --------------------------------------------------------------------------

    @abstractmethod
    def latents_of(self, x: Tensor, t: Tensor) -> Tensor:
        """Map images [B, 3, H, W] in -0.5..0.5 at quality t [B] to latents [B, C, h, w], near unit variance."""

    @abstractmethod
    def image_of(self, latents: Tensor, t: Tensor) -> Tensor:
        """Map latents [B, C, h, w] back to images [B, 3, H, W]."""

    def expand(self, latents: Tensor) -> Tensor:
        """Undo what makes latents suit quantization: what learning sees. Here nothing."""
        return latents

    def side(self, y: Tensor, t: Tensor) -> Symbols:
        """Return further symbols, derived from y in steps [B, C, h, w], unrounded: [B, h', w', C']. Here none."""
        return {}

    def side_shapes(self, rows: int, cols: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of what `side` adds for a grid of y."""
        return {}

    @abstractmethod
    def exact_parts(self) -> dict[str, nn.Module]:
        """Return the modules that decide bits, by attribute name; built of `ExactLinear` layers."""

    # --- quality -------------------------------------------------------------------------------------------

    def lambda_of(self, t: Tensor | float) -> Tensor | float:
        """Return the weight of distortion at quality t in 0..1."""
        low, high = self.lambda_range
        return low * (high / low) ** t

    def initial_gains(self, deviation: Tensor) -> None:
        """Set the gains for latents that are coefficients of an orthonormal transform divided by `deviation` [C].

        Uniform quantization with step d costs d**2 / 12 a coefficient; d**2 = 26 / lambda balances the derivative of
        lambda * mse(RGB) and of bits per pixel.
        """
        with torch.no_grad():
            for i in range(ANCHORS):
                step = math.sqrt(26 / self.lambda_of(i / (ANCHORS - 1)))
                self.log2_gain[i] = torch.log2(255 * deviation / step).float()

    def gain(self, t: Tensor) -> Tensor:
        """Return log2 of the gain of each channel, [B, C], for quality t [B] in 0..1; dyadic in float64."""
        return fix(interpolate(self.log2_gain, t.to(self.log2_gain.device)), EXP2_BITS)

    def _t(self, params: Params) -> Tensor:
        return torch.tensor([params["quality"] / QUALITY_STEPS], dtype=self.log2_gain.dtype)

    def _dequantize(self, y: Tensor, t: Tensor) -> Tensor:
        """Return latents [B, C, h, w] in float32 of symbols [B, h, w, C]."""
        return (y.float() * torch.exp2(-self.gain(t).float())[:, None, None]).permute(0, 3, 1, 2)

    # --- training ------------------------------------------------------------------------------------------

    def loss(self, batch: Tensor, t: Tensor | None = None) -> dict[str, Tensor]:
        """Rate + lambda * distortion for images [B, 3, H, W] in -0.5..0.5 at random (or given) qualities t [B].

        Each sample is divided by lambda**0.45, about its rate, so that all qualities count alike.
        """
        t = torch.rand(len(batch), device=batch.device) if t is None else t
        with torch.autocast(batch.device.type, torch.bfloat16):
            latents = self.latents_of(batch, t).float()
        y = latents * exp2(self.gain(t))[:, :, None, None]
        y_hat = fix(y, 0)
        meter = RateMeter(self.shape, noise=True)
        symbols = {"y": y.permute(0, 2, 3, 1)} | self.side(y_hat, t)
        self.code(meter, {"grid": (len(y), *y.shape[2:]), "t": t}, symbols)
        with torch.autocast(batch.device.type, torch.bfloat16):
            x_hat = self.image_of(self._dequantize(y_hat.permute(0, 2, 3, 1), t), t)
        error = ((x_hat.float() - batch) * 255).pow(2).mean((1, 2, 3))
        bpp = meter.bits / (batch.shape[-1] * batch.shape[-2])
        weight = self.lambda_of(t)
        return {
            "loss": (weight**-0.45 * (bpp + weight * error)).mean(),
            "bpp": bpp.mean().detach(),
            "mse": error.mean().detach(),
        }

    # --- files ---------------------------------------------------------------------------------------------

    def shapes(self, params: Params) -> dict[str, tuple[int, ...]]:
        rows, cols = (-(-params[side] // self.block) for side in ("height", "width"))
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

    def _latents(self, samples: np.ndarray, r: slice, c: slice, t: Tensor) -> Tensor:
        """Return the latents [1, C, rows, cols] of some blocks of an image."""
        grid = tuple(-(-n // self.block) for n in samples.shape[:2])
        big_r, big_c, inner_r, inner_c = grow(grid, r, c, self.halo_a)
        x = pixels(samples, big_r, big_c, self.block).to(self._device)
        return self.latents_of(x, t.to(self._device)).float()[..., inner_r, inner_c].cpu()

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
            x_hat = twin.image_of(y / gain(t), t).float()
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
        y, t, out = symbols["y"], self._t(params).float(), blank(params)
        parts = list(tiles(*y.shape[:2], TILE_PIXELS // self.block))
        for i, (r, c) in enumerate(parts):
            big_r, big_c, inner_r, inner_c = grow(y.shape, r, c, self.halo_s)
            latents = self._dequantize(y[None, big_r, big_c], t).to(self._device)
            x = self.image_of(latents, t.to(self._device))
            paste(out, x[..., scaled(inner_r, self.block), scaled(inner_c, self.block)], r, c, self.block)
            progress((i + 1) / len(parts))
        return Image(out)

    @torch.no_grad()
    def embed(self, symbols: Symbols, params: Params) -> Tensor:
        """Return the dequantized latents [C, h, w], near unit variance."""
        latents = self._dequantize(symbols["y"][None], self._t(params).float()).to(self._device)
        return self.expand(latents)[0].cpu()

    def fixed_point(self) -> dict[str, int]:
        names = {
            f"{name}.{parameter}": WEIGHT_BITS if parameter.endswith("weight") else ACTIVATION_BITS
            for name, part in self.exact_parts().items()
            for parameter, _ in part.named_parameters()
        }
        return names | {"log2_gain": EXP2_BITS}

    @property
    def _device(self) -> torch.device:
        """Where the transforms run."""
        return next(self.g_a.parameters()).device

    def _differentiable(self) -> Self:
        """Return a copy whose prior runs in float32 and passes gradients; made on first use."""
        if self._twin is None:
            twin = copy.deepcopy(self).cpu()  # the prior's many small steps do not pay on a GPU
            for part in twin.exact_parts().values():
                part.float()
            twin.log2_gain.data = twin.log2_gain.data.float()
            self._twin = (twin,)  # in a tuple, so that it is not registered as a submodule
        return self._twin[0]

    def freeze(self, device: str) -> None:
        self.requires_grad_(False).eval().to(device)
        self.log2_gain.data = fix(self.log2_gain.data.double().cpu(), EXP2_BITS)
        self.shape.cpu()
        for part in self.exact_parts().values():
            part.cpu()
            for module in part.modules():
                if hasattr(module, "freeze"):
                    module.freeze()
            part.double()
