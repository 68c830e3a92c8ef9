"""Stem: the image codec for every frame, its entropy model extended by what the frame before has sent.

    x_0 --[ waveprior ]--> y_0, z --> v_0                                      v: latents, dequantized
    x_t --[ g_a ]--(-)--[ x gain(q), decide ]--> y_t --[ / gain(q) ]--(+)--> v_t --[ g_s ]--> x_hat_t
                    |                                                  |                         |
                    `--- p <--[ g_a ]<--[ compensate: m_t ]<-- x_hat_(t-1) ----------------------' (a frame later)

    bits of m_t, y_t: exact networks on m_(t-1), y_(t-1), magnitudes of the latents last sent, and the quality

After Sun et al., "Spatiotemporal Entropy Model is All You Need for Learned Video Compression" (2021): one image
transform for all frames, and a prior that joins the frame before to the neighbours. Unlike there, what is coded of a
frame is not its latents but what a prediction p of them misses. A picture that has moved by half a pixel has other
latents, which no network guesses from integers; the decoded frame, compensated for motion and analysed once more,
predicts them well (on photographs that pan, with a fifth of the bits). p is floating point, so it decides no bits: it
is what decoded residuals are added to, and their scales come from decoded integers alone. Where nothing around moves,
p is v_(t-1) itself, and positions without residuals stay as they are to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from codec import checkpoint
from codec.coding import exact
from codec.coding.coder import Coder, RateMeter
from codec.coding.distributions import ScaleMixture
from codec.coding.exact import fix
from codec.errors import ModelError
from codec.media.video import VideoFormat
from codec.models.layers import motion
from codec.models.layers.frame_prior import FINE, SITE, FramePrior, Known, Level, motion_symbols, vectors_of
from codec.models.layers.gained import GainedCodec
from codec.models.layers.hyper import coarse
from codec.models.layers.tiles import frame_samples, pixels
from codec.models.waveprior import Config as ImageConfig
from codec.models.waveprior import Waveprior
from codec.params import QUALITY_STEPS, video_format, video_params
from codec.system import Params, Progress, Symbols, no_progress
from codec.video_system import Store, Tell, VideoSystem, tell_nobody

GROUP = 150  # frames a group, where memory allows
_GROUP_BYTES = 256 << 20  # of RGB frames
_SMALLEST_GROUP = 8
_LIMIT = 1 << 20  # symbols saturate here
_WORTH = 6 / math.log(2)  # bits that a squared error of one step is worth, as where gains of waveprior begin
_SEARCH_ROUNDS = 2  # of motion, at effort 1
_MOTION_WORTH = 0.4  # absolute difference a bit of motion is worth, in steps; about what x264 takes
_FIRST = 60  # of 1024 qualities: how far frames coded as images are above the others, which build on them
_BETTER = 0.1  # of the quality scale: how far first frames may be above the others in training


@dataclass(frozen=True)
class Config:
    """Shape of a stem network: that of its image codec, and of the temporal part.

    Attributes:
        base: name of the waveprior model whose weights training starts from and keeps.
        image: its configuration.
        groups: channel groups of residuals, in coding order.
        hidden, motion_hidden: widths of the networks of residuals, and of motion and flags.
    """

    base: str
    image: ImageConfig
    groups: tuple[int, ...]
    hidden: int
    motion_hidden: int


class _Decoded(NamedTuple):
    """A decoded frame: latents [B, C, h, w], picture [B, 3, H, W] and what decides bits of the next."""

    v: Tensor
    picture: Tensor
    known: Known


class _Total:
    """A RateMeter that adds up the bits of all samples: it may be given some positions of each."""

    def __init__(self, shape: ScaleMixture) -> None:
        self._meter = RateMeter(shape, noise=False)

    @property
    def bits(self) -> Tensor:
        return self._meter.bits.sum()

    def __call__(self, symbols: Tensor, *parameters: Tensor) -> Tensor:
        return self._meter(symbols[None], *(part[None] for part in parameters))[0]


class Stem(VideoSystem):
    """The stem system. Symbols of a group of T frames, h x w positions of 16x16 pixels:

    `head` [T, 3]: whether a frame after the first is coded as an image, and its dominant vector otherwise. `y`
    [T, h, w, C]: latents of images as of waveprior, residuals of others. `z` [T, h / 4, w / 4, Z]: of images. `m`
    [T, 2 h, 2 w, 2]: motion of others, in quarter pixels down and right, less the dominant vector. `c` [T, h, w, 1]:
    which positions of others have residuals. What a frame does not have is zero.
    """

    id = "stem"
    version = 1
    borrows = "image."
    rate_name: ClassVar[str] = "bpp"
    peak: ClassVar[float] = 255.0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.image = Waveprior(config.image).requires_grad_(False)
        self.prior = FramePrior(config.image.latents, config.groups, config.hidden, config.motion_hidden)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Stem:
        image, own = (
            {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
            for table in (config["image"], {name: value for name, value in config.items() if name != "image"})
        )
        return cls(Config(image=ImageConfig(**image), **own)).to(memory_format=torch.channels_last)

    @property
    def shape(self) -> ScaleMixture:
        return self.image.shape

    @torch.no_grad()
    def initialize(self, batches: Iterable[Tensor]) -> None:
        """Take over the weights of the image codec.

        Raises:
            MissingModelError: it is not installed.
            ModelError: it has another shape.
        """
        import safetensors.torch

        info = checkpoint.find_model(self.config.base)
        if info.system != Waveprior.id or Waveprior.from_config(info.config).config != self.config.image:
            raise ModelError(f"{info.name} has another shape than config.image says; copy the [config] of its recipe")
        tensors = safetensors.torch.load((info.folder / "model.safetensors").read_bytes())
        scales = {name: 2.0**-bits for name, bits in self.image.fixed_point().items()}
        self.image.load_state_dict(
            {name: tensors[name].float() * scales.get(name, 1.0) for name in self.image.state_dict()}
        )

    # --- sizes ---------------------------------------------------------------------------------------------

    def header(
        self, format: VideoFormat, *, quality: int, effort: int, frames: int | None, group: int | None
    ) -> Params:
        room = _GROUP_BYTES // (3 * format.width * format.height * (1 if format.depth == 8 else 2))
        size = group or max(_SMALLEST_GROUP, min(GROUP, room))
        return video_params(format, quality, size, (min(quality + _FIRST, QUALITY_STEPS),))

    def group_shapes(self, params: Params, frames: int) -> dict[str, tuple[int, ...]]:
        return {name: (frames, *shape) for name, shape in self._frame_shapes(*_grid(params)).items()}

    def _frame_shapes(self, rows: int, cols: int) -> dict[str, tuple[int, ...]]:
        return {
            "head": (3,),
            "y": (rows, cols, self.config.image.latents),
            "z": (*coarse(rows, cols), self.config.image.hyper),
            "m": (FINE * rows, FINE * cols, 2),
            "c": (rows, cols, 1),
        }

    def _blank(self, like: Tensor, grid: tuple[int, ...]) -> Symbols:
        """Return symbols of frames that have nothing."""
        return {name: like.new_zeros(grid[0], *shape) for name, shape in self._frame_shapes(*grid[1:]).items()}

    def _level(self, t: Tensor) -> Level:
        return Level(t, self.image.gain(t))

    def _levels(self, params: Params) -> tuple[Level, Level]:
        """Return the qualities of frames coded as images and of the others."""
        indices = ((*params["numbers"], params["quality"])[0], params["quality"])
        dtype = self.image.log2_gain.dtype
        return tuple(
            self._level(torch.tensor([min(index, QUALITY_STEPS) / QUALITY_STEPS], dtype=dtype)) for index in indices
        )

    # --- what decides bits ---------------------------------------------------------------------------------

    def code(self, coder: Coder, params: Params, symbols: Symbols | None) -> Symbols:
        levels, grid = self._levels(params), (1, *_grid(params))
        parts, known = [], None
        for i in range(params["frames"]):
            given = None if symbols is None else {name: values[:, i] for name, values in symbols.items()}
            part, known = self._code_frame(coder, given, known, grid, *levels)
            parts.append(part)
        return {name: torch.stack([part[name] for part in parts], 1) for name in parts[0]}

    def _code_frame(
        self,
        coder: Coder,
        given: Symbols | None,
        known: Known | None,
        grid: tuple[int, ...],
        first: Level,
        level: Level,
    ) -> tuple[Symbols, Known]:
        """Code a frame after what is known of the last; None of the first of a group."""
        head = first.t.new_zeros(1, 3)
        if known is not None:
            head = self.prior.code_head(coder, given and given["head"], known)
        part = self._blank(head, grid) | {"head": head}
        if known is None or head[0, 0] != 0:
            image = given and {name: given[name] for name in ("y", "z")}
            part |= self.image.code(coder, {"grid": grid, "t": first.t}, image)
            return part, self.prior.begin(part["y"], first)
        part["m"] = self.prior.code_motion(coder, given and given["m"], head, known, level)
        part = self.prior.code_rest(coder, given, part, known, level)
        return part, self.prior.follow(known, part, level)

    # --- prediction: floating point, decides no bits ----------------------------------------------------------

    def _predict(self, last: _Decoded, vectors: Tensor, level: Level) -> Tensor:
        """Return the latents [B, C, h, w] to expect after a decoded frame."""
        moving = F.max_pool2d((vectors != 0).any(-1)[:, None].float(), FINE)
        if not moving.any():
            return last.v
        analysed = self._latents(motion.compensate(last.picture, vectors), level)
        return torch.where(F.max_pool2d(moving, 3, 1, 1) > 0, analysed, last.v)

    def _image_of(self, y: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """Return latents and picture of symbols y of frames coded as images."""
        v = self._units(y, level)
        return v, self._picture(v, level)

    def _units(self, y: Tensor, level: Level) -> Tensor:
        """Return symbols [B, h, w, C] in signal units, [B, C, h, w] on the device of the transforms."""
        v = y.float() * torch.exp2(-level.log2_gain.float())[:, None, None]
        return v.permute(0, 3, 1, 2).to(self.image._device)

    def _steps(self, latents: Tensor, level: Level) -> Tensor:
        """Return latents [B, C, h, w] in quantization steps, [B, h, w, C] where bits are decided."""
        y = latents.permute(0, 2, 3, 1).to(level.t)
        return y * torch.exp2(level.log2_gain)[:, None, None]

    def _latents(self, x: Tensor, level: Level) -> Tensor:
        return self.image.latents_of(x, level.t.to(x)).float()

    def _picture(self, v: Tensor, level: Level) -> Tensor:
        return self.image.signal_of(v, level.t.to(v)).float()

    def _frames(self, symbols: Symbols, params: Params) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield latents [1, C, h, w] and picture [1, 3, H, W] of each frame of a group."""
        first, level = self._levels(params)
        last = None
        for i in range(params["frames"]):
            part = {name: values[i : i + 1] for name, values in symbols.items()}
            vectors = vectors_of(part).float().to(self.image._device)
            if last is None or part["head"][0, 0]:
                last = _Decoded(*self._image_of(part["y"], first), None)
            elif vectors.any() or part["c"].any():
                v = self._predict(last, vectors, level) + self._units(part["y"], level)
                last = _Decoded(v, self._picture(v, level), None)
            yield last.v, last.picture

    @torch.no_grad()
    def synthesize_group(self, symbols: Symbols, params: Params, state: Any) -> Iterator[np.ndarray]:
        form = video_format(params)
        for _, picture in self._frames(symbols, params):
            yield frame_samples(picture, form)

    @torch.no_grad()
    def embed(self, symbols: Symbols, params: Params) -> Tensor:
        """Return the latents of all frames [T, C, h, w], near unit variance. To follow motion takes synthesis."""
        out = []
        for spec in self.units(params):
            part = {name: values[spec.regions[name]] for name, values in symbols.items()}
            out += [v.cpu() for v, _ in self._frames(part, spec.params)]
        return torch.cat(out)

    # --- encoding ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def analyze_group(
        self,
        frames: np.ndarray,
        params: Params,
        state: Any,
        *,
        effort: int,
        progress: Progress = no_progress,
        tell: Tell = tell_nobody,
        store: Store | None = None,
    ) -> Symbols:
        first, level = self._levels(params)
        rows, cols = _grid(params)
        last, parts = None, []
        for i, frame in enumerate(frames):
            x = pixels(frame, slice(0, rows), slice(0, cols), SITE).to(self.image._device)
            vectors = None if last is None else self._search(x, last, level.t, rounds=_SEARCH_ROUNDS + effort // 2)
            part = None if vectors is None else self._inter(x, vectors, last, level, _WORTH)
            part, last = part or self._intra(x, first, begins=last is None)
            parts.append(part)
            progress((i + 1) / len(frames))
        symbols = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {name: values.clamp(-_LIMIT, _LIMIT).int().cpu() for name, values in symbols.items()}

    def _intra(self, x: Tensor, level: Level, *, begins: bool) -> tuple[Symbols, _Decoded]:
        """Return symbols of frames [B, 3, H, W] coded as images, which begin groups or do not."""
        y = fix(self._steps(self._latents(x, level), level), 0)
        z = self.image.side(y.permute(0, 3, 1, 2).float().to(x.device), level.t.to(x))["z"]
        part = self._blank(y, y.shape[:3]) | {"y": y, "z": fix(z, 0).to(y)}
        part["head"][:, 0] = float(not begins)
        return part, _Decoded(*self._image_of(y, level), self.prior.begin(y, level))

    def _search(
        self, x: Tensor, last: _Decoded, t: Tensor, *, rounds: int = _SEARCH_ROUNDS, fast: bool = False
    ) -> Tensor:
        """Return vectors [B, 2 h, 2 w, 2] of frames after others."""
        step = math.sqrt(18 / (math.log(2) * float(self.image.lambda_of(t[:1].float()))))  # of latents, in levels
        return motion.Search(x, last.picture, _MOTION_WORTH * step, fast=fast).run(last.known.vectors.to(x), rounds)

    def _inter(
        self, x: Tensor, vectors: Tensor, last: _Decoded, level: Level, worth: float, *, cuts: bool = True
    ) -> tuple[Symbols, _Decoded] | None:
        """Return symbols of frames [B, 3, H, W] that follow others, and what is decoded of them.

        None if `cuts` are allowed and the frame has so little in common with the last that it is better an image.
        """
        p, latents = self._predict(last, vectors, level), self._latents(x, level)
        missed = self._steps(latents - p, level)
        if cuts and _bits(missed) > _bits(self._steps(latents, level)):
            return None
        part = self._blank(missed, missed.shape[:3]) | motion_symbols(vectors.to(missed))
        part = self.prior.decide(self.shape, missed, part, last.known, level, worth)
        v, picture = last.v, last.picture
        if part["c"].any() or vectors.any():
            v = p + self._units(part["y"], level)
            picture = self._picture(v, level)
        return part, _Decoded(v, picture, self.prior.follow(last.known, part, level))

    # --- training ------------------------------------------------------------------------------------------

    def loss(self, batch: Tensor, t: Tensor | None = None) -> dict[str, Tensor]:
        """Bits of the frames [B, T, 3, H, W] after the first, at one random (or given) quality of all.

        Frames are coded as an encoder would, with the priors as they are; distortion follows from that and is only
        reported. The bits are divided by lambda**0.45, about the rate, so that all qualities count alike.
        """
        vary = t is None
        t = (torch.rand(1, device=batch.device) if vary else t[:1]).expand(len(batch))
        worth = _WORTH * float(torch.exp2(torch.rand(()) * 2 - 1)) if vary else _WORTH
        better = _BETTER * float(torch.rand(())) if vary else 0.0
        level, transforms = self._level(t), torch.autocast(batch.device.type, torch.bfloat16)
        with torch.no_grad(), transforms:
            _, last = self._intra(batch[:, 0], self._level((t + better).clamp(0, 1)), begins=True)
        bits = {name: torch.zeros((), device=batch.device) for name in ("motion", "rest")}
        error = torch.zeros((), device=batch.device)
        for x in batch[:, 1:].unbind(1):
            known = last.known
            with torch.no_grad(), transforms:
                part, last = self._inter(x, self._search(x, last, t, fast=True), last, level, worth, cuts=False)
            meters = {name: _Total(self.shape) for name in bits}
            self.prior.code_motion(meters["motion"], part["m"], part["head"], known, level)
            self.prior.code_rest(meters["rest"], part, part, known, level)
            bits = {name: total + meters[name].bits for name, total in bits.items()}
            error = error + ((last.picture - x) * 255).square().mean() / (batch.shape[1] - 1)
        rates = {name: total / batch[:, 1:, 0].numel() for name, total in bits.items()}
        rate = rates["motion"] + rates["rest"]
        return {
            "loss": rate * self.image.lambda_of(t[:1])[0] ** -0.45,
            "bpp": rate.detach(),
            "motion": rates["motion"].detach(),
            "mse": error,
        }

    # --- models --------------------------------------------------------------------------------------------

    def fixed_point(self) -> dict[str, int]:
        names = {f"image.{name}": bits for name, bits in self.image.fixed_point().items()}
        return names | exact.fraction_bits(self.prior, "prior")

    def freeze(self, device: str) -> None:
        self.requires_grad_(False).eval()
        # Transforms stay in float32, whatever the device: what they round would add up over the frames of a group.
        GainedCodec.freeze(self.image, device)
        exact.freeze(self.prior)


def _grid(params: Params) -> tuple[int, int]:
    """Return rows and columns of positions."""
    return tuple(-(-params[side] // SITE) for side in ("height", "width"))


def _bits(y: Tensor) -> float:
    """Return about how many bits symbols take whose scales are known well."""
    return float(torch.log2(1 + y.square() / 0.3).sum())
