"""Systems for video: analysed, coded and synthesized in groups of frames, so that memory does not grow with a clip."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from codec.media.video import VideoFormat
from codec.system import Params, Progress, Symbols, System, UnitSpec, no_progress

Tell = Callable[[str], None]  # called with a few words on how it goes, e.g. "0.12 bpp, 33.1 dB"


def tell_nobody(text: str) -> None:
    """Keep it to oneself."""


class Store(Protocol):
    """Where a fit that takes long keeps what it would not like to lose."""

    def load(self) -> dict[str, Tensor] | None:
        """Return what was saved last, or None."""

    def save(self, tensors: dict[str, Tensor]) -> None:
        """Replace what was saved, at once or not at all."""


class VideoSystem(System):
    """Base of systems for video. A unit is a group of frames.

    Signals are RGB frames [T, H, W, 3], uint8, or uint16 where the source has more than 8 bits a sample. Symbols of a
    group are tensors whose first dimension counts frames, or is 1; whole symbols are those of all groups, one after
    another in that dimension. Parameters hold, beside the header's (`codec.params.VIDEO`), `length`: the number of
    frames, once known, and of a clip that was appended to others `follows`, whether its groups go on from theirs; those
    of a unit also `frames`, how many it has, and `first`, whether no group is before it.

    Attributes:
        chained: a group needs the symbols of all groups before it to be synthesized (never to be entropy-decoded).
        fits: a group is found by a long optimisation, worth a `Store`.
        film: frames of a film for training.
    """

    media = "video"
    chained: ClassVar[bool] = False
    fits: ClassVar[bool] = False
    film: int = 3

    @abstractmethod
    def header(
        self, format: VideoFormat, *, quality: int, effort: int, frames: int | None, group: int | None
    ) -> Params:
        """Return the header's values (`codec.params.video_params`) for a video.

        Args:
            quality: index, 0..1024.
            frames: how many there are, if known.
            group: frames a group that were asked for.
        """

    @abstractmethod
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
        """Map the frames of a group to its symbols, int32.

        Args:
            params: of its unit.
            state: what `follow` returned for the group before; None for the first.
        """

    @abstractmethod
    def synthesize_group(self, symbols: Symbols, params: Params, state: Any) -> Iterator[np.ndarray]:
        """Yield the frames of a group, [H, W, 3] of uint8 or uint16, in order."""

    @abstractmethod
    def group_shapes(self, params: Params, frames: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of every symbol tensor of a group of some frames."""

    def follow(self, symbols: Symbols, params: Params, state: Any) -> Any:
        """Return what the group after one with these symbols needs to know; None where groups are independent."""
        return None

    # --- sizes ---------------------------------------------------------------------------------------------

    def groups(self, params: Params) -> list[tuple[int, int]]:
        """Return the first frame and the frame after the last of every group."""
        length, group = params["length"], params["group"]
        return [(start, min(start + group, length)) for start in range(0, length, group)]

    def unit_params(self, params: Params, start: int, stop: int) -> Params:
        """Return the parameters of the unit of frames start ... stop - 1."""
        return params | {"frames": stop - start, "first": start == 0 and not params.get("follows", False)}

    def shapes(self, params: Params) -> dict[str, tuple[int, ...]]:
        total: dict[str, tuple[int, ...]] = {}
        for start, stop in self.groups(params):
            for name, (count, *rest) in self.group_shapes(params, stop - start).items():
                total[name] = (total.get(name, (0,))[0] + count, *rest)
        return total

    def units(self, params: Params) -> list[UnitSpec]:
        specs, begun = [], dict.fromkeys(self.group_shapes(params, 1), 0)
        for start, stop in self.groups(params):
            regions = {}
            for name, (count, *_) in self.group_shapes(params, stop - start).items():
                regions[name] = (slice(begun[name], begun[name] + count),)
                begun[name] += count
            specs.append(UnitSpec(self.unit_params(params, start, stop), regions))
        return specs

    # --- whole signals -------------------------------------------------------------------------------------

    def analyze(self, signal: Any, *, quality: float, effort: int, progress: Progress) -> tuple[Symbols, Params]:
        """See `System.analyze`. The signal is a `codec.media.video.Video`."""
        from codec.media.video_pixels import to_rgb
        from codec.params import quality_index

        params = self.header(
            signal.format, quality=quality_index(quality), effort=effort, frames=signal.length, group=None
        ) | {"length": signal.length}
        parts, state = [], None
        for start, stop in self.groups(params):
            unit = self.unit_params(params, start, stop)
            share = lambda f, start=start, stop=stop: progress((start + f * (stop - start)) / signal.length)
            rgb = to_rgb(signal.frames[start:stop].planes, signal.format)
            parts.append(self.analyze_group(rgb, unit, state, effort=effort, progress=share))
            state = self.follow(parts[-1], unit, state)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, params

    def synthesize(self, symbols: Symbols, params: Params, *, progress: Progress) -> np.ndarray:
        """Map whole symbols to RGB frames [T, H, W, 3]."""
        out, state = [], None
        for spec in self.units(params):
            part = {name: values[spec.regions[name]] for name, values in symbols.items()}
            for frame in self.synthesize_group(part, spec.params, state):
                out.append(frame)
                progress(len(out) / params["length"])
            state = self.follow(part, spec.params, state)
        return np.stack(out)
