"""Residual vector quantization of sound: a causal encoder, codes of a few books a frame, a decoder that speaks spectra.

    x --[ STFT, magnitudes ** 0.3, and their logs ]--[ linear, KLT ]--(+)-- latents, one vector a frame
                                                  `--[ causal blocks ]-'       |
                                                             [ quantizer: K books, see layers.quantizers ]
    codes, the first of K --[ prior: codes around ]--> bits                    |
    x_hat <--[ inverse STFT ]-- magnitude, phase --(+)--[ causal blocks, twice the rate ]--+-- sum of vectors
                                                    `--[ linear, inverse KLT ]-------------'

The quality is the number of books. Encoder and decoder look at the past alone, so a live decoder lags by the window of
the last transform. The inverse-STFT head is that of Siuzdak, "Vocos" (2023); phase is the direction of a vector, which
has no jumps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.audio_system import AudioSystem
from codec.coding import exact
from codec.coding.coder import Coder, RateMeter
from codec.models.layers import quantizers, stft
from codec.models.layers.code_prior import CodePrior
from codec.models.layers.klt import klt
from codec.models.layers.precision import fast_dtype
from codec.models.layers.quantizers.base import ENTRY_BITS, NOTHING
from codec.params import QUALITY_STEPS
from codec.system import Params, Symbols
from codec.training import spectral

_KERNEL = 5  # frames, of every block
_EMBED = 3  # frames, of the decoder's first layer
_FULL = 0.5  # share of training samples that keep all books
_COMMIT = 0.25
_PRIOR_SHARE = 4  # one sample of so many teaches the prior, which would else take most of the time
_PHASE = 6.0
_CALM = 1e-4  # of a direction, so that nothing has none
_QUIET = 1e-3  # magnitudes below are not told apart
_LOG_SCALE = 0.1  # of log2 magnitudes: a few of their components then come before those of phase
_LOUDNESS = -16.0, 8.0  # bounds of log2 magnitudes


@dataclass(frozen=True)
class Config:
    """Shape of an rvq network.

    Attributes:
        rate: samples a second.
        hop: samples a frame.
        unit: frames a unit.
        window: samples a spectrum; there are two spectra a frame.
        latents: channels D of the quantized vectors.
        encoder, decoder: (width, blocks).
        quantizer: see `models.layers.quantizers`.
        hidden: width of the prior's networks.
    """

    rate: int
    hop: int
    unit: int
    window: int
    latents: int
    encoder: tuple[int, int]
    decoder: tuple[int, int]
    quantizer: Mapping[str, Any]
    hidden: int


class Block(nn.Module):
    """`x + gain * mlp(norm(causal depthwise (x)))`, [B, T, C] -> [B, T - 4, C] (Liu et al., ConvNeXt, 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.taps = nn.Parameter(torch.randn(_KERNEL, width) / _KERNEL**0.5)
        self.norm = nn.LayerNorm(width)
        self.a = nn.Linear(width, 3 * width)
        self.b = nn.Linear(3 * width, width)
        self.gain = nn.Parameter(torch.full((width,), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        frames = x.shape[1] - _KERNEL + 1
        mixed = sum(x[:, i : i + frames] * tap for i, tap in enumerate(self.taps.to(x.dtype)))
        return x[:, _KERNEL - 1 :] + self.b(F.gelu(self.a(self.norm(mixed)))) * self.gain.to(x.dtype)


class Analysis(nn.Module):
    """g_a: features [B, T + reach, F] to latents [B, T, D]."""

    def __init__(self, features: int, width: int, blocks: int, latents: int) -> None:
        super().__init__()
        self.skip = nn.Linear(features, latents)
        self.head = nn.Linear(features, width)
        self.body = nn.ModuleList(Block(width) for _ in range(blocks))
        self.tail = nn.Linear(width, latents)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)
        self.reach = (_KERNEL - 1) * blocks  # frames

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        for block in self.body:
            y = block(y)
        return self.skip(x[:, self.reach :]) + self.tail(y)


class Synthesis(nn.Module):
    """g_s: latents [B, T + reach, D] to spectra [B, 2 T, window / 2 + 1].

    A spectrum is the logarithm of its magnitude and, as a vector of any length, its direction.
    """

    def __init__(self, latents: int, width: int, blocks: int, bins: int) -> None:
        super().__init__()
        self.width, self.bins = width, bins
        self.skip = nn.Linear(latents, 2 * 3 * bins)
        self.embed = nn.Linear(_EMBED * latents, 2 * width)
        self.body = nn.ModuleList(Block(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.tail = nn.Linear(width, 3 * bins)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)
        self.reach = _EMBED - 1 + (_KERNEL - 1) * blocks // 2  # frames

    def forward(self, x: Tensor) -> Tensor:
        around = torch.cat([x[:, i : x.shape[1] - _EMBED + 1 + i] for i in range(_EMBED)], -1)
        y = self.embed(around).unflatten(-1, (2, self.width)).flatten(1, 2)
        for block in self.body:
            y = block(y)
        detail = self.tail(self.norm(y)).float()
        with torch.autocast(x.device.type, enabled=False):
            known = self.skip(x[:, self.reach :].to(self.skip.weight.dtype)).float()
            real, imaginary, size = (known.unflatten(-1, (2, -1)).flatten(1, 2) + detail).split(self.bins, -1)
            length = (real.square() + imaginary.square() + _CALM**2).sqrt()
            return torch.complex(real, imaginary) * ((size / _LOG_SCALE).clamp(*_LOUDNESS).exp2() / length)


class Rvq(AudioSystem):
    """The rvq system. Symbols: `codes` [groups, frames, books]; a group is one channel."""

    id = "rvq"
    version = 1
    channels = 1
    after = extra = 1
    ahead = 2
    nothing = NOTHING
    keeps_wave = False
    levels, peak = 32768.0, 65536.0
    rate_name = "kbps"
    # The linear paths start at their optimum; Adam's noise in them would cost more than they can still learn.
    rates: ClassVar[dict[str, float]] = {"prior.": 2.0, "g_a.skip.": 0.1, "g_s.skip.": 0.1}
    shape = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.window % (2 * config.hop) or config.hop % 2:
            raise ValueError(f"a window of {config.window} is no multiple of two hops of {config.hop}")
        self.config = config
        self.rate, self.hop, self.unit = config.rate, config.hop, config.unit
        bins = config.window // 2 + 1
        self.g_a = Analysis(2 * 3 * bins, *config.encoder, config.latents)
        self.g_s = Synthesis(config.latents, *config.decoder, bins)
        self.quantizer = quantizers.build(config.latents, config.quantizer)
        self.prior = CodePrior(config.latents, self.quantizer.sizes, config.hidden)
        self._step = config.hop // 2  # samples between spectra
        self.before = self.g_a.reach + -(-(config.window - self._step) // config.hop)
        self.back = self.g_s.reach

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Rvq:
        return cls(Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}))

    # --- transforms ----------------------------------------------------------------------------------------

    def _features(self, x: Tensor, frames: int) -> Tensor:
        """Map samples [B, n] to what the encoder sees of the last `frames` frames, [B, frames, F]."""
        needed = self.config.window + (2 * frames - 1) * self._step
        spectra = stft.spectra(x[:, x.shape[1] - needed :], self.config.window, self._step)
        both = torch.cat([stft.compressed(spectra), (spectra.abs() + _QUIET).log2() * _LOG_SCALE], -1)
        return both.unflatten(1, (-1, 2)).flatten(2)

    def latents_of(self, x: Tensor) -> Tensor:
        """Map samples [B, (before + frames) * hop] to latents [B, frames, D]."""
        frames = x.shape[1] // self.hop - self.before
        with torch.autocast(x.device.type, enabled=False):
            features = self._features(x, frames + self.g_a.reach)
        return self.g_a(features.to(self.g_a.head.weight.dtype)).float()

    def samples_of(self, vectors: Tensor) -> Tensor:
        """Map vectors [B, back + hops + ahead, D] to samples [B, hops * hop]."""
        spectra = self.g_s(vectors.to(self.g_s.embed.weight.dtype))
        with torch.autocast(vectors.device.type, enabled=False):
            samples = stft.overlap(spectra, self.config.window, self._step)
        hops = vectors.shape[1] - self.back - self.ahead
        return samples[:, : hops * self.hop]

    @torch.no_grad()
    def initialize(self, batches: Iterable[Tensor]) -> None:
        """Start with the KLT of the features, and the k-means of what it makes of them."""
        batches = list(batches)
        frames = [self._features(x[:, 0], x.shape[-1] // self.hop - self.before).flatten(0, 1) for x in batches]
        mean, deviation, basis = klt(frames, self.config.latents)
        scale = deviation.square().mean().sqrt()
        self.g_a.skip.weight.copy_((basis / scale).T.float())
        self.g_a.skip.bias.copy_(-(basis.T @ mean / scale).float())
        self.g_s.skip.weight.copy_((basis * scale).float())
        self.g_s.skip.bias.copy_(mean.float())
        self.quantizer.initialize(self.g_a.skip(torch.cat(frames)))

    # --- training ------------------------------------------------------------------------------------------

    def loss(self, batch: Tensor, t: Tensor | None = None) -> dict[str, Tensor]:
        """Spectral distances of sound [B, 1, n], commitment of latents, bits of codes, at random (or given) t [B]."""
        return self.loss_and_signals(batch, t)[0]

    def loss_and_signals(self, batch: Tensor, t: Tensor | None = None) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """See `System.loss_and_signals`. The last hops are missing: their samples need frames that follow."""
        x = batch[:, 0]
        books = self.quantizer.books
        if t is None:
            t = torch.rand(len(x), device=x.device)
            t = torch.where(torch.rand_like(t) < _FULL, torch.ones_like(t), t)
        keep = torch.floor(1 + t * (books - 1) + 0.5)
        with torch.autocast(batch.device.type, torch.bfloat16):
            latents = self.latents_of(F.pad(x, (self.before * self.hop, 0)))
        quantized = self.quantizer(latents, keep)
        with torch.autocast(batch.device.type, torch.bfloat16):
            x_hat = self.samples_of(F.pad(quantized.vectors, (0, 0, self.back, 0)))
        x = x[:, : x_hat.shape[1]]
        mel, phase = spectral.mel_distance(x, x_hat, self.rate), spectral.phase_distance(x, x_hat)
        meter = RateMeter(None, noise=False)
        coded = books if torch.is_grad_enabled() else int(keep.max())
        codes = quantized.codes[::_PRIOR_SHARE] if torch.is_grad_enabled() else quantized.codes
        grid = (*codes.shape[:2], coded)
        self.prior.code(meter, codes, grid, self.quantizer)
        kbps = meter.bits.mean() / (grid[1] * self.hop) * self.rate / 1000
        losses = {
            "loss": mel + _PHASE * phase + _COMMIT * quantized.loss + 0.1 * kbps,
            "kbps": kbps.detach(),
            "mel": mel.detach(),
            "phase": phase.detach(),
            "commit": quantized.loss.detach(),
            "mse": ((x_hat - x) * self.levels).square().mean().detach(),
        }
        return losses, x[:, None], x_hat[:, None]

    # --- coding --------------------------------------------------------------------------------------------

    def books(self, params: Params) -> int:
        """Return how many books the quality stands for."""
        return 1 + round(params["quality"] / QUALITY_STEPS * (self.quantizer.books - 1))

    def frame_shapes(self, params: Params) -> dict[str, tuple[int, ...]]:
        return {"codes": (self.books(params),)}

    def analyze_frames(self, x: Tensor, params: Params, effort: int) -> Symbols:
        latents = self.latents_of(x[:, 0].to(self._device))
        return {"codes": self.quantizer.encode(latents.cpu().double(), self.books(params)).int()}

    def synthesize_hops(self, symbols: Symbols, params: Params) -> Tensor:
        vectors = self.quantizer.decode(symbols["codes"]).float()
        return self.samples_of(vectors.to(self._device))[:, None]

    def code(self, coder: Coder, params: Params, symbols: Symbols | None) -> Symbols:
        groups, frames = params["grid"]
        codes = None if symbols is None else symbols["codes"][0]
        return {"codes": self.prior.code(coder, codes, (groups, frames, self.books(params)), self.quantizer)[None]}

    def embed(self, symbols: Symbols, params: Params) -> Tensor:
        """Return the sum of the codes' vectors [groups * D, frames], near unit variance."""
        return self.quantizer.decode(symbols["codes"]).float().transpose(1, 2).flatten(0, 1)

    def tokens(self, symbols: Symbols) -> Tensor:
        """Return the codes [books, frames], of several channels [channels, books, frames]."""
        codes = symbols["codes"].transpose(1, 2)
        return codes[0] if len(codes) == 1 else codes

    def of_tokens(self, tokens: Tensor) -> tuple[Symbols, Params]:
        """Return symbols and parameters of tokens [books, frames] or [channels, books, frames].

        Raises:
            ValueError: they do not fit the codebooks.
        """
        codes = tokens if tokens.dim() == 3 else tokens[None]
        if codes.dim() != 3 or not 1 <= codes.shape[1] <= self.quantizer.books or not codes.numel():
            raise ValueError(f"tokens of shape {list(tokens.shape)}: give [1 to {self.quantizer.books} books, frames]")
        sizes = torch.tensor(self.quantizer.sizes[: codes.shape[1]])[:, None]
        if (codes < 0).any() or (codes >= sizes).any():
            raise ValueError(f"a token is outside 0..{int(sizes.max()) - 1}")
        quality = (codes.shape[1] - 1) / max(self.quantizer.books - 1, 1) * QUALITY_STEPS
        length = max(codes.shape[2] - self.extra, 0) * self.hop
        params = {"quality": round(quality), "groups": len(codes), "rate": self.rate, "length": length}
        return {"codes": codes.transpose(1, 2).int()}, params

    @property
    def _device(self) -> torch.device:
        return self.g_a.head.weight.device

    def fixed_point(self) -> dict[str, int]:
        names = {f"quantizer.{name}": ENTRY_BITS for name in self.quantizer.fixed_point()}
        return names | exact.fraction_bits(self.prior, "prior")

    def freeze(self, device: str) -> None:
        self.requires_grad_(False).eval().to(device)
        self.quantizer.cpu().freeze()
        exact.freeze(self.prior)
        for part in (self.g_s.embed, self.g_s.body, self.g_s.norm, self.g_s.tail):
            part.to(fast_dtype(device))
