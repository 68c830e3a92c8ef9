"""One-D-Piece: a region of 256x256 pixels as a row of tokens, 512 at most, any first few of which are a picture.

After Miwa et al., "One-D-Piece: Image Tokenizer Meets Quality-Controllable Compression" (arXiv 2501.10064): a
transformer with learned queries, and tail token drop in training. New here: it starts from a closed form, so that step
0 is a codec already, and the networks learn what that leaves; tokens are refined layer by layer
(`layers.layered_books`) and entropy coded; the last convolutions see the whole picture, so that regions do not show.

    x --[ packets 8x8, 2x2 -> 1 ]--> 768 --[ g_a.skip: KLT ]--> C a patch --[ cosine transform 16x16 ]--> coefficients
                                      |                                                                    |
                                      `--[ g_a: patches ]--[ queries, one a token ]------ corrections ----(+)
                                                                                                           |
    tokens <--[ a book a layer: 2, 2, 4, 8, ... 256 tokens on what the layers before left over ]-----------'
       |  `--[ prior: known tokens of the layer ]--> bits
       `--[ sum, inverse cosine transform ]--> C a patch --[ g_s.skip: inverse KLT ]-----------(+)--> 192 a block
                                                      `--[ g_s: patches, how many tokens ]------'        |
    x_hat <--[ inverse packets ]--(+)--------------------------------------------------------------------+
                                   `--[ blocks at 1/8, over all regions ]--------------------------------'

The quality is the number of tokens; a unit of a file is one layer of all regions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.coding import exact
from codec.coding.coder import Coder, RateMeter
from codec.media.image import Image
from codec.models.layers import cosine, wavelet
from codec.models.layers.klt import klt
from codec.models.layers.layered_books import LayeredBooks
from codec.models.layers.patches import PATCH, Analysis, Synthesis, apart, joined
from codec.models.layers.precision import fast_dtype
from codec.models.layers.refine import refine_choice
from codec.models.layers.tiled import Tiled
from codec.models.layers.tiles import grow, pixels, scaled, tiles
from codec.models.layers.token_prior import TokenPrior
from codec.params import QUALITY_STEPS, image_params, quality_index
from codec.system import Params, Progress, Symbols, System, UnitSpec, no_progress
from codec.training.ssimulacra import ssimulacra
from codec.training.visual import visual_loss

_TILE = 4  # regions a side that are encoded at a time: bounds memory, changes no symbol
_FULL = 0.4  # share of training samples that keep all tokens
_COMMIT = 0.25
_RATE = 0.1  # weight of bits a bit of the tokens: the prior's loss alone, nothing else depends on it
_PRICE = 0.1  # what a bit is worth, as a share of the error that one saves
_REFINING_RATE = 0.04  # of effort, in deviations of what the last layer refines
_OPINION = 0.05  # weight of errors as SSIMULACRA 2 counts them, in what effort lowers
_PRIOR_SHARE = 4  # one sample of so many teaches the prior


@dataclass(frozen=True)
class Config:
    """Shape of a onedpiece network.

    Attributes:
        region: pixels a side, a multiple of 16.
        edges: first token of each layer, and their number in all.
        depths: coefficients a token, for each layer.
        entries: of each codebook.
        latents: channels C a patch of 16x16 pixels.
        width: of the transformers.
        encoder, decoder: their layers over patches; the encoder has one of queries besides.
        blocks: (channels, number) of the last blocks.
        hidden: width of the prior's networks.
    """

    region: int
    edges: tuple[int, ...]
    depths: tuple[int, ...]
    entries: int
    latents: int
    width: int
    encoder: int
    decoder: int
    blocks: tuple[int, int]
    hidden: int


class OneDPiece(Tiled, System):
    """The onedpiece system for images. Symbols: `tokens` [regions, n], regions in row order, coarse tokens first."""

    id = "onedpiece"
    version = 1
    media = "image"
    compact = True
    layered = True
    levels = peak = 255.0
    rate_name = "bpp"
    # The linear paths start at their optimum; Adam's noise in them would cost more than they can still learn.
    rates: ClassVar[dict[str, float]] = {"priors.": 2.0, "g_a.skip.": 0.1, "g_s.skip.": 0.1}
    shape = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.region % PATCH:
            raise ValueError(f"regions of {config.region} pixels are no multiple of {PATCH}")
        if config.edges[-1] > QUALITY_STEPS // 2:
            raise ValueError(f"{config.edges[-1]} tokens are more than the quality can tell apart")
        self.config, self.latents = config, config.latents
        self.side = config.region // PATCH
        self.block, self.halo_s = config.region, 1  # a region: more than all that looks across edges
        shape, width = (self.side**2, config.latents), config.width
        self.g_a = Analysis(*shape, config.edges[-1], max(config.depths), width=width, layers=config.encoder)
        self.g_s = Synthesis(*shape, width=width, layers=config.decoder, blocks=config.blocks)
        self.register_buffer("deviation", torch.ones(config.latents))
        self.quantizer = LayeredBooks(config.latents * self.side**2, config.edges, config.depths, config.entries)
        self.priors = nn.ModuleList(TokenPrior(depth, config.entries, config.hidden) for depth in config.depths)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> OneDPiece:
        return cls(Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}))

    # --- transforms ----------------------------------------------------------------------------------------

    def features_of(self, bands: Tensor) -> Tensor:
        """Map packets of whole regions [B, 192, h, w] to features of their patches [B R, P, 768]."""
        return apart(F.pixel_unshuffle(bands, 2), self.side)

    def coefficients_of(self, features: Tensor) -> Tensor:
        """Map features of regions [B, P, 768] to the coefficients [B, N] that tokens stand for."""
        known, corrections = (part.float().to(self.deviation.device) for part in self.g_a(features))
        y = self._transformed(known)
        for layer, (start, stop) in zip(self.quantizer.layers, pairwise(self.config.edges), strict=True):
            y = y + layer.put(corrections[:, start:stop, : layer.places.shape[1]], y.shape[1])
        return y

    def _transformed(self, latents: Tensor) -> Tensor:
        """Map latents of regions [B, P, C] to coefficients [B, N]: the inverse of `patches_of`."""
        grid = (latents * self.deviation).transpose(1, 2).unflatten(-1, (self.side, -1))
        with torch.autocast(latents.device.type, enabled=False):
            return cosine.forward(grid).flatten(1)

    def patches_of(self, coefficients: Tensor) -> Tensor:
        """Map coefficients of regions [B, N] to latents of their patches [B, P, C], near unit variance."""
        grid = cosine.inverse(coefficients.unflatten(-1, (-1, self.side, self.side)))
        return grid.flatten(2).transpose(1, 2) / self.deviation

    def signal_of(self, latents: Tensor, t: Tensor) -> Tensor:
        """Map latents of whole regions [B, C, h, w], at quality t [B], to pictures [B, 3, 16 h, 16 w]."""
        grid = (latents.shape[2] // self.side, latents.shape[3] // self.side)
        t = torch.log2(1 + t * (self._tokens - 1)) / math.log2(max(self._tokens, 2))  # alike for each doubling
        patches, features = self.g_s.patches(apart(latents, self.side), t.repeat_interleave(math.prod(grid)))
        bands, features = (F.pixel_shuffle(joined(part, grid, self.side), 2) for part in (patches, features))
        bands = self.g_s(bands, features, t)
        with torch.autocast(latents.device.type, enabled=False):
            return wavelet.synthesis(bands.float())

    @torch.no_grad()
    def initialize(self, batches: Iterable[Tensor]) -> None:
        """Start as a transform codec: g_a is a KLT, whitened, g_s its inverse; k-means of what it leaves, by layers."""
        batches = list(batches)
        features = (self.features_of(wavelet.analysis(x)).flatten(0, 1) for x in batches)
        mean, deviation, basis = klt(features, self.latents)
        self.deviation.copy_(deviation.half())  # as it is stored, so that what divides and multiplies is the same
        self.g_a.skip.weight.copy_((basis / deviation).T)
        self.g_a.skip.bias.copy_(-(basis / deviation).T @ mean)
        self.g_s.skip.weight.copy_(basis * deviation)
        self.g_s.skip.bias.copy_(mean)
        self.quantizer.initialize(torch.cat([y for x in batches for y in self._windows(x)]))
        for prior, layer in zip(self.priors, self.quantizer.layers, strict=True):
            prior.initialize(layer)

    def _windows(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the coefficients of all regions of pictures, a quarter apart, and mirrored: books ask for many."""
        for picture in (x, x.flip(-1)):
            features = F.pixel_unshuffle(wavelet.analysis(picture), 2).permute(0, 2, 3, 1)
            latents, step = self.g_a.skip(features), max(self.side // 4, 1)
            for r in range(0, latents.shape[1] - self.side + 1, step):
                for c in range(0, latents.shape[2] - self.side + 1, step):
                    yield self._transformed(latents[:, r : r + self.side, c : c + self.side].flatten(1, 2))

    # --- training ------------------------------------------------------------------------------------------

    def loss(self, batch: Tensor, t: Tensor | None = None) -> dict[str, Tensor]:
        """Visual distance of pictures [B, 3, H, W] of whole regions, commitment, bits, at random (or given) t [B]."""
        return self.loss_and_signals(batch, t)[0]

    def loss_and_signals(self, batch: Tensor, t: Tensor | None = None) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """See `System.loss_and_signals`.

        Raises:
            ValueError: the pictures are no whole regions.
        """
        grid = [n // self.config.region for n in batch.shape[2:]]
        if any(n % self.config.region for n in batch.shape[2:]):
            raise ValueError(f"crops of {list(batch.shape[2:])} pixels are not made of regions of {self.config.region}")
        t = self._drop(len(batch), batch.device) if t is None else t
        keep = torch.floor(t * self._tokens + 0.5).clamp_min(1)
        features = self.features_of(wavelet.analysis(batch))
        with torch.autocast(batch.device.type, torch.bfloat16):
            y = self.coefficients_of(features)
        quantized = self.quantizer(y, keep.repeat_interleave(math.prod(grid)))
        latents = joined(self.patches_of(quantized.vectors), grid, self.side)
        with torch.autocast(batch.device.type, torch.bfloat16):
            x_hat = self.signal_of(latents, keep / self._tokens)
        distance = visual_loss(x_hat, batch, self.perceptual)
        bits, share = self._bits(quantized.codes.unflatten(0, (len(batch), -1)), int(keep.max()))
        losses = {
            "loss": distance["loss"] + _COMMIT * quantized.loss + _RATE * share,
            "bpp": bits.detach() / math.prod(batch.shape[2:]),
            "share": share.detach(),
            "mse": ((x_hat - batch) * self.levels).square().mean().detach(),
            "commit": quantized.loss.detach(),
        }
        return losses | {k: v.detach() for k, v in distance.items() if k != "loss"}, batch, x_hat

    def _drop(self, count: int, device: torch.device) -> Tensor:
        """Return random qualities: some keep all tokens, of the others each doubling is as likely."""
        t = torch.exp2((torch.rand(count, device=device) - 1) * math.log2(self._tokens))
        return torch.where(torch.rand_like(t) < _FULL, torch.ones_like(t), t)

    def _bits(self, tokens: Tensor, keep: int) -> tuple[Tensor, Tensor]:
        """Return mean bits of a picture's first tokens [B, R, keep], and as a share of those of a plain index.

        While gradients are wanted, they are those of a part of the batch, and of all tokens.
        """
        tokens = tokens[::_PRIOR_SHARE] if torch.is_grad_enabled() else tokens[..., :keep]
        meter = RateMeter(None, noise=False)
        for i, which in self._layers(tokens.shape[2]):
            part = tokens[..., which]
            self.priors[i].code(meter, part, part.shape, self.quantizer.layers[i])
        bits = meter.bits.mean()
        return bits, bits / (tokens[0].numel() * math.log2(self.config.entries))

    # --- coding --------------------------------------------------------------------------------------------

    @property
    def _tokens(self) -> int:
        """Tokens a region, at most."""
        return self.config.edges[-1]

    def _layers(self, count: int) -> list[tuple[int, slice]]:
        """Return the layers that the first `count` tokens of a region belong to, with the tokens of each."""
        edges = [(a, min(b, count)) for a, b in pairwise(self.config.edges) if a < count]
        return [(i, slice(*edge)) for i, edge in enumerate(edges)]

    def _t(self, params: Params) -> Tensor:
        """Return the share of the tokens that there are, [1]."""
        return torch.tensor([self._count(params["quality"]) / self._tokens])

    def _count(self, quality: int) -> int:
        """Return how many tokens a region the quality stands for, halves to even."""
        return max(1, round(quality * self._tokens / QUALITY_STEPS))

    def _quality(self, count: int) -> int:
        """Return the quality index that stands for so many tokens a region."""
        return round(count * QUALITY_STEPS / self._tokens)

    def shapes(self, params: Params) -> dict[str, tuple[int, ...]]:
        return {"tokens": (math.prod(self._grid(params)), self._count(params["quality"]))}

    def units(self, params: Params) -> list[UnitSpec]:
        regions, count = self.shapes(params)["tokens"]
        return [
            UnitSpec(
                params | {"layer": i, "grid": (1, regions, part.stop - part.start)}, {"tokens": (slice(None), part)}
            )
            for i, part in self._layers(count)
        ]

    def code(self, coder: Coder, params: Params, symbols: Symbols | None) -> Symbols:
        layer, tokens = params["layer"], None if symbols is None else symbols["tokens"]
        return {"tokens": self.priors[layer].code(coder, tokens, params["grid"], self.quantizer.layers[layer])}

    def layer_quality(self, params: Params, layers: int) -> int:
        """Return the quality index at which a stream is just the first `layers` units of one with `params`.

        Raises:
            ValueError: there are not so many.
        """
        parts = self._layers(self._count(params["quality"]))
        if not 1 <= layers <= len(parts):
            raise ValueError(f"the stream has {len(parts)} layers; choose from 1 to {len(parts)}")
        return params["quality"] if layers == len(parts) else self._quality(parts[layers - 1][1].stop)

    def truncated(self, symbols: Symbols, params: Params, quality: int) -> tuple[Symbols, Params]:
        """Return the first tokens of each region.

        Raises:
            ValueError: the quality index is higher than that of `params`.
        """
        if quality > params["quality"]:
            raise ValueError(f"quality index {quality} asks for more than the {params['quality']} that are there")
        return {"tokens": symbols["tokens"][:, : self._count(quality)]}, params | {"quality": quality}

    # --- files ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def analyze(self, signal: Image, *, quality: float, effort: int, progress: Progress) -> tuple[Symbols, Params]:
        """Map a picture to tokens; effort above 1 looks for some that show it better, see `layers.refine`."""
        params = image_params(signal.samples, quality_index(quality))
        grid, count = self._grid(params), self._count(params["quality"])
        tokens = torch.empty(*grid, count, dtype=torch.int32)
        parts = list(tiles(*grid, _TILE))
        for i, (r, c) in enumerate(parts):
            y = self.coefficients_of(self._features(signal.samples, grid, r, c).to(self._device))
            if effort > 1:
                part = lambda f, i=i: progress((i + f) / len(parts))
                y = self._refined(pixels(signal.samples, r, c, self.block), y.cpu(), params, effort, part)
            tokens[r, c] = self._chosen(y.cpu().double(), count).int().view(tokens[r, c].shape)
            progress((i + 1) / len(parts))
        return {"tokens": tokens.flatten(0, 1)}, params

    def _refined(self, target: Tensor, y: Tensor, params: Params, effort: int, progress: Progress) -> Tensor:
        """Return coefficients [R, N] near some whose tokens show whole regions [1, 3, H, W] better."""
        grid = tuple(n // self.block for n in target.shape[2:])
        count, t, target = self._count(params["quality"]), self._t(params).to(self._device), target.to(self._device)

        def cost(y: Tensor) -> Tensor:
            latents = joined(self.patches_of(self.quantizer.straight(y, count)), grid, self.side)
            x_hat = self.signal_of(latents.to(self._device), t)
            return visual_loss(x_hat, target)["loss"] + _OPINION * ssimulacra(x_hat, target).mean()

        last = self.quantizer.layers[self._layers(count)[-1][0]]
        return refine_choice(cost, y, effort, progress, rate=_REFINING_RATE * float(last.scale))

    def _chosen(self, y: Tensor, count: int) -> Tensor:
        """Return the first tokens [R, count] of coefficients [R, N]: near ones that cost few bits after the others."""

        def choose(i: int, x: Tensor) -> Tensor:
            layer = self.quantizer.layers[i]
            return self.priors[i].choose(x[None], layer, _PRICE * layer.slope)[0]

        return self.quantizer.encode(y, count, choose)

    def _features(self, samples: np.ndarray, grid: tuple[int, int], r: slice, c: slice) -> Tensor:
        """Return the features [R, P, 768] of some rows and columns of regions."""
        blocks = self.config.region // wavelet.BLOCK
        whole = tuple(n * blocks for n in grid)
        halo = wavelet.HALO // wavelet.BLOCK
        big_r, big_c, inner_r, inner_c = grow(whole, scaled(r, blocks), scaled(c, blocks), halo)
        bands = wavelet.analysis(pixels(samples, big_r, big_c, wavelet.BLOCK))
        return self.features_of(bands[..., inner_r, inner_c])

    @torch.no_grad()
    def synthesize(self, symbols: Symbols, params: Params, *, progress: Progress) -> Image:
        grid = self._grid(params)
        tokens = symbols["tokens"].unflatten(0, grid)
        some = lambda r, c: self._latents_of(tokens[r, c].flatten(0, 1), tokens[r, c].shape[:2])
        return self._picture(some, grid, params, progress)

    def _latents_of(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the latents [1, C, h, w] of a grid of regions with tokens [R, n]."""
        return joined(self.patches_of(self.quantizer.decode(tokens).float()), grid, self.side)

    @torch.no_grad()
    def embed(self, symbols: Symbols, params: Params) -> Tensor:
        """Return what the tokens add up to before the network, [C, 16 rows of regions, 16 columns]; C channels a patch.

        What all tokens could say has unit variance; channels that these say nothing of are zero.
        """
        return self._latents_of(symbols["tokens"], self._grid(params))[0].cpu()

    @torch.no_grad()
    def render(self, latents: Tensor, params: Params) -> Image:
        shape = (self.latents, *(n * self.side for n in self._grid(params)))
        if latents.shape != shape:
            raise ValueError(f"{latents.shape = } instead of {shape}, what `embed` returns for this file")
        some = lambda r, c: latents[None, :, scaled(r, self.side), scaled(c, self.side)]
        return self._picture(some, self._grid(params), params, no_progress)

    # --- tokens --------------------------------------------------------------------------------------------

    def tokens(self, symbols: Symbols) -> Tensor:
        """Return the tokens [regions, n]."""
        return symbols["tokens"]

    def of_tokens(
        self, tokens: Tensor, *, width: int | None = None, height: int | None = None
    ) -> tuple[Symbols, Params]:
        """Return symbols and parameters of tokens [regions, n].

        Args:
            width, height: of the picture, pixels; by default the regions are one row of whole ones.

        Raises:
            ValueError: they do not fit the codebooks or the size.
        """
        if tokens.dim() != 2 or not tokens.numel() or not 1 <= tokens.shape[1] <= self._tokens:
            raise ValueError(f"tokens of shape {list(tokens.shape)}: give [regions, 1 to {self._tokens} tokens]")
        if (tokens < 0).any() or (tokens >= self.config.entries).any():
            raise ValueError(f"a token is outside 0..{self.config.entries - 1}")
        side = self.config.region
        size = {"width": width or len(tokens) * side, "height": height or side}
        params = {"quality": self._quality(tokens.shape[1]), "kind": 0, "gray": 0, "deep": 0} | size
        if math.prod(self._grid(params)) != len(tokens):
            raise ValueError(
                f"{len(tokens)} rows of tokens do not fit a picture of {size['width']}x{size['height']} pixels, "
                f"which has {math.prod(self._grid(params))} regions; give its width and height"
            )
        return {"tokens": tokens.int()}, params

    # --- models --------------------------------------------------------------------------------------------

    @property
    def _device(self) -> torch.device:
        return self.g_a.head.weight.device

    def fixed_point(self) -> dict[str, int]:
        names = {f"quantizer.{name}": bits for name, bits in self.quantizer.fixed_point().items()}
        return names | exact.fraction_bits(self.priors, "priors")

    def freeze(self, device: str) -> None:
        self.requires_grad_(False).eval().to(device)
        self.quantizer.cpu().freeze()
        self.deviation = self.deviation.cpu()
        for prior in self.priors:
            exact.freeze(prior)
        self.g_s.hasten(fast_dtype(device))
