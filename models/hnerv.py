"""HNeRV: a network fitted to each group of frames is the code; its weights and embeddings are the symbols.

After Chen et al., "HNeRV: A Hybrid Neural Representation for Videos" (CVPR 2023): an embedding for every frame and a
decoder for all. What that paper counts as parameters is written here as a bitstream: everything is fitted at its rate,
weights in learned steps (Kwan et al., "NVRC", NeurIPS 2024), and a group may start from the network of the one before
and code the differences (Maiya et al., "NIRVANA", CVPR 2023).

    frames --[ principal components, then gradient descent ]--> embeddings e_t --[ round ]--> symbols --> bits
    e_t --[ decoder, fitted to the group, its weights rounded and coded, too ]--> frame t

Nothing is trained beforehand: the model in the zoo holds nothing but the probability tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codec.coding.coder import Coder, RateMeter
from codec.coding.distributions import ScaleMixture
from codec.errors import CorruptError, RecipeError
from codec.media.video import VideoFormat
from codec.models.layers import frame_embeddings
from codec.models.layers.coded_weights import WeightLayout
from codec.models.layers.frame_decoder import OPTIONS, FrameDecoder, Shape
from codec.models.layers.overfit import Fit, Plan, time_of
from codec.models.layers.tiles import frame_samples
from codec.params import QUALITY_STEPS, video_format, video_params
from codec.system import Params, Progress, Symbols, no_progress
from codec.video_system import Store, Tell, VideoSystem, tell_nobody

EPOCHS = {1: 12, 2: 24, 3: 40, 4: 60, 5: 90, 6: 140, 7: 200, 8: 300, 9: 500, 10: 800}  # by effort
_LAMBDA = (6e-5, 1.5e-2)  # weight of the squared error (8-bit levels) against bits per pixel, at quality 0 and 100
_WEIGHTS = (0.085, 1.17)  # for each pixel of a group to the power of three quarters, at both ends
_CHANNELS = 4  # of an embedding
_CELLS = 11  # of an embedding along the shorter side, about
_MOST = {"width": 256, "channels": 256, "stages": 7}  # what a stream may ask for
_GROUP_BYTES = 1 << 30  # of the float frames of a group
_MAX_GROUP = 150  # frames
DEFAULT_OPTIONS = frozenset({"pointwise"})


class HNeRV(VideoSystem):
    """The hnerv system. Symbols of a group of T frames: `key`, `bases`, `deviations`, `weights`, `traits` [1, n] and
    `embeddings` [T, h, w, C].

    The header's `numbers` are the shape of the network: width, channels of an embedding, stages, bits of `OPTIONS`.
    """

    id = "hnerv"
    version = 1
    chained = True
    fits = True

    def __init__(self) -> None:
        super().__init__()
        self.shape = ScaleMixture()
        self._device = torch.device("cpu")
        self._layouts: dict[Shape, WeightLayout] = {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> HNeRV:
        return cls(**config)

    # --- files ---------------------------------------------------------------------------------------------

    def header(
        self, format: VideoFormat, *, quality: int, effort: int, frames: int | None, group: int | None
    ) -> Params:
        most = max(min(_GROUP_BYTES // (12 * format.width * format.height), _MAX_GROUP), 1)
        if group is None:
            group = most if frames is None else -(-frames // -(-frames // most))
        pixels = format.width * format.height * min(group, frames or group)
        shape = choose(min(format.width, format.height), pixels, quality / QUALITY_STEPS)
        return video_params(format, quality, group, numbers_of(shape))

    def group_shapes(self, params: Params, frames: int) -> dict[str, tuple[int, ...]]:
        shape = shape_of(params["numbers"])
        rows, cols = shape.grid(params["height"], params["width"])
        embeddings = {
            "traits": frame_embeddings.trait_shape(shape.channels),
            "embeddings": (frames, rows, cols, shape.channels),
        }
        return self._layout(shape).shapes_of_symbols() | embeddings

    def code(self, coder: Coder, params: Params, symbols: Symbols | None) -> Symbols:
        shape = shape_of(params["numbers"])
        sizes = params["frames"], *shape.grid(params["height"], params["width"]), shape.channels
        weights = self._layout(shape).code(coder, symbols)
        return weights | frame_embeddings.code(coder, symbols, sizes)

    def _layout(self, shape: Shape) -> WeightLayout:
        if shape not in self._layouts:
            with torch.device("meta"):
                skeleton = FrameDecoder(shape)
            self._layouts[shape] = WeightLayout(skeleton)
        return self._layouts[shape]

    # --- signals -------------------------------------------------------------------------------------------

    def analyze_group(
        self,
        frames: np.ndarray,
        params: Params,
        state: dict[str, Tensor] | None,
        *,
        effort: int,
        progress: Progress = no_progress,
        tell: Tell = tell_nobody,
        store: Store | None = None,
    ) -> Symbols:
        shape, quality = shape_of(params["numbers"]), params["quality"] / QUALITY_STEPS
        x = signal_of(frames)
        start = frame_embeddings.principal(x, shape.grid(*frames.shape[1:3]), shape.channels)
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            torch.manual_seed(0)
            decoder = FrameDecoder(shape)
            plan = Plan(EPOCHS[effort], weight_of(quality))
            fit = Fit(decoder, x.to(self._device), start, plan, self.shape.to(self._device), before=state)
            fit.run(progress, tell, store)
            self.shape.cpu()
        symbols = fit.symbols()
        return symbols if state is None else self._cheaper(symbols, params, state)

    def _cheaper(self, symbols: Symbols, params: Params, state: dict[str, Tensor]) -> Symbols:
        """Return symbols as they are, or their weights as differences to the network before."""
        layout = self._layout(shape_of(params["numbers"]))
        return min((symbols, symbols | layout.differences(symbols, state)), key=lambda s: self._bits(s, params))

    def _bits(self, symbols: Symbols, params: Params) -> float:
        meter = RateMeter(self.shape, noise=False)
        with torch.no_grad():
            self.code(meter, params, {name: values[None].double() for name, values in symbols.items()})
        return float(meter.bits.sum())

    def follow(self, symbols: Symbols, params: Params, state: dict[str, Tensor] | None) -> dict[str, Tensor]:
        return self._layout(shape_of(params["numbers"])).resolve(symbols, state)

    @torch.no_grad()
    def synthesize_group(
        self, symbols: Symbols, params: Params, state: dict[str, Tensor] | None
    ) -> Iterator[np.ndarray]:
        if state is None and not int(symbols["key"]):
            raise CorruptError("a group of frames needs the network of the group before, which is not there")
        shape = shape_of(params["numbers"])
        decoder = FrameDecoder(shape)
        decoder.load_state_dict(self._layout(shape).dequantize(self.follow(symbols, params, state)))
        decoder = decoder.to(self._device).to(memory_format=torch.channels_last)
        e = frame_embeddings.dequantize(symbols["embeddings"], symbols["traits"]).to(self._device)
        form = video_format(params)
        for t in range(len(e)):
            before = e[t - 1 : t] if t else torch.zeros_like(e[:1])
            picture = decoder(e[t : t + 1], before, time_of(torch.tensor([t], device=self._device), len(e)))
            yield frame_samples(picture, form)

    def embed(self, symbols: Symbols, params: Params) -> Tensor:
        """Return the embeddings [T, C, h, w]."""
        parts = []
        for spec in self.units(params):
            unit = (symbols[name][spec.regions[name]] for name in ("embeddings", "traits"))
            parts.append(frame_embeddings.dequantize(*unit))
        return torch.cat(parts)

    # --- models --------------------------------------------------------------------------------------------

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        """Refuse: nothing is trained.

        Raises:
            RecipeError: always.
        """
        raise RecipeError("hnerv is not trained: it is fitted to each clip by `codec encode -m hnerv`")

    def fixed_point(self) -> dict[str, int]:
        return {}

    def freeze(self, device: str) -> None:
        self.requires_grad_(False).eval()
        self._device = torch.device(device)


def signal_of(frames: np.ndarray) -> Tensor:
    """Return frames [T, H, W, 3] of unsigned integers as [T, 3, H, W] in -0.5..0.5."""
    return torch.from_numpy(frames.astype(np.float32)).permute(0, 3, 1, 2) / np.iinfo(frames.dtype).max - 0.5


def weight_of(quality: float) -> float:
    """Return lambda at a quality of 0..1."""
    return _LAMBDA[0] * (_LAMBDA[1] / _LAMBDA[0]) ** quality


def choose(side: int, pixels: int, quality: float) -> Shape:
    """Return the network for a group of so many pixels, with a shorter side of `side`, at a quality of 0..1.

    The weights are given a share of the bits that the quality is expected to take; the width comes as near as it can.
    """
    stages = min(max(round(np.log2(side / 4 / _CELLS)), 1), _MOST["stages"])
    target = pixels**0.75 * _WEIGHTS[0] * (_WEIGHTS[1] / _WEIGHTS[0]) ** quality
    shapes = [Shape(_CHANNELS, width, int(stages), DEFAULT_OPTIONS) for width in range(8, 129, 4)]
    return min(shapes, key=lambda shape: abs(np.log(count(shape) / target)))


def count(shape: Shape) -> int:
    """Return how many weights a network has."""
    with torch.device("meta"):
        return sum(p.numel() for p in FrameDecoder(shape).parameters())


def numbers_of(shape: Shape) -> tuple[int, ...]:
    """Return what the header holds of a network's shape."""
    return shape.width, shape.channels, shape.stages, sum(1 << OPTIONS.index(name) for name in shape.options)


def shape_of(numbers: tuple[int, ...]) -> Shape:
    """Return the shape that a header describes.

    Raises:
        CorruptError: it describes none, or one larger than a stream may ask for.
    """
    if len(numbers) != 4 or numbers[3] >> len(OPTIONS) or not all(numbers[:3]):
        raise CorruptError(f"{numbers} do not describe a network of hnerv")
    shape = Shape(
        numbers[1], numbers[0], numbers[2], frozenset(n for i, n in enumerate(OPTIONS) if numbers[3] >> i & 1)
    )
    if any(getattr(shape, name) > most for name, most in _MOST.items()):
        raise CorruptError(f"a network of width {shape.width}, {shape.channels} channels and {shape.stages} stages is "
                           "larger than a stream may ask for")  # fmt: skip
    return shape
