"""Waveprior: a wavelet front end, residual transforms at 1/8 and 1/16 resolution, a hyperprior and a quincunx prior.

Step 0 is already a transform codec: the linear paths are the KLT of 16x16 pixels and its inverse, and the networks add
to them. Nothing expensive runs above 1/8 resolution.

    x --[ packets 8x8 ]-- 192 --+--[ 1x1 | blocks | 2x2 -> 1 | blocks ]--(+)--[ x gain(q), round ]--> y, at 1/16
                                `--[ 2x2 -> 1, linear: KLT ]--------------'                           |
                                                                                                      |
    y --[ h_a ]--[ round ]--> z at 1/64 --[ h_s, exact ]--> features                                  |
    y --[ quincunx prior: coded neighbours, features, quality -> location, scale ]--> bits            v
    x_hat <--[ inverse packets ]-- 192 --(+)--[ 1x1 | blocks | 1 -> 2x2 | blocks | 1x1 ]--+--[ / gain(q) ]-- y
                                          `--[ linear, 1 -> 2x2: inverse KLT ]------------'

Hyperprior: Balle et al., "Variational image compression with a scale hyperprior" (ICLR 2018), with means as in Minnen
et al. (NeurIPS 2018), here as features for the context networks. Blocks: depthwise 3x3 and a two-layer perceptron, as
in ConvNeXt and DCVC-RT. One network for all qualities: learned gains (Cui et al., "Asymmetric Gained Deep Image
Compression", CVPR 2021) at the latents and at every block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.coding.coder import Coder
from codec.models.layers.hyper import STRIDE, HyperAnalysis, HyperSynthesis, coarse
from codec.models.layers.klt import become_klt
from codec.models.layers.precision import fast_dtype
from codec.models.layers.quincunx import QuincunxPrior
from codec.models.layers.transform_codec import TransformCodec
from codec.models.layers.two_scales import BANDS, BLOCK, PACKETS_HALO, Analysis, Synthesis, hasten, packets, pictures
from codec.system import Params, Symbols


@dataclass(frozen=True)
class Config:
    """Shape of a waveprior network.

    Attributes:
        latents: channels C a block of 16x16 pixels.
        width, deep: channels of the blocks at 1/8 and at 1/16 resolution.
        analysis, synthesis: numbers of blocks at 1/8 and at 1/16 resolution.
        groups: channel groups of the prior, in coding order.
        hidden: width of the prior's networks.
        far: latent channels of further neighbours that the prior looks at.
        hyper: channels of z; 0 for no hyperprior.
        features: what h_s tells the prior, a latent position.
        hyper_width: of the first layer of h_a; the others are twice as wide.
        lambda_range: weight of the squared error (in 8-bit levels) against bits per pixel, at quality 0 and 100.
    """

    latents: int
    width: int
    deep: int
    analysis: tuple[int, int]
    synthesis: tuple[int, int]
    groups: tuple[int, ...]
    hidden: int
    far: int
    hyper: int
    features: int
    lambda_range: tuple[float, float]
    hyper_width: int = 96


class Waveprior(TransformCodec):
    """The waveprior system. Symbols: `y` [h, w, C] at 1/16 resolution, `z` [h / 4, w / 4, Z] at 1/64."""

    id = "waveprior"
    version = 1
    # The linear paths start at their optimum; Adam's noise in them would cost more than they can still learn.
    rates = TransformCodec.rates | {"h_s.": 2.0, "g_a.skip.": 0.1, "g_s.skip.": 0.1}
    block = BLOCK

    def __init__(self, config: Config) -> None:
        super().__init__(config.latents, config.lambda_range)
        self.config = config
        self.g_a = Analysis(config.latents, config.width, config.deep, config.analysis)
        self.g_s = Synthesis(config.latents, config.width, config.deep, config.synthesis)
        conditions = 1
        if config.hyper:
            self.h_a = HyperAnalysis(config.latents, config.hyper, config.hyper_width)
            self.h_s = HyperSynthesis(config.hyper, config.features, config.hyper_width)
            conditions += config.features
        self.prior = QuincunxPrior(
            config.latents, config.groups, config.hidden, conditions, far=config.far, shared=True
        )
        self.halo_a = PACKETS_HALO + self.g_a.reach
        self.halo_s = PACKETS_HALO + self.g_s.reach

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Waveprior:
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
        return cls(Config(**values)).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def initialize(self, batches: Iterable[Tensor]) -> None:
        """Start as a transform codec: the linear paths are the KLT of 16x16 pixels, whitened, and its inverse."""
        bands = (F.pixel_unshuffle(packets(x), 2).permute(0, 2, 3, 1).reshape(-1, 4 * BANDS) for x in batches)
        self.initial_gains(become_klt(self.g_a.skip, self.g_s.skip, bands))

    def latents_of(self, x: Tensor, t: Tensor) -> Tensor:
        return self.g_a(packets(x), t)

    def signal_of(self, latents: Tensor, t: Tensor) -> Tensor:
        return pictures(self.g_s(latents, t))

    def side(self, y: Tensor, t: Tensor) -> Symbols:
        latents = y * torch.exp2(-self.gain(t).float())[..., None, None].to(y.device)
        return {"z": self.h_a(latents, t)} if self.config.hyper else {}

    def code(self, coder: Coder, params: Params, symbols: Symbols | None) -> Symbols:
        batch, height, width = params["grid"]
        t = params["t"] if "t" in params else self._t(params)
        condition = (t * 2 - 1)[:, None]
        given = symbols or {}
        out = {}
        if self.config.hyper:
            out["z"] = self.h_s.code(coder, given.get("z"), (batch, *coarse(height, width)), t)
            features = self.h_s(out["z"], condition)[:, :height, :width]
            condition = torch.cat([features, condition[:, None, None].expand(batch, height, width, -1)], -1)
        out["y"] = self.prior.code(coder, given.get("y"), params["grid"], self.gain(t), condition)
        return out

    def side_shapes(self, rows: int, cols: int) -> dict[str, tuple[int, ...]]:
        return {"z": (*coarse(rows, cols), self.config.hyper)} if self.config.hyper else {}

    def side_regions(self, r: slice, c: slice) -> dict[str, tuple[slice, slice]]:
        cells = (slice(part.start // STRIDE, -(-part.stop // STRIDE)) for part in (r, c))
        return {"z": tuple(cells)} if self.config.hyper else {}

    def exact_parts(self) -> dict[str, nn.Module]:
        return {"prior": self.prior} | ({"h_s": self.h_s} if self.config.hyper else {})

    def freeze(self, device: str) -> None:
        super().freeze(device)
        for network in (self.g_a, self.g_s):
            hasten(network, fast_dtype(device))
