"""Networks of CompressAI, with the user's own checkpoint, in files that decode everywhere.

CompressAI (Begaint et al., arXiv 2011.03029) has the field's reference implementations. Its transforms are used as
they are; what decides bits is not: its hyper-synthesis and context networks run in floating point, so its strings
decode only on machines that round alike. Here they are integer networks made by post-training quantization, and its
probability tables are stored as the integers that they are.

    x --[ g_a ]--> y --(-)--[ round ]--> q --[ table by scale ]--> bits
                   |    ^                |
                   |   mean <---------. (+)--> y_hat --[ g_s ]--> x_hat
                   |                  |
                 [ h_a ]        scale, mean <--[ 1x1 layers ]<---[ masked 5x5 ]<-- y_hat of sites before   (`context`)
                   |                               ^
                   z --[ round ]--> z_hat --[ h_s ]'           z: a table a channel, around its median

    prior         architectures                                   who says scale and mean
    `factorized`  bmshj2018-factorized, -factorized-relu          y has no z: a table a channel, around its median
    `scale`       bmshj2018-hyperprior                            h_s says the scale; the mean is 0
    `mean`        mbt2018-mean                                    h_s says both
    `context`     mbt2018, cheng2020-anchor, cheng2020-attn       h_s and the sites before, along wavefronts

Papers: Balle et al., ICLR 2018 (bmshj2018); Minnen et al., NeurIPS 2018 (mbt2018); Cheng et al., CVPR 2020 (cheng2020).
A checkpoint is one point of rate and distortion, so quality has no effect, nor has effort. Published checkpoints are
not part of this package: `codec import compressai CHECKPOINT` turns one into a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from codec import checkpoint, foreign
from codec.coding.coder import Coder, TableModels
from codec.coding.distributions import CategoricalTables
from codec.coding.exact import fix
from codec.coding.exact_conv import ExactConv2d, exact_twin
from codec.errors import CorruptError, ModelError
from codec.media.image import Image
from codec.models.layers import wavefront
from codec.models.layers.tiles import blank, grow, paste, pixels, scaled, tiles
from codec.params import image_params
from codec.system import Params, Progress, Symbols, System, UnitSpec

BLOCK = 16  # pixels a side of a position of y
RATIO = 4  # positions of y a side of a position of z
UNIT = 128  # side of a unit in positions of y: 2048 pixels; part of the bitstream
TILE = 48  # side of a tile of the transforms: 768 pixels; bounds memory, changes no symbol
# The integer networks are other people's float ones, rounded: their activations are not bounded by 64 as those of
# networks we train. These numbers keep every sum below 2**52 while the weights into a channel sum to less than 2**12.
FRACTION_BITS = 14  # of weights, activations, medians and thresholds; with 10, pixels differ by half a level
LIMIT = float(1 << 12)  # activations saturate here
STEPS = 1 << FRACTION_BITS  # a symbol tensor holds y_hat or z_hat in units of 2**-14
LATENT_MAX = 1 << 16  # |y_hat|, |z_hat| of a valid stream are below, so that they fit int32 in those units
_FORMAT = {"weight_bits": FRACTION_BITS, "activation_bits": FRACTION_BITS, "limit": LIMIT}


class Architecture(NamedTuple):
    """What must be known of an architecture: its kind of prior, and its transforms' reach in positions of y."""

    prior: str
    halo: int


ARCHITECTURES = {
    "bmshj2018-factorized": Architecture("factorized", 4),
    "bmshj2018-factorized-relu": Architecture("factorized", 4),
    "bmshj2018-hyperprior": Architecture("scale", 4),
    "mbt2018-mean": Architecture("mean", 4),
    "mbt2018": Architecture("context", 4),
    "cheng2020-anchor": Architecture("context", 8),
    "cheng2020-attn": Architecture("context", 12),
}


@dataclass(frozen=True)
class Config:
    """Shape of a network.

    Attributes:
        arch: name of the architecture.
        sizes: arguments of its class: N and M, or N alone (cheng2020).
        scales: number of Gaussian tables; 0 for a factorized prior.
    """

    arch: str
    sizes: tuple[int, ...]
    scales: int


class _Rounder:
    """Coder that writes nothing: it rounds, which is how an encoder finds symbols along the decoder's path."""

    def __call__(self, symbols: Tensor, location: Tensor, log2_scale: Tensor) -> Tensor:
        return fix(symbols, 0)

    def categorical(self, symbols: Tensor, table: Tensor) -> Tensor:
        return fix(symbols, 0)


class CompressAI(System):
    """The compressai system for images. Symbols: `y` [h, w, M] and, unless factorized, `z` [h/4, w/4, N].

    Symbols are dequantized values (y_hat, z_hat) in units of 2**-14, of which only the whole steps from the predicted
    mean are coded: so a decoder that has the symbols need not run the prior again.

    Raises:
        ModelError: the architecture is not supported.
        MissingPackageError: compressai is not installed.
    """

    id = "compressai"
    version = 1
    media = "image"
    single_rate = True

    def __init__(self, config: Config, network: nn.Module | None = None) -> None:
        super().__init__()
        _check(config.arch)
        self.config = config
        self.shape = None
        self.prior, self.halo = ARCHITECTURES[config.arch]
        network = foreign.architecture(config.arch)(*config.sizes) if network is None else network
        self.g_a, self.g_s = network.g_a, network.g_s
        self.latents = getattr(network, "M", config.sizes[-1])
        self.register_buffer("medians", torch.zeros(network.entropy_bottleneck.channels))
        if self.prior != "factorized":
            self.h_a, self.h_s = network.h_a, exact_twin(network.h_s, **_FORMAT)
            self.register_buffer("thresholds", torch.zeros(config.scales - 1))
        if self.prior == "context":
            masked, inputs = network.context_prediction, len(wavefront.OFFSETS) * self.latents
            self.context = ExactConv2d(inputs, 2 * self.latents, 1, **_FORMAT)
            self.context.weight.data.copy_(wavefront.gathered(masked.weight.data))
            self.context.bias.data.copy_(masked.bias.data)
            self.entropy_parameters = exact_twin(network.entropy_parameters, **_FORMAT)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> CompressAI:
        return cls(Config(config["arch"], tuple(config["sizes"]), config["scales"]))

    @classmethod
    def from_network(cls, network: nn.Module, arch: str) -> CompressAI:
        """Return the system of a network of CompressAI that has its tables (`update()` has been called)."""
        _check(arch)
        sizes = (network.N,) if arch.startswith("cheng2020") else (network.N, network.M)
        kinds = [_tables(network.entropy_bottleneck)]
        scales = torch.zeros(0)
        if ARCHITECTURES[arch].prior != "factorized":
            scales = network.gaussian_conditional.scale_table.double()
            kinds.append(_tables(network.gaussian_conditional))
        system = cls(Config(arch, sizes, len(scales)), network)
        system.medians.copy_(fix(network.entropy_bottleneck.quantiles[:, 0, 1].detach(), FRACTION_BITS))
        if len(scales):  # the nearest scale in the logarithm; CompressAI takes the next larger, which costs more bits
            system.thresholds.copy_(fix((scales[1:] * scales[:-1]).sqrt(), FRACTION_BITS))
        joined = zip(*kinds, strict=True)
        system.tables = TableModels(None, CategoricalTables(*(np.concatenate(parts) for parts in joined)))
        return system

    # --- symbols ---------------------------------------------------------------------------------------------

    def code(self, coder: Coder, params: Params, symbols: Symbols | None) -> Symbols:
        rows, cols = params["grid"]
        y = None if symbols is None else symbols["y"]
        if self.prior == "factorized":
            return {"y": self._bottleneck(coder, y, rows, cols)}
        z = self._bottleneck(coder, None if symbols is None else symbols["z"], rows // RATIO, cols // RATIO)
        features = self.h_s(_activations(z).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        if self.prior == "context":
            return {"z": z, "y": self._wavefronts(coder, y, features)}
        return {"z": z, "y": self._gaussian(coder, y, features)}

    def _bottleneck(self, coder: Coder, values: Tensor | None, rows: int, cols: int) -> Tensor:
        """Code [1, rows, cols, C] with a table for each channel."""
        channels = len(self.medians)
        table = torch.arange(channels).expand(1, rows, cols, channels)
        return _step(coder, values, self.medians, table)

    def _gaussian(self, coder: Coder, values: Tensor | None, parameters: Tensor) -> Tensor:
        """Code [..., M] given scales, or scales and means, [..., M or 2 M]."""
        scale, mean = parameters, torch.zeros((), dtype=torch.float64)
        if self.prior != "scale":
            scale, mean = parameters.chunk(2, -1)
        table = len(self.medians) + torch.bucketize(scale.contiguous(), self.thresholds)
        return _step(coder, values, mean, table)

    def _wavefronts(self, coder: Coder, values: Tensor | None, features: Tensor) -> Tensor:
        """Code [1, h, w, M] given features [1, h, w, 2 M] of h_s."""
        _, height, width, _ = features.shape
        known = wavefront.Canvas(height, width, self.latents)
        out = torch.empty(1, height, width, self.latents, dtype=torch.float64)
        for rows, cols in wavefront.waves(height, width):
            context = self.context(_as_map(known.neighbours(rows, cols)))
            both = torch.cat([_as_map(features[0, rows, cols]), context], 1)
            parameters = self.entropy_parameters(both)[..., 0].transpose(1, 2)
            given = None if values is None else values[:, rows, cols]
            out[:, rows, cols] = found = self._gaussian(coder, given, parameters)
            known.write(rows, cols, _activations(found[0]))
        return out

    # --- files -----------------------------------------------------------------------------------------------

    def shapes(self, params: Params) -> dict[str, tuple[int, ...]]:
        if self.prior == "factorized":
            rows, cols = (-(-params[side] // BLOCK) for side in ("height", "width"))
            return {"y": (rows, cols, self.latents)}
        rows, cols = (-(-params[side] // (BLOCK * RATIO)) for side in ("height", "width"))
        return {"y": (rows * RATIO, cols * RATIO, self.latents), "z": (rows, cols, len(self.medians))}

    def units(self, params: Params) -> list[UnitSpec]:
        shapes, specs = self.shapes(params), []
        for r, c in tiles(*shapes["y"][:2], UNIT):
            regions = {"y": (r, c, slice(None))}
            if "z" in shapes:
                regions["z"] = (*(slice(part.start // RATIO, part.stop // RATIO) for part in (r, c)), slice(None))
            specs.append(UnitSpec(params | {"grid": (r.stop - r.start, c.stop - c.start)}, regions))
        return specs

    @torch.no_grad()
    def analyze(self, signal: Image, *, quality: float, effort: int, progress: Progress) -> tuple[Symbols, Params]:
        params = image_params(signal.samples, 0)
        symbols = {name: torch.empty(shape, dtype=torch.int32) for name, shape in self.shapes(params).items()}
        specs = self.units(params)
        for i, spec in enumerate(specs):
            y = self._latents(signal.samples, *spec.regions["y"][:2], symbols["y"].shape)
            given = {"y": y}
            if "z" in symbols:
                given["z"] = self.h_a((y.abs() if self.prior == "scale" else y).to(self._device))
            exact = {name: _to_symbols(values) for name, values in given.items()}
            for name, values in self.code(_Rounder(), spec.params, exact).items():
                symbols[name][spec.regions[name]] = values[0].int()
            progress((i + 1) / len(specs))
        return symbols, params

    def _latents(self, samples: np.ndarray, r: slice, c: slice, grid: tuple[int, ...]) -> Tensor:
        """Return y [1, M, rows, cols] of some positions of an image, tile by tile."""
        y = torch.empty(1, self.latents, r.stop - r.start, c.stop - c.start)
        for rows, cols in tiles(*y.shape[2:], TILE):
            tile = (slice(part.start + at.start, part.stop + at.start) for part, at in ((rows, r), (cols, c)))
            big_r, big_c, inner_r, inner_c = grow(grid, *tile, self.halo)
            x = pixels(samples, big_r, big_c, BLOCK).add(0.5)
            y[..., rows, cols] = self.g_a(x.to(self._device))[..., inner_r, inner_c].cpu()
        return y

    @torch.no_grad()
    def synthesize(self, symbols: Symbols, params: Params, *, progress: Progress) -> Image:
        y, out = symbols["y"], blank(params)
        parts = list(tiles(*y.shape[:2], TILE))
        for i, (r, c) in enumerate(parts):
            big_r, big_c, inner_r, inner_c = grow(y.shape, r, c, self.halo)
            y_hat = (y[big_r, big_c].permute(2, 0, 1)[None] / STEPS).to(self._device)
            x = self.g_s(y_hat)[..., scaled(inner_r, BLOCK), scaled(inner_c, BLOCK)]
            paste(out, x - 0.5, r, c, BLOCK)
            progress((i + 1) / len(parts))
        return Image(out)

    def embed(self, symbols: Symbols, params: Params) -> Tensor:
        """Return y_hat [M, h, w], what CompressAI gives to g_s."""
        return symbols["y"].permute(2, 0, 1) / STEPS

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        raise ModelError("networks of CompressAI are trained with CompressAI; then run: codec import compressai")

    # --- weights ---------------------------------------------------------------------------------------------

    @property
    def _device(self) -> torch.device:
        """Where the transforms run."""
        return next(self.g_a.parameters()).device

    def export_tables(self) -> TableModels:
        return self.tables

    def fixed_point(self) -> dict[str, int]:
        names = {
            f"{name}.{parameter}": bits
            for name, module in self.named_modules()
            if hasattr(module, "freeze") and module is not self
            for parameter, bits in module.fixed_point().items()
        }
        return names | {name: FRACTION_BITS for name in ("medians", "thresholds") if hasattr(self, name)}

    def freeze(self, device: str) -> None:
        self.requires_grad_(False).eval()
        for module in self.modules():
            if hasattr(module, "freeze") and module is not self:
                module.freeze()
        for name in ("medians", "thresholds"):
            if hasattr(self, name):
                setattr(self, name, fix(getattr(self, name).double(), FRACTION_BITS))
        for name in ("g_a", "g_s", "h_a"):
            if hasattr(self, name):
                getattr(self, name).to(device, memory_format=torch.channels_last)


def import_checkpoint(path: Path, arch: str, folder: Path) -> checkpoint.ModelInfo:
    """Turn a checkpoint of CompressAI into a model: `model.json` and `model.safetensors` in `folder`.

    Raises:
        MissingPackageError: compressai is not installed.
        ModelError: the architecture is not supported, or the checkpoint is not one of it; see `foreign.load_network`.
    """
    _check(arch)
    network = foreign.load_network(path, arch)
    system = CompressAI.from_network(network, arch)
    facts = {"arch": arch, "parameters": sum(part.numel() for part in network.parameters()), "single_rate": True}
    return checkpoint.save(system, folder, config=asdict(system.config), facts=facts, half=False)


def _check(arch: str) -> None:
    if arch not in ARCHITECTURES:
        raise ModelError(
            f"architecture {arch!r} of CompressAI is not supported; those that are: {', '.join(ARCHITECTURES)}"
        )


def _tables(model: nn.Module) -> tuple[np.ndarray, ...]:
    """Return frequencies, lows, highs and escapes of the quantized CDFs of an entropy model of CompressAI."""
    lengths = model.cdf_length.flatten().numpy()  # symbols, escape, and the zero they begin with
    cdfs = model.quantized_cdf.numpy()
    frequencies = [np.diff(cdf[:length]) for cdf, length in zip(cdfs, lengths, strict=True)]
    lows = model.offset.flatten().numpy().astype(np.int32)
    highs = (lows + lengths - 3).astype(np.int32)
    return np.concatenate(frequencies).astype(np.uint16), lows, highs, np.ones(len(lows), np.uint8)


def _step(coder: Coder, values: Tensor | None, mean: Tensor, table: Tensor) -> Tensor:
    """Code values (units of 2**-14; None when decoding) as whole steps from their means; return the values."""
    steps = coder.categorical(None if values is None else values / STEPS - mean, table) + mean
    if steps.numel() and steps.abs().max() >= LATENT_MAX:
        raise CorruptError("a decoded latent is out of range")
    return steps * STEPS


def _to_symbols(values: Tensor) -> Tensor:
    """Return latents [1, C, h, w] in units of 2**-14, [1, h, w, C] float64, not yet rounded.

    Raises:
        ModelError: they are not finite.
    """
    if not torch.isfinite(values).all():
        raise ModelError("the network yields latents that are not finite; check the checkpoint")
    bound = LATENT_MAX / 4  # further from the limit than any mean is from zero
    return values.cpu().double().clamp(-bound, bound).permute(0, 2, 3, 1) * STEPS


def _activations(values: Tensor) -> Tensor:
    """Return symbol tensors as input of an exact network."""
    return (values / STEPS).clamp(-LIMIT, LIMIT)


def _as_map(sites: Tensor) -> Tensor:
    """Return [n, C] as a feature map [1, C, n, 1]."""
    return sites.T[None, :, :, None]
