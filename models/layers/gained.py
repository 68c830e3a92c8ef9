"""What systems of the family analysis - quantization - prior - synthesis share, whatever the signal.

    x --[ g_a ]--> latents --[ x gain(q), round ]--> y --[ code: prior ]--> bits
                                                     |
    x_hat <--[ g_s ]-- latents <--[ / gain(q) ]------'

Learned gains, one set a quality, make one network serve all rates (Cui et al., "Asymmetric Gained Deep Image
Compression", CVPR 2021). Latents are planes [B, C, h, w]; those of sequences have h = 1.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from codec.coding import exact
from codec.coding.coder import Coder, RateMeter
from codec.coding.distributions import ScaleMixture
from codec.coding.exact import EXP2_BITS, exp2, fix
from codec.models.layers.quality import ANCHORS, interpolate
from codec.params import QUALITY_STEPS
from codec.system import Params, Symbols, System, UnitSpec


class GainedCodec(System):
    """Base of systems that quantize the output of a transform. Symbols: `y` [h, w, C], and what `side` adds.

    Class attributes:
        channels: of the signal.
        levels: a sample of 1 in the units that distortion is counted in.
        peak: range of the signal in those units, of PSNR.
        rate_name: unit of the rate that training reports: bits a position (pixel, instant), all channels together.

    Instance attributes:
        latents: channels C.
        lambda_range: weight of the squared error against the rate, at quality 0 and 100.
        prior: of y; a subclass sets it.
    """

    rates: ClassVar[dict[str, float]] = {"log2_gain": 8.0, "prior.": 2.0, "shape.": 2.0}
    channels: ClassVar[int]
    levels: ClassVar[float]
    peak: ClassVar[float]
    rate_name: ClassVar[str]

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
        """Map signals at quality t [B] to latents [B, C, h, w], near unit variance."""

    @abstractmethod
    def signal_of(self, latents: Tensor, t: Tensor) -> Tensor:
        """Map latents [B, C, h, w] back to signals."""

    def exact_parts(self) -> dict[str, nn.Module]:
        """Return the modules that decide bits, by attribute name; built of `ExactLinear` layers. Here the prior."""
        return {"prior": self.prior}

    def code(self, coder: Coder, params: Params, symbols: Symbols | None) -> Symbols:
        """Code y by its neighbours, nothing else: `params` have the grid (B, h, w) and, of a batch, t [B]."""
        y = None if symbols is None else symbols["y"]
        t = params["t"] if "t" in params else self._t(params)
        return {"y": self.prior.code(coder, y, params["grid"], self.gain(t), (t * 2 - 1)[:, None])}

    @abstractmethod
    def rate_of(self, bits: Tensor, batch: Tensor) -> Tensor:
        """Return the rate in units of `rate_name` of samples of a batch that take `bits` [B]."""

    def expand(self, latents: Tensor) -> Tensor:
        """Undo what makes latents suit quantization: what learning sees. Here nothing."""
        return latents

    def contract(self, latents: Tensor) -> Tensor:
        """Undo `expand`."""
        return latents

    def side(self, y: Tensor, t: Tensor) -> Symbols:
        """Return further symbols, derived from y in steps [B, C, h, w], unrounded: [B, h', w', C']. Here none."""
        return {}

    # --- quality -------------------------------------------------------------------------------------------

    def lambda_of(self, t: Tensor | float) -> Tensor | float:
        """Return the weight of distortion at quality t in 0..1."""
        low, high = self.lambda_range
        return low * (high / low) ** t

    def initial_gains(self, deviation: Tensor) -> None:
        """Set the gains for latents that are coefficients of an orthonormal transform divided by `deviation` [C].

        Quantization with step d adds d**2 / 12 a coefficient to the squared error, which is averaged over the channels,
        and -log2 d to the bits: lambda * error + bits is least for d**2 = 6 * channels / (ln 2 * lambda).
        """
        with torch.no_grad():
            for i in range(ANCHORS):
                step = math.sqrt(6 * self.channels / (math.log(2) * self.lambda_of(i / (ANCHORS - 1))))
                self.log2_gain[i] = torch.log2(self.levels * deviation / step).float()

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
        """Rate + lambda * distortion for signals [B, ...] at random (or given) qualities t [B].

        Each sample is divided by lambda**0.45, about its rate, so that all qualities count alike.
        """
        return self.loss_and_signals(batch, t)[0]

    def loss_and_signals(self, batch: Tensor, t: Tensor | None = None) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        t = torch.rand(len(batch), device=batch.device) if t is None else t
        with torch.autocast(batch.device.type, torch.bfloat16):
            latents = self.latents_of(batch, t).float()
        y = latents * exp2(self.gain(t))[:, :, None, None]
        y_hat = fix(y, 0)
        meter = RateMeter(self.shape, noise=True)
        symbols = {"y": y.permute(0, 2, 3, 1)} | self.side(y_hat, t)
        self.code(meter, {"grid": (len(y), *y.shape[2:]), "t": t}, symbols)
        with torch.autocast(batch.device.type, torch.bfloat16):
            x_hat = self.signal_of(self._dequantize(y_hat.permute(0, 2, 3, 1), t), t)
        error = ((x_hat.float() - batch) * self.levels).pow(2).flatten(1).mean(1)
        rate = self.rate_of(meter.bits, batch)
        weight = self.lambda_of(t)
        losses = {
            "loss": (weight**-0.45 * (self.rate_weight * rate + weight * error)).mean(),
            self.rate_name: rate.mean().detach(),
            "mse": error.mean().detach(),
        }
        return losses, batch, x_hat

    # --- coding --------------------------------------------------------------------------------------------

    def joined(self, specs: Sequence[UnitSpec]) -> Params | None:
        grid = specs[0].params["grid"]
        return {"grid": (len(specs), *grid[1:]), "t": torch.cat([self._t(spec.params) for spec in specs])}

    def fixed_point(self) -> dict[str, int]:
        names = {"log2_gain": EXP2_BITS}
        for name, part in self.exact_parts().items():
            names |= exact.fraction_bits(part, name)
        return names

    @torch.no_grad()
    def embed(self, symbols: Symbols, params: Params) -> Tensor:
        """Return the dequantized latents [C, h, w], near unit variance."""
        latents = self._dequantize(symbols["y"][None], self._t(params).float()).to(self._device)
        return self.expand(latents)[0].cpu()

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
            exact.freeze(part)
