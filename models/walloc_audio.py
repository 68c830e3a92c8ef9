"""Walloc for sound: a lapped transform, one linear map to latents, a learned prior, a small decoder.

    x, mid and side --[ MLT, hop 512 ]-- 1024 --[ g_a: linear, KLT ]--[ x gain(q), round ]--> y, one vector a hop
                                                                                              |
    y --[ prior on a line: coded frames around, quality -> location, scale ]--> bits          v
    x_hat <--[ inverse MLT ]-- 1024 --(+)--[ 1x1 | residual blocks over time | 1x1 ]--+--[ / gain(q) ]-- y
                                       `--[ linear, inverse KLT ]---------------------'

After Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning" (arXiv 2412.09405), with two differences
that pay: a modulated lapped transform instead of wavelet packets (`models.layers.lapped` says what it saves), and a
prior and gains that make one network serve all rates. The encoder is two matrix products a hop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.audio_system import AudioSystem
from codec.coding.coder import Coder
from codec.coding.exact import fix
from codec.media.audio import Audio
from codec.models.layers import lapped
from codec.models.layers.block import Block
from codec.models.layers.gained import GainedCodec
from codec.models.layers.klt import become_klt
from codec.models.layers.precision import fast_dtype
from codec.models.layers.quincunx import QuincunxPrior
from codec.params import DEPTHS, layout_of
from codec.system import Params, Symbols, UnitSpec

_ROOT = 0.5**0.5
_REACH = 2  # frames that a block looks at on each side
_LIMIT = 1 << 20  # symbols saturate here; only extreme gains come near


@dataclass(frozen=True)
class Config:
    """Shape of a walloc-audio network.

    Attributes:
        hop: samples a frame, N.
        unit: frames a unit.
        latents: channels C a frame, out of 2 N.
        width, blocks: of the decoder.
        groups: channel groups of the prior, in coding order.
        hidden: width of the prior's networks.
        far: latent channels of further neighbours that the prior looks at.
        lambda_range: weight of the squared error (in 16-bit levels) against bits an instant, at quality 0 and 100.
    """

    hop: int
    unit: int
    latents: int
    width: int
    blocks: int
    groups: tuple[int, ...]
    hidden: int
    far: int
    lambda_range: tuple[float, float]


class Synthesis(nn.Module):
    """g_s: latents [B, C, 1, w] to coefficients [B, 2 N, 1, w]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.skip = nn.Conv2d(config.latents, 2 * config.hop, 1)
        self.head = nn.Conv2d(config.latents, config.width, 1)
        self.body = nn.ModuleList(Block(config.width, (1, 2 * _REACH + 1)) for _ in range(config.blocks))
        self.tail = nn.Conv2d(config.width, 2 * config.hop, 1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)
        self.reach = _REACH * config.blocks  # frames

    def forward(self, latents: Tensor, t: Tensor) -> Tensor:
        x = self.head(latents.to(self.tail.weight.dtype))
        for block in self.body:
            x = block(x, t)
        detail = self.tail(x).float()
        with torch.autocast(latents.device.type, enabled=False):
            return self.skip(latents) + detail


class WallocAudio(AudioSystem, GainedCodec):
    """The walloc system for sound. Symbols: `y` [groups, frames, C]; a group is two channels."""

    id = "walloc-audio"
    version = 1
    # The linear paths start at their optimum; Adam's noise in them would cost more than they can still learn.
    rates = GainedCodec.rates | {"g_a.": 0.1, "g_s.skip.": 0.1}
    channels = 2
    levels, peak = 32768.0, 65536.0
    rate_name = "bits"
    rate = None
    before = after = extra = 1

    def __init__(self, config: Config) -> None:
        super().__init__(config.latents, config.lambda_range)
        self.config = config
        self.hop, self.unit = config.hop, config.unit
        self.g_a = nn.Conv2d(2 * config.hop, config.latents, 1)
        self.g_s = Synthesis(config)
        self.prior = QuincunxPrior(config.latents, config.groups, config.hidden, far=config.far, line=True)
        self.back = self.g_s.reach
        self.ahead = self.g_s.reach + 1

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> WallocAudio:
        return cls(Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}))

    @torch.no_grad()
    def initialize(self, batches: Iterable[Tensor]) -> None:
        """Start as a transform codec: g_a is the KLT of lapped coefficients, whitened, g_s its inverse."""
        coefficients = (self._coefficients(x).squeeze(2).transpose(1, 2).flatten(0, 1) for x in batches)
        self.initial_gains(become_klt(self.g_a, self.g_s.skip, coefficients))

    # --- transforms ----------------------------------------------------------------------------------------

    def _coefficients(self, x: Tensor) -> Tensor:
        """Map samples [B, 2, (w + 1) N] to coefficients of mid and side, [B, 2 N, 1, w]."""
        mixed = torch.stack([x[:, 0] + x[:, 1], x[:, 0] - x[:, 1]], 1) * _ROOT
        bands = lapped.analysis(mixed, self.hop)  # [B, 2, w, N]
        return bands.permute(0, 1, 3, 2).flatten(1, 2)[:, :, None]

    def _samples(self, coefficients: Tensor) -> Tensor:
        """Map coefficients [B, 2 N, 1, w] to samples [B, 2, (w - 1) N]."""
        bands = coefficients.squeeze(2).unflatten(1, (2, self.hop)).transpose(2, 3)
        mid, side = lapped.synthesis(bands).unbind(1)
        return torch.stack([mid + side, mid - side], 1) * _ROOT

    def latents_of(self, x: Tensor, t: Tensor) -> Tensor:
        """Map samples [B, 2, hops * N] to latents of hops + 1 frames."""
        with torch.autocast(x.device.type, enabled=False):
            return self.g_a(self._coefficients(F.pad(x, (self.hop, self.hop))))

    def signal_of(self, latents: Tensor, t: Tensor) -> Tensor:
        coefficients = self.g_s(latents, t)
        with torch.autocast(latents.device.type, enabled=False):
            return self._samples(coefficients.float())

    def rate_of(self, bits: Tensor, batch: Tensor) -> Tensor:
        return bits / batch.shape[-1]

    # --- coding --------------------------------------------------------------------------------------------

    def frame_shapes(self, params: Params) -> dict[str, tuple[int, ...]]:
        return {"y": (self.latents,)}

    def analyze_frames(self, x: Tensor, params: Params, effort: int) -> Symbols:
        t = self._t(params).float()
        latents = self.g_a(self._coefficients(x.to(self._device))).cpu()
        y = latents * torch.exp2(self.gain(t).float())[..., None, None]
        return {"y": fix(y, 0).clamp(-_LIMIT, _LIMIT).squeeze(2).transpose(1, 2).int()}

    def synthesize_hops(self, symbols: Symbols, params: Params) -> Tensor:
        t = self._t(params).float()
        return self._hops(self._dequantize(symbols["y"][:, None], t), t)

    @torch.no_grad()
    def render(self, latents: Tensor, params: Params) -> Audio:
        groups, frames, channels = self.shapes(params)["y"]
        if latents.shape != (groups * channels, frames):
            raise ValueError(
                f"{latents.shape = } instead of {(groups * channels, frames)}, what `embed` returns for this file"
            )
        t = self._t(params).float()
        padded = F.pad(latents.float().unflatten(0, (groups, channels)), (self.back, self.ahead))[:, :, None]
        parts = [
            self._hops(padded[..., start : min(start + self.unit, frames) + self.back + self.ahead], t).flatten(0, 1)
            for start in range(0, frames, self.unit)
        ]
        layout, count = layout_of(params)
        samples = torch.cat([torch.zeros(groups * self.channels, 0), *(part.float().cpu() for part in parts)], 1)
        samples = samples[:count, : params["length"]].numpy()
        return Audio(samples, params["rate"], depth=DEPTHS[params["depth"]], layout=layout)

    def _hops(self, latents: Tensor, t: Tensor) -> Tensor:
        """Map latents [groups, C, 1, back + hops + ahead] to samples [groups, channels, hops * N]."""
        samples = self.signal_of(latents.to(self._device), t.to(self._device).expand(len(latents)))
        return samples[..., self.back * self.hop : samples.shape[-1] - self.g_s.reach * self.hop]

    def code(self, coder: Coder, params: Params, symbols: Symbols | None) -> Symbols:
        if "t" in params:  # a batch of planes: in training, and where units of several files are decoded at once
            return super().code(coder, params, symbols)
        groups, frames = params["grid"]
        t = self._t(params).expand(groups)
        y = None if symbols is None else symbols["y"][0, :, None]
        out = self.prior.code(coder, y, (groups, 1, frames), self.gain(t), (t * 2 - 1)[:, None])
        return {"y": out[:, 0][None]}

    def embed(self, symbols: Symbols, params: Params) -> Tensor:
        """Return the dequantized latents [groups * C, frames], near unit variance."""
        return self._dequantize(symbols["y"][:, None], self._t(params).float())[:, :, 0].flatten(0, 1)

    def joined(self, specs: Sequence[UnitSpec]) -> Params | None:
        groups, frames = specs[0].params["grid"]
        if groups != 1:
            return None
        return {"grid": (len(specs), 1, frames), "t": torch.cat([self._t(spec.params) for spec in specs])}

    def freeze(self, device: str) -> None:
        super().freeze(device)
        for part in (self.g_s.head, self.g_s.body, self.g_s.tail):
            part.to(fast_dtype(device))
