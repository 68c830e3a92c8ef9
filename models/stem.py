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

Motion is most of what little rate there is, so the networks that code vectors also tell the encoder which of those it
found are worth their bits (`layers.motion_choice`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from codec import checkpoint
from codec.coding import exact
from codec.coding.coder import Coder, RateMeter
from codec.coding.distributions import ScaleMixture
from codec.coding.exact import fix
from codec.errors import ModelError
from codec.media.video import VideoFormat
from codec.models.layers import pyramid
from codec.models.layers.frame_levels import Levels, numbers_of, qualities, span_of
from codec.models.layers.frame_loop import Decoded, FrameLoop, Source
from codec.models.layers.frame_motion import moves
from codec.models.layers.frame_prior import FINE, SITE, FramePrior, Known, Level
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
_SLOPE = 0.08  # of the quality scale: how far frames may be below those one depth up, in training
_BETTER = 0.1  # of the quality scale: how far first frames may be above the others in training


@dataclass(frozen=True)
class Config:
    """Shape of a stem network: that of its image codec, and of the temporal part.

    Attributes:
        base: name of the waveprior model whose weights training starts from and keeps.
        image: its configuration.
        groups: channel groups of residuals, in coding order.
        hidden, motion_hidden: widths of the networks of residuals, and of motion and flags.
        between: whether frames between two others are predicted from both.
    """

    base: str
    image: ImageConfig
    groups: tuple[int, ...]
    hidden: int
    motion_hidden: int
    between: bool = False


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

    Of models with frames between two others, `head` [T, 5] and `m` [T, 2 h, 2 w, 4] go on with the motion to the frame
    ahead; `d` [T, h, w, 1] is -1 where the frame before alone predicts, 1 where the one ahead does, 0 where both do.
    """

    id = "stem"
    version = 1
    borrows = "image."
    rate_name: ClassVar[str] = "bpp"
    peak: ClassVar[float] = 255.0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.film = 5 if config.between else 3
        self.image = Waveprior(config.image).requires_grad_(False)
        sizes = config.image.latents, config.groups, config.hidden, config.motion_hidden
        self.prior = FramePrior(*sizes, between=config.between)
        self.loop = FrameLoop(self.image, adds=config.between)

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
        info = checkpoint.find_model(self.config.base)
        if info.system != Waveprior.id or Waveprior.from_config(info.config).config != self.config.image:
            raise ModelError(f"{info.name} has another shape than config.image says; copy the [config] of its recipe")
        checkpoint.fill(self.image, info)

    # --- sizes ---------------------------------------------------------------------------------------------

    def header(
        self, format: VideoFormat, *, quality: int, effort: int, frames: int | None, group: int | None
    ) -> Params:
        room = _GROUP_BYTES // (3 * format.width * format.height * (1 if format.depth == 8 else 2))
        size = group or max(_SMALLEST_GROUP, min(GROUP, room))
        return video_params(format, quality, size, numbers_of(quality, between=self.config.between))

    def group_shapes(self, params: Params, frames: int) -> dict[str, tuple[int, ...]]:
        return {name: (frames, *shape) for name, shape in self._frame_shapes(*_grid(params)).items()}

    def _frame_shapes(self, rows: int, cols: int) -> dict[str, tuple[int, ...]]:
        shapes = {
            "head": (1 + 2 * self.prior.most_sides,),
            "y": (rows, cols, self.config.image.latents),
            "z": (*coarse(rows, cols), self.config.image.hyper),
            "m": (FINE * rows, FINE * cols, 2 * self.prior.most_sides),
            "c": (rows, cols, 1),
        }
        return shapes | ({"d": (rows, cols, 1)} if self.config.between else {})

    def _blank(self, like: Tensor, grid: tuple[int, ...]) -> Symbols:
        """Return symbols of frames that have nothing."""
        return {name: like.new_zeros(grid[0], *shape) for name, shape in self._frame_shapes(*grid[1:]).items()}

    def _level(self, t: Tensor) -> Level:
        return Level(t, self.image.gain(t))

    def _levels(self, params: Params) -> Levels:
        """Return the qualities of frames; raises CorruptError where the header's numbers describe none."""
        image, *depths = qualities(params["numbers"], params["quality"], between=self.config.between)
        dtype = self.image.log2_gain.dtype
        at = lambda index: self._level(torch.tensor([min(index, QUALITY_STEPS) / QUALITY_STEPS], dtype=dtype))
        return Levels(at(image), tuple(map(at, depths)))

    def _turns(self, params: Params) -> list[pyramid.Turn]:
        return pyramid.turns(params["frames"], span_of(params["numbers"], between=self.config.between))

    # --- what decides bits ---------------------------------------------------------------------------------

    def code(self, coder: Coder, params: Params, symbols: Symbols | None) -> Symbols:
        levels, grid, order = self._levels(params), (1, *_grid(params)), self._turns(params)
        parts: dict[int, Symbols] = {}
        knowns: dict[int, Known] = {}
        last = pyramid.needed_until(order)
        for number, turn in enumerate(order):
            given = None if symbols is None else {name: values[:, turn.index] for name, values in symbols.items()}
            known = self._known(turn, knowns)
            parts[turn.index], knowns[turn.index] = self._code_frame(coder, given, known, grid, levels, turn.depth)
            knowns = {index: known for index, known in knowns.items() if last[index] > number}
        return {name: torch.stack([parts[i][name] for i in range(len(order))], 1) for name in parts[0]}

    def _known(self, turn: pyramid.Turn, knowns: Mapping[int, Known]) -> Known | None:
        """Return what is known of a frame before it is coded; None of the first of a group."""
        if turn.past is None:
            return None
        past, span = knowns[turn.past], turn.index - turn.past
        if turn.ahead is None:
            return self.prior.after(past, span)
        return self.prior.between(past, knowns[turn.ahead], span, turn.ahead - turn.index)

    def _code_frame(
        self,
        coder: Coder,
        given: Symbols | None,
        known: Known | None,
        grid: tuple[int, ...],
        levels: Levels,
        depth: int,
    ) -> tuple[Symbols, Known]:
        """Code a frame after what is known of those it is predicted from; None of the first of a group."""
        image, level = levels.image, levels.depths[depth]
        part = self._blank(image.t, grid)
        if known is not None:
            part["head"] = self.prior.code_head(coder, given and given["head"], known).to(image.t)
        if known is None or part["head"][0, 0] != 0:
            latents = given and {name: given[name] for name in ("y", "z")}
            part |= self.image.code(coder, {"grid": grid, "t": image.t}, latents)
            return part, self.prior.begin(part["y"], image)
        part["m"] = self.prior.code_motion(coder, given and given["m"], part["head"], known, level)
        part = self.prior.code_rest(coder, given, part, known, level)
        return part, self.prior.follow(known, part, level)

    # --- prediction: floating point, decides no bits ----------------------------------------------------------

    def _frames(self, symbols: Symbols, params: Params) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield latents [1, C, h, w] and picture [1, 3, H, W] of each frame of a group, in order of time."""
        levels, order = self._levels(params), self._turns(params)
        last, shown = pyramid.needed_until(order), 0
        done: dict[int, Decoded] = {}
        for number, turn in enumerate(order):
            part = {name: values[turn.index : turn.index + 1] for name, values in symbols.items()}
            done[turn.index] = self._decoded(part, turn, done, levels)
            while shown in done:
                yield done[shown].v, done[shown].picture
                shown += 1
            done = {index: frame for index, frame in done.items() if index >= shown or last[index] > number}

    def _decoded(self, part: Symbols, turn: pyramid.Turn, done: Mapping[int, Decoded], levels: Levels) -> Decoded:
        """Return the frame that symbols with a first dimension of 1 make after those it is predicted from."""
        if turn.past is None or part["head"][0, 0]:
            return Decoded(*self.loop.image_of(part["y"], levels.image), None)
        ahead = None if turn.ahead is None else done[turn.ahead]
        source, level = Source(done[turn.past], ahead, None), levels.depths[turn.depth]
        return Decoded(*self.loop.completed(self.loop.predict(source, part, level), part, level), None)

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
        levels, order = self._levels(params), self._turns(params)
        rows, cols = _grid(params)
        parts: dict[int, Symbols] = {}
        done: dict[int, Decoded] = {}
        last = pyramid.needed_until(order)
        for number, turn in enumerate(order):
            x = pixels(frames[turn.index], slice(0, rows), slice(0, cols), SITE).to(self.image._device)
            source, level = self._source(turn, done), levels.depths[turn.depth]
            found = None
            if source is not None:
                part = self._moves(x, source, level, rounds=_SEARCH_ROUNDS + effort // 2)
                found = self._inter(x, part, source, level, _WORTH)
            parts[turn.index], done[turn.index] = found or self._intra(x, levels.image, begins=source is None)
            done = {index: frame for index, frame in done.items() if last[index] > number}
            progress((number + 1) / len(frames))
        symbols = {name: torch.cat([parts[i][name] for i in range(len(order))]) for name in parts[0]}
        return {name: values.clamp(-_LIMIT, _LIMIT).int().cpu() for name, values in symbols.items()}

    def _source(self, turn: pyramid.Turn, done: Mapping[int, Decoded]) -> Source | None:
        """Return what a frame is predicted from; None of the first of a group."""
        if turn.past is None:
            return None
        known = self._known(turn, {index: frame.known for index, frame in done.items()})
        return Source(done[turn.past], None if turn.ahead is None else done[turn.ahead], known)

    def _intra(self, x: Tensor, level: Level, *, begins: bool) -> tuple[Symbols, Decoded]:
        """Return symbols of frames [B, 3, H, W] coded as images, which begin groups or do not."""
        y = fix(self.loop.steps(self.loop.latents(x, level), level), 0)
        z = self.image.side(y.permute(0, 3, 1, 2).float().to(x.device), level.t.to(x))["z"]
        part = self._blank(y, y.shape[:3]) | {"y": y, "z": fix(z, 0).to(y)}
        part["head"][:, 0] = float(not begins)
        return part, Decoded(*self.loop.image_of(y, level), self.prior.begin(y, level))

    def _moves(self, x: Tensor, source: Source, level: Level, *, rounds: int, fast: bool = False) -> Symbols:
        """Return the symbols `head`, `m` and, between two, `d` of frames [B, 3, H, W]: how others predict them."""
        step = math.sqrt(18 / (math.log(2) * float(self.image.lambda_of(level.t[:1].float()))))  # of latents, in levels
        return moves(self.prior, self.shape, x, source, level, step=step, rounds=rounds, fast=fast)

    def _inter(
        self, x: Tensor, part: Symbols, source: Source, level: Level, worth: float, *, cuts: bool = True
    ) -> tuple[Symbols, Decoded] | None:
        """Return symbols of frames [B, 3, H, W] that others predict, and what is decoded of them.

        None if `cuts` are allowed and the frame has so little in common with those that it is better an image.

        Args:
            part: what `_moves` says of it.
        """
        expected, latents = self.loop.predict(source, part, level), self.loop.latents(x, level)
        missed = self.loop.steps(latents - expected[0], level)
        if cuts and _bits(missed) > _bits(self.loop.steps(latents, level)):
            return None
        part = self._blank(missed, missed.shape[:3]) | part
        part = self.prior.decide(self.shape, missed, part, source.known, level, worth)
        done = self.loop.completed(expected, part, level)
        return part, Decoded(*done, self.prior.follow(source.known, part, level))

    # --- training ------------------------------------------------------------------------------------------

    def loss(self, batch: Tensor, t: Tensor | None = None) -> dict[str, Tensor]:
        """Bits of the frames [B, T, 3, H, W] after the first, at one random (or given) quality of all.

        Frames are coded as an encoder would, with the priors as they are; distortion follows from that and is only
        reported. The bits are divided by lambda**0.45, about the rate, so that all qualities count alike.
        """
        vary = t is None
        t = (torch.rand(1, device=batch.device) if vary else t[:1]).expand(len(batch))
        worth = _WORTH * float(torch.exp2(torch.rand(()) * 2 - 1)) if vary else _WORTH
        better, slope = (_BETTER * float(torch.rand(())), _SLOPE * float(torch.rand(()))) if vary else (0.0, 0.0)
        transforms = torch.autocast(batch.device.type, torch.bfloat16)
        bits = {name: torch.zeros((), device=batch.device) for name in ("motion", "rest")}
        error = torch.zeros((), device=batch.device)
        done: dict[int, Decoded] = {}
        for turn in pyramid.turns(batch.shape[1], batch.shape[1] - 1 if self.config.between else 1):
            x, source = batch[:, turn.index], self._source(turn, done)
            if source is None:
                with torch.no_grad(), transforms:
                    _, done[0] = self._intra(x, self._level((t + better).clamp(0, 1)), begins=True)
                continue
            level = self._level((t - slope * turn.depth).clamp(0, 1))
            with torch.no_grad():
                part = self._moves(x, source, level, rounds=_SEARCH_ROUNDS, fast=True)
            with torch.no_grad(), transforms:
                part, done[turn.index] = self._inter(x, part, source, level, worth, cuts=False)
            meters = {name: _Total(self.shape) for name in bits}
            self.prior.code_motion(meters["motion"], part["m"], part["head"], source.known, level)
            self.prior.code_rest(meters["rest"], part, part, source.known, level)
            bits = {name: total + meters[name].bits for name, total in bits.items()}
            error = error + ((done[turn.index].picture - x) * 255).square().mean() / (batch.shape[1] - 1)
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
