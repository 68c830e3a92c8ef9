"""WaLLoC for images, with a learned prior: wavelet packets, one linear map, a small decoder.

After "Learned Compression for Compressed Learning" (Jacobellis & Yadwadkar, DCC 2025, arXiv 2412.09405). The
encoder is linear, so it runs at tens of megapixels a second and its latents are a uniform 16x (12 latents) or
4x (48) smaller signal to learn from. New here: a prior that turns latents into few bits, a rate term that makes
one network serve all qualities, and a decoder of 30 kMAC a pixel instead of about 900.

    x --[ packets 8x8 ]--> 192 --[ g_a: linear 3x3 ]--> C --[ compand ]--[ x gain(q), round ]--> y
                                                                                                 |
    y --[ quincunx prior: location, scale from coded neighbours ]--> bits                        |
                                                                                                 v
    x_hat <--[ inverse packets ]-- 192 <--(+)<--[ linear 3x3 ]--------+--[ / gain(q), expand ]-- y
                                           ^                          |
                                           `--[ 1x1 ]--[ blocks ]--[ 3x3, FiLM(q) ]
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.coding.coder import Coder, RateMeter
from codec.coding.distributions import ScaleMixture
from codec.coding.exact import ACTIVATION_BITS, ACTIVATION_MAX, EXP2_BITS, exp2, fix
from codec.media.image import Image
from codec.models.layers import wavelet
from codec.models.layers.precision import fast_dtype
from codec.models.layers.quality import ANCHORS, interpolate
from codec.models.layers.quincunx import QuincunxPrior
from codec.models.layers.refine import refine
from codec.params import KINDS, QUALITY_STEPS, quality_index
from codec.system import Params, Progress, Symbols, System, UnitSpec

BANDS = 3 * wavelet.BLOCK**2
UNIT = 128  # side of a unit in latents: 1024 pixels
TILE = 128  # side of a tile of synthesis in latents
_ANALYSIS_HALO = wavelet.HALO // wavelet.BLOCK + 1  # latents: the packets' reach and the 3x3 map
_TRADE_SPAN = 0.04  # of the quality scale: where `_refine` looks what bits are worth
_LIMIT = 1 << 20  # symbols saturate here; only extreme gains come near


@dataclass(frozen=True)
class Config:
    """Shape of a walloc network.

    Attributes:
        latents: channels C a block of 8x8 pixels.
        width, blocks: channels and residual blocks of the decoder.
        groups: channel groups of the prior, in coding order.
        hidden: width of the prior's networks.
        lambda_range: weight of the squared error (in 8-bit levels) against bits per pixel, at quality 0 and 100.
    """

    latents: int
    width: int
    blocks: int
    groups: tuple[int, ...]
    hidden: int
    lambda_range: tuple[float, float]


class Compander(nn.Module):
    """Per-channel power law `sign(y) ((1 + |y|)**p - 1) / p` with learned p in (0.25, 1), and its inverse."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.full((channels,), 2.0))

    def _p(self) -> Tensor:
        return (0.25 + 0.75 * torch.sigmoid(self.power.float()))[:, None, None]

    def forward(self, y: Tensor) -> Tensor:
        p = self._p()
        return torch.sign(y) * ((1 + y.abs()) ** p - 1) / p

    def expand(self, v: Tensor) -> Tensor:
        p = self._p()
        return torch.sign(v) * ((1 + p * v.abs()) ** (1 / p) - 1)


class Block(nn.Module):
    """Residual block whose strength depends on quality."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(width, width, 3, padding=1)
        self.b = nn.Conv2d(width, width, 3, padding=1)
        self.gain = nn.Parameter(torch.full((ANCHORS, width), 0.2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        gain = interpolate(self.gain.float(), t)[..., None, None].to(x.dtype)
        return x + self.b(F.leaky_relu(self.a(x), 0.1)) * gain


class Decoder(nn.Module):
    """Expanded latents [B, C, h, w] and quality [B] to packet coefficients [B, 192, h, w]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.skip = nn.Conv2d(config.latents, BANDS, 3, padding=1, padding_mode="replicate")
        self.head = nn.Conv2d(config.latents, config.width, 3, padding=1, padding_mode="replicate")
        self.film = nn.Parameter(torch.zeros(ANCHORS, 2 * config.width))
        self.body = nn.ModuleList(Block(config.width) for _ in range(config.blocks))
        self.tail = nn.Conv2d(config.width, BANDS, 1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)
        self.reach = 2 * config.blocks + 1  # latents

    def forward(self, y: Tensor, t: Tensor) -> Tensor:
        dtype = self.tail.weight.dtype
        scale, shift = interpolate(self.film.float(), t)[..., None, None].chunk(2, 1)
        x = self.head(y.to(dtype, memory_format=torch.channels_last))
        x = F.leaky_relu(x * (1 + scale).to(x.dtype) + shift.to(x.dtype), 0.1)
        for block in self.body:
            x = block(x, t)
        detail = self.tail(x).float()
        with torch.autocast(y.device.type, enabled=False):
            return self.skip(y) + detail


class Walloc(System):
    """The walloc system for images. Symbols: `y` [h, w, C] with h, w the size in blocks of 8."""

    id = "walloc"
    version = 1
    media = "image"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.g_a = nn.Conv2d(BANDS, config.latents, 3, padding=1, padding_mode="replicate")
        self.compand = Compander(config.latents)
        self.log2_gain = nn.Parameter(torch.zeros(ANCHORS, config.latents))
        self.g_s = Decoder(config)
        self.prior = QuincunxPrior(config.latents, config.groups, config.hidden)
        self.shape = ScaleMixture()
        self._twin: tuple[Walloc] | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Walloc:
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
        return cls(Config(**values)).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def initialize(self, mean: Tensor, covariance: Tensor) -> None:
        """Start as a transform codec: g_a is the PCA of packet coefficients, whitened, g_s its inverse.

        Args:
            mean: [192], covariance: [192, 192] of the coefficients of training images, float64.
        """
        values, vectors = torch.linalg.eigh(covariance)
        deviation = values.flip(0)[: self.config.latents].sqrt()
        basis = vectors.flip(1)[:, : self.config.latents]
        for conv, weight, bias in (
            (self.g_a, (basis / deviation).T, -((basis / deviation).T @ mean)),
            (self.g_s.skip, basis * deviation, mean),
        ):
            conv.weight.zero_()
            conv.weight[:, :, 1, 1] = weight.float()
            conv.bias.copy_(bias.float())
        for i in range(ANCHORS):
            # Uniform quantization with step d costs d**2 / 12 a coefficient; d**2 = 26 / lambda balances the
            # derivative of lambda * mse(RGB) and of bits per pixel.
            step = math.sqrt(26 / self.lambda_of(i / (ANCHORS - 1)))
            self.log2_gain[i] = torch.log2(255 * deviation / step).float()

    def lambda_of(self, t: Any) -> Any:
        """Return the weight of distortion at quality t in 0..1 (number or tensor)."""
        low, high = self.config.lambda_range
        return low * (high / low) ** t

    # --- latents <-> symbols -------------------------------------------------------------------------------

    def _gain(self, t: Tensor) -> Tensor:
        """Return log2 of the gain of each channel, [B, C], for quality t [B] in 0..1; dyadic in float64."""
        return fix(interpolate(self.log2_gain, t), EXP2_BITS)

    def _t(self, params: Params) -> Tensor:
        return torch.tensor([params["quality"] / QUALITY_STEPS], dtype=self.log2_gain.dtype)

    def code(self, coder: Coder, params: Params, symbols: Symbols | None) -> Symbols:
        y = None if symbols is None else symbols["y"]
        batch, height, width = params["grid"]
        t = params["t"] if "t" in params else self._t(params)
        log2_gain = self._gain(t)[:, None]
        gain, step = exp2(log2_gain), exp2(-log2_gain)
        out = torch.empty(batch, height, width, self.config.latents, dtype=t.dtype) if y is None else y

        def visit(lattices, channels, location, log2_scale):
            given = None if y is None else torch.cat([at.read(y[..., channels]) for at in lattices], 1)
            values = coder(given, location * gain[..., channels], log2_scale + log2_gain[..., channels])
            if y is None:
                for at, part in zip(lattices, values.split([at.count(out) for at in lattices], 1), strict=True):
                    at.write(out[..., channels], part)
            return fix(values * step[..., channels], ACTIVATION_BITS).clamp(-ACTIVATION_MAX, ACTIVATION_MAX)

        self.prior.code(visit, batch, height, width, (t * 2 - 1)[:, None])
        return {"y": out}

    def _dequantize(self, y: Tensor, t: Tensor) -> Tensor:
        """Return expanded latents [B, C, h, w] in float32 of symbols [B, h, w, C]."""
        step = torch.exp2(-self._gain(t).float())[:, None, None]
        v = (y.float() * step).permute(0, 3, 1, 2)
        return self.compand.expand(v.to(self.compand.power.device))

    # --- training ------------------------------------------------------------------------------------------

    def loss(self, batch: Tensor, t: Tensor | None = None) -> dict[str, Tensor]:
        """Rate + lambda * distortion for images [B, 3, H, W] in -0.5..0.5 at random (or given) qualities t [B].

        Each sample is divided by lambda**0.45, about its rate, so that all qualities count alike.
        """
        t = torch.rand(len(batch)) if t is None else t
        v = self.compand(self.g_a(wavelet.analysis(batch))).permute(0, 2, 3, 1)
        y = v * exp2(self._gain(t))[:, None, None]
        meter = RateMeter(self.shape, noise=True)
        self.code(meter, {"grid": y.shape[:3], "t": t}, {"y": y})
        y_hat = fix(y, 0)
        with torch.autocast(batch.device.type, torch.bfloat16):
            bands = self.g_s(self._dequantize(y_hat, t), t)
        error = ((wavelet.synthesis(bands.float()) - batch) * 255).pow(2).mean((1, 2, 3))
        bpp = meter.bits / (batch.shape[-1] * batch.shape[-2])
        weight = self.lambda_of(t)
        return {
            "loss": (weight**-0.45 * (bpp + weight * error)).mean(),
            "bpp": bpp.mean().detach(),
            "mse": error.mean().detach(),
        }

    # --- files ---------------------------------------------------------------------------------------------

    def shapes(self, params: Params) -> dict[str, tuple[int, ...]]:
        rows, cols = (-(-params[side] // wavelet.BLOCK) for side in ("height", "width"))
        return {"y": (rows, cols, self.config.latents)}

    def units(self, params: Params) -> list[UnitSpec]:
        rows, cols, _ = self.shapes(params)["y"]
        return [
            UnitSpec(params | {"grid": (1, r.stop - r.start, c.stop - c.start)}, {"y": (r, c, slice(None))})
            for r, c in _tiles(rows, cols, UNIT)
        ]

    @torch.no_grad()
    def analyze(self, signal: Image, *, quality: float, effort: int, progress: Progress) -> tuple[Symbols, Params]:
        height, width, channels = signal.samples.shape
        deep = signal.samples.dtype == np.uint16
        params = {
            "quality": quality_index(quality),
            "kind": KINDS.index(self.media),
            "gray": int(channels == 1),
            "deep": int(deep),
            "width": width,
            "height": height,
        }
        gain = torch.exp2(self._gain(self._t(params)).float())[0, :, None, None]
        rows, cols, latents = self.shapes(params)["y"]
        y = torch.empty(rows, cols, latents, dtype=torch.int32)
        tiles = list(_tiles(rows, cols, TILE))
        for i, (r, c) in enumerate(tiles):
            v = self._latents(signal.samples, r, c)
            y_tile = v * gain
            if effort > 1:
                part = lambda f, i=i: progress((i + f) / len(tiles))
                y_tile = self._refine(_pixels(signal.samples, r, c), v, self._t(params).float(), effort, part)
            y[r, c] = fix(y_tile, 0).clamp(-_LIMIT, _LIMIT)[0].permute(1, 2, 0).int()
            progress((i + 1) / len(tiles))
        return {"y": y}, params

    def _latents(self, samples: np.ndarray, r: slice, c: slice) -> Tensor:
        """Return the companded latents [1, C, rows, cols] for some blocks of an image."""
        big_r, big_c, inner_r, inner_c = _grow(samples.shape, r, c, _ANALYSIS_HALO)
        x = _pixels(samples, big_r, big_c).to(self.g_a.weight.device)
        return self.compand(self.g_a(wavelet.analysis(x)))[..., inner_r, inner_c].cpu()

    def _refine(self, target: Tensor, v: Tensor, t: Tensor, effort: int, progress: Progress) -> Tensor:
        """Return latents of one tile that cost less than rounding v * gain; see `models.layers.refine`.

        Bits are traded for squared error at the rate at which plain rounding trades them around this quality for this
        very tile. With the lambda of training instead, refined files would drift along the curve, not below it.

        Args:
            target: [1, 3, H, W], v: companded latents [1, C, H/8, W/8], t: quality [1] in 0..1.
        """
        twin = self._differentiable()

        def measure(y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            """Return bits and squared error of latents in quantization steps."""
            meter = RateMeter(twin.shape, noise=False)
            twin.code(meter, {"grid": (1, *y.shape[2:]), "t": t}, {"y": y.permute(0, 2, 3, 1)})
            step = torch.exp2(-twin._gain(t))[:, :, None, None]
            x_hat = wavelet.synthesis(twin.g_s(twin.compand.expand(y * step), t))
            return meter.bits.sum(), (x_hat - target).square().sum()

        gain = lambda t: torch.exp2(twin._gain(t))[:, :, None, None]
        ends = [(t + shift).clamp(0, 1) for shift in (-_TRADE_SPAN, _TRADE_SPAN)]
        (low_bits, high_error), (high_bits, low_error) = (measure(fix(v * gain(end), 0), end) for end in ends)
        weight = self.lambda_of(t) * 255**2 / 3  # bits for a unit of squared error, as in training
        if high_bits > low_bits and high_error > low_error:
            weight = (high_bits - low_bits) / (high_error - low_error)

        def cost(y: Tensor) -> Tensor:
            bits, error = measure(y, t)
            return bits + weight * error

        return refine(cost, v * gain(t), effort, progress)

    @torch.no_grad()
    def synthesize(self, symbols: Symbols, params: Params, *, progress: Progress) -> Image:
        y, t = symbols["y"], self._t(params).float()
        top = 65535 if params["deep"] else 255
        channels = 1 if params["gray"] else 3
        out = np.empty((params["height"], params["width"], channels), np.uint16 if params["deep"] else np.uint8)
        halo = self.g_s.reach + wavelet.HALO // wavelet.BLOCK
        tiles = list(_tiles(*y.shape[:2], TILE))
        for i, (r, c) in enumerate(tiles):
            big_r, big_c, inner_r, inner_c = _grow(out.shape, r, c, halo)
            y_hat = self._dequantize(y[None, big_r, big_c], t)
            x = wavelet.synthesis(self.g_s(y_hat, t.to(y_hat.device))).cpu()
            x = x[0, :, _scaled(inner_r), _scaled(inner_c)]
            if params["gray"]:
                x = x.mean(0, keepdim=True)
            x = x.add_(0.5).mul_(top).round_().clamp_(0, top).permute(1, 2, 0).numpy()
            view = out[_scaled(r), _scaled(c)]
            view[...] = x[: view.shape[0], : view.shape[1]]
            progress((i + 1) / len(tiles))
        return Image(out)

    @torch.no_grad()
    def embed(self, symbols: Symbols, params: Params) -> Tensor:
        """Return the dequantized latents [C, h, w], near unit variance: 192 / C times fewer than samples."""
        return self._dequantize(symbols["y"][None], self._t(params).float())[0].cpu()

    def fixed_point(self) -> dict[str, int]:
        names = {f"prior.{name}": bits for name, bits in self.prior.fixed_point().items()}
        return names | {"log2_gain": EXP2_BITS}

    def _differentiable(self) -> Walloc:
        """Return a copy whose prior runs in float32 and passes gradients; made on first use."""
        if self._twin is None:
            twin = copy.deepcopy(self).cpu()  # the prior's many small steps do not pay on a GPU
            twin.prior.float()
            twin.log2_gain.data = twin.log2_gain.data.float()
            self._twin = (twin,)  # in a tuple, so that it is not registered as a submodule
        return self._twin[0]

    def freeze(self, device: str) -> None:
        self.requires_grad_(False).eval()
        self.log2_gain.data = fix(self.log2_gain.data.double(), EXP2_BITS)
        for module in self.prior.modules():
            if hasattr(module, "freeze"):
                module.freeze()
        self.prior.double()
        for part in (self.g_a, self.compand, self.g_s):
            part.to(device)
        dtype = fast_dtype(device)
        for part in (self.g_s.head, self.g_s.body, self.g_s.tail):
            part.to(dtype)


def _tiles(rows: int, cols: int, side: int) -> Iterator[tuple[slice, slice]]:
    for r in range(0, rows, side):
        for c in range(0, cols, side):
            yield slice(r, min(r + side, rows)), slice(c, min(c + side, cols))


def _scaled(blocks: slice) -> slice:
    return slice(blocks.start * wavelet.BLOCK, blocks.stop * wavelet.BLOCK)


def _grow(shape: tuple[int, ...], r: slice, c: slice, halo: int) -> tuple[slice, slice, slice, slice]:
    """Return a block range with a halo, clipped to the image, and where the range itself lies inside it."""
    grown, inner = [], []
    for blocks, size in ((r, shape[0]), (c, shape[1])):
        start = max(blocks.start - halo, 0)
        grown.append(slice(start, min(blocks.stop + halo, -(-size // wavelet.BLOCK))))
        inner.append(slice(blocks.start - start, blocks.stop - start))
    return grown[0], grown[1], inner[0], inner[1]


def _pixels(samples: np.ndarray, r: slice, c: slice) -> Tensor:
    """Return some blocks of an image as [1, 3, H, W] in -0.5..0.5, reflected to whole blocks at its far edges."""
    part = samples[_scaled(r), _scaled(c)]
    missing = [(0, (b.stop - b.start) * wavelet.BLOCK - n) for b, n in zip((r, c), part.shape[:2], strict=True)]
    if any(n for _, n in missing):
        part = np.pad(part, [*missing, (0, 0)], mode="symmetric")
    x = torch.from_numpy(np.ascontiguousarray(part.transpose(2, 0, 1)).astype(np.float32))[None]
    x = x.div_(np.iinfo(samples.dtype).max).sub_(0.5)
    return x.expand(1, 3, -1, -1)
