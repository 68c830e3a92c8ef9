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

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.models.layers import wavelet
from codec.models.layers.klt import become_klt
from codec.models.layers.precision import fast_dtype
from codec.models.layers.quality import ANCHORS, interpolate
from codec.models.layers.quincunx import QuincunxPrior
from codec.models.layers.transform_codec import TransformCodec

BANDS = 3 * wavelet.BLOCK**2
_PACKETS_HALO = wavelet.HALO // wavelet.BLOCK  # latents: the packets' reach


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


class Walloc(TransformCodec):
    """The walloc system for images. Symbols: `y` [h, w, C] with h, w the size in blocks of 8."""

    id = "walloc"
    version = 1
    # The linear paths start at their optimum; Adam's noise in them would cost more than they can still learn.
    rates = TransformCodec.rates | {"compand.": 2.0, "g_a.": 0.1, "g_s.skip.": 0.1}
    block = wavelet.BLOCK

    def __init__(self, config: Config) -> None:
        super().__init__(config.latents, config.lambda_range)
        self.config = config
        self.g_a = nn.Conv2d(BANDS, config.latents, 3, padding=1, padding_mode="replicate")
        self.compand = Compander(config.latents)
        self.g_s = Decoder(config)
        self.prior = QuincunxPrior(config.latents, config.groups, config.hidden)
        self.halo_a = _PACKETS_HALO + 1
        self.halo_s = _PACKETS_HALO + self.g_s.reach

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Walloc:
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
        return cls(Config(**values)).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def initialize(self, batches: Iterable[Tensor]) -> None:
        """Start as a transform codec: g_a is the KLT of packet coefficients, whitened, g_s its inverse."""
        bands = (wavelet.analysis(x).permute(0, 2, 3, 1).reshape(-1, BANDS) for x in batches)
        self.initial_gains(become_klt(self.g_a, self.g_s.skip, bands))

    def latents_of(self, x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.compand(self.g_a(wavelet.analysis(x)))

    def expand(self, latents: Tensor) -> Tensor:
        return self.compand.expand(latents)

    def contract(self, latents: Tensor) -> Tensor:
        return self.compand(latents)

    def signal_of(self, latents: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            latents = self.compand.expand(latents)
        bands = self.g_s(latents, t)
        with torch.autocast(latents.device.type, enabled=False):
            return wavelet.synthesis(bands.float())

    def freeze(self, device: str) -> None:
        super().freeze(device)
        dtype = fast_dtype(device)
        for part in (self.g_s.head, self.g_s.body, self.g_s.tail):
            part.to(dtype)
