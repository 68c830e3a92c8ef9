"""Systems for sound: analysed, coded and synthesized in frames, so that a file can be made while it is recorded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codec.params import audio_params, quality_index
from codec.system import Params, Progress, Symbols, System, UnitSpec


class AudioSystem(System):
    """Base of systems for sound.

    Hop i is the samples i * hop ... (i + 1) * hop - 1. Frame f sees the samples of hops f - before ... f + after - 1,
    and hop i is made of frames i - back ... i + ahead. Beyond both ends samples are zero, and symbols are `nothing`.
    Channels are coded in groups of `channels`, the last one filled up by repeating its last channel; groups do not know
    of each other.

    Symbols are [groups, frames, ...]. Parameters hold, beside the header's, `groups` and, once known, `length`: samples
    a channel at the source's rate.

    Attributes:
        rate: samples a second the networks work at; None for that of the source.
        channels: coded together.
        hop, unit: samples a frame, frames a unit: part of the bitstream.
        before, after, back, ahead: reach of analysis and of synthesis, in hops and frames.
        extra: frames beyond the last hop that its samples need.
        nothing: the symbol of which there is nothing to hear.
    """

    media = "audio"
    rate: int | None
    channels: int
    hop: int
    unit: int
    before: int
    after: int
    back: int
    ahead: int
    extra: int
    nothing = 0

    @abstractmethod
    def analyze_frames(self, x: Tensor, params: Params, effort: int) -> Symbols:
        """Map samples [groups, channels, (before + frames + after - 1) * hop] to the symbols of the frames."""

    @abstractmethod
    def synthesize_hops(self, symbols: Symbols, params: Params) -> Tensor:
        """Map the symbols of back + hops + ahead frames to samples [groups, channels, hops * hop]."""

    @abstractmethod
    def frame_shapes(self, params: Params) -> dict[str, tuple[int, ...]]:
        """Return the shape of every symbol tensor in one frame of one group."""

    # --- sizes ---------------------------------------------------------------------------------------------

    def resampled(self, length: int, rate: int) -> int:
        """Return how many samples at the system's rate `length` samples at `rate` become."""
        return length if self.rate is None else round(Fraction(length * self.rate, rate))

    def frames(self, length: int) -> int:
        """Return the number of frames of `length` samples at the system's rate."""
        return -(-length // self.hop) + self.extra if length else 0

    def groups(self, channels: int) -> int:
        """Return the number of groups of channels."""
        return -(-channels // self.channels)

    def shapes(self, params: Params) -> dict[str, tuple[int, ...]]:
        frames = self.frames(self.resampled(params["length"], params["rate"]))
        return {name: (params["groups"], frames, *shape) for name, shape in self.frame_shapes(params).items()}

    def blank(self, params: Params, frames: int) -> Symbols:
        """Return the symbols of frames of which nothing is known."""
        shapes = self.frame_shapes(params).items()
        full = {name: (params["groups"], frames, *shape) for name, shape in shapes}
        return {name: torch.full(shape, self.nothing, dtype=torch.int32) for name, shape in full.items()}

    def units(self, params: Params) -> list[UnitSpec]:
        length = self.resampled(params["length"], params["rate"])
        frames = self.frames(length)
        # A unit is written once its samples are known. If that was the last, one of no frames follows, to end the file.
        written = max(length // self.hop - self.after + 1, 0) // self.unit * self.unit
        starts = range(0, max(frames, written + 1), self.unit)
        return [self.unit_spec(params, start, min(start + self.unit, frames)) for start in starts]

    def unit_spec(self, params: Params, start: int, stop: int) -> UnitSpec:
        """Return what `code` and others need to know of the unit of frames start ... stop - 1."""
        regions = {name: (slice(None), slice(start, stop)) for name in self.frame_shapes(params)}
        return UnitSpec(params | {"grid": (params["groups"], stop - start)}, regions)

    # --- whole signals -------------------------------------------------------------------------------------

    def analyze(self, signal: Any, *, quality: float, effort: int, progress: Progress) -> tuple[Symbols, Params]:
        """See `System.analyze`. The signal, a `codec.media.audio.Audio`, must be at the system's rate."""
        params = audio_params(signal.rate, signal.layout, signal.channels, signal.depth, quality_index(quality))
        params |= {"length": signal.length, "groups": self.groups(signal.channels)}
        analyzer = Analyzer(self, params, effort)
        parts = []
        for unit in analyzer.push(signal.samples):
            parts.append(unit)
            progress(len(parts) * self.unit * self.hop / signal.length)
        parts += analyzer.finish()
        return {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}, params

    def synthesize(self, symbols: Symbols, params: Params, *, progress: Progress) -> Tensor:
        """Map whole symbols to samples [groups * channels, n], float32, at the system's rate."""
        synthesizer = Synthesizer(self, params)
        frames = next(iter(symbols.values())).shape[1]
        parts = [torch.zeros(params["groups"] * self.channels, 0)]
        for start in range(0, frames, self.unit):
            parts.append(synthesizer.push({k: part[:, start : start + self.unit] for k, part in symbols.items()}))
            progress(start / frames)
        if frames:
            parts.append(synthesizer.finish())
        return torch.cat(parts, 1)[:, : self.resampled(params["length"], params["rate"])]


class Analyzer:
    """Turns samples, as they come, into the symbols of one unit after another.

    Networks are always given the samples of exactly one unit and its surroundings, so files do not depend on the sizes
    of the pieces that were pushed.
    """

    def __init__(self, system: AudioSystem, params: Params, effort: int = 1) -> None:
        self._system, self._params, self._effort = system, params, effort
        self._held = [np.zeros((1, system.before * system.hop), np.float32)]
        self._count = system.before * system.hop  # samples held
        self._length = 0
        self._done = 0  # frames

    def push(self, samples: np.ndarray) -> Iterator[Symbols]:
        """Take samples [channels, n] and yield the symbols of the units they complete."""
        system = self._system
        self._held.append(samples)
        self._count += samples.shape[1]
        self._length += samples.shape[1]
        while self._count >= (system.before + system.unit + system.after - 1) * system.hop:
            yield self._analyze(system.unit)

    def finish(self) -> Iterator[Symbols]:
        """Yield the symbols of the units that are left; the last may have no frames."""
        system = self._system
        frames = system.frames(self._length)
        end = (system.before + frames + system.after - 1) * system.hop  # of the padded signal
        missing = end - system.before * system.hop - self._length
        if missing > 0:
            self._held.append(np.zeros((1, missing), np.float32))
            self._count += missing
        while True:
            count = min(system.unit, frames - self._done)
            yield self._analyze(count) if count else self._nothing()
            if self._done == frames:
                return

    def _nothing(self) -> Symbols:
        return self._system.blank(self._params, 0)

    def _analyze(self, frames: int) -> Symbols:
        system = self._system
        channels = max(len(part) for part in self._held)
        whole = np.concatenate([np.broadcast_to(part, (channels, part.shape[1])) for part in self._held], 1)
        x = torch.from_numpy(whole[:, : (system.before + frames + system.after - 1) * system.hop])
        self._held = [whole[:, frames * system.hop :]]
        self._count -= frames * system.hop
        self._done += frames
        filling = x[-1:].expand(-channels % system.channels, -1)
        with torch.no_grad():
            grouped = torch.cat([x, filling]).unflatten(0, (-1, system.channels))
            return system.analyze_frames(grouped, self._params, self._effort)


class Synthesizer:
    """Turns the symbols of one unit after another into samples, as soon as they can be known."""

    def __init__(self, system: AudioSystem, params: Params) -> None:
        self._system, self._params = system, params
        self._held = self._blank(system.back)

    def push(self, symbols: Symbols) -> Tensor:
        """Take the symbols of a unit [groups, frames, ...] and return samples [groups * channels, n]."""
        system = self._system
        held = {name: torch.cat([self._held[name], symbols[name].int()], 1) for name in self._held}
        hops = next(iter(held.values())).shape[1] - system.back - system.ahead
        if hops <= 0:
            self._held = held
            return torch.zeros(self._params["groups"] * system.channels, 0)
        self._held = {name: part[:, hops:] for name, part in held.items()}
        with torch.no_grad():
            return system.synthesize_hops(held, self._params).flatten(0, 1).float().cpu()

    def finish(self) -> Tensor:
        """Return the samples that only needed to know that nothing follows."""
        return self.push(self._blank(self._system.ahead))

    def _blank(self, frames: int) -> Symbols:
        return self._system.blank(self._params, frames)
