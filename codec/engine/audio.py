"""Sound to .lcb bytes and back, piece by piece: joins systems, coder, container and resampling."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO

import numpy as np

from codec import checkpoint, live
from codec.audio_system import Analyzer, AudioSystem, Synthesizer
from codec.container import END, METADATA, UNIT, ChunkWriter, Container, Unit, inflate, parse_header, read_end
from codec.engine import units
from codec.errors import CorruptError, LimitError, TruncatedError
from codec.media.audio import Audio
from codec.media.resample import Resampler, resample
from codec.params import DEPTHS, audio_params, layout_of, pack, quality_index, quality_of, unpack
from codec.system import Params, Progress, Symbols, no_progress

_TAGS = METADATA["tags"]
_PIECE = 1 << 16  # samples pushed at a time when all are there
_RESAMPLER_REACH = 512  # samples at the system's rate; filters are 128 taps at the lower rate


class Encoder:
    """Makes a .lcb file of sound while it comes in.

    What is written does not depend on how the samples are cut into pieces. It lags behind by one unit and what the
    networks look ahead; nothing older is held.

    Args:
        rate, layout, channels, depth, tags: see `codec.media.audio.Audio`.
        quality: 0..100.
        effort: 1..10.
    """

    def __init__(
        self,
        model: checkpoint.ModelInfo,
        system: AudioSystem,
        *,
        rate: int,
        layout: str,
        channels: int,
        depth: str,
        quality: float,
        effort: int = 1,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        if not 1 <= effort <= 10:
            raise ValueError(f"effort {effort} is outside 1..10")
        self._system = system
        params = audio_params(rate, layout, channels, depth, quality_index(quality))
        self._writer = ChunkWriter(model.system, model.version, model.short_digest, pack(params))
        self._params = params | {"groups": system.groups(channels)}
        self._analyzer = Analyzer(system, self._params, effort)
        self._resampler = Resampler(rate, system.rate or rate, channels)
        self._start = [self._writer.start]
        if tags:
            self._start.append(self._writer.metadata("tags", json.dumps(dict(tags), sort_keys=True).encode()))
        self._length = 0

    def push(self, samples: np.ndarray) -> bytes:
        """Take samples [channels, n] and return the bytes that are ready, maybe none."""
        self._length += samples.shape[1]
        return self._code(self._analyzer.push(self._resampler.push(samples)))

    def finish(self) -> bytes:
        """Return the bytes that are left."""
        out = self._code(self._analyzer.push(self._resampler.finish()))
        *others, last = map(self._unit, self._analyzer.finish())
        return out + b"".join(map(self._writer.unit, others)) + self._writer.end(self._length, last)

    def _code(self, parts: Iterable[Symbols]) -> bytes:
        out, self._start = self._start, []
        out += [self._writer.unit(self._unit(symbols)) for symbols in parts]
        return b"".join(out)

    def _unit(self, symbols: Symbols) -> Unit:
        spec = self._system.unit_spec(self._params, 0, next(iter(symbols.values())).shape[1])
        return units.encode_unit(self._system, spec, {name: part[None].double() for name, part in symbols.items()})


class Decoder:
    """Follows a .lcb file of sound, which may still be growing; iterate over it for blocks of samples [channels, n].

    Args:
        file: binary file, not necessarily seekable.
        start: what `codec.live.read_start` has read from it already.

    Attributes:
        rate, layout, channels, depth, metadata: see `codec.media.audio.Audio`; metadata is there once a block has been
            asked for.
        model, quality: what it was made with.

    Raises:
        FormatError: it is not a .lcb file of sound.
        UnknownSystemError, MissingModelError: what it needs is not installed.
    """

    def __init__(self, file: BinaryIO, *, start: bytes = b"", device: str = "auto") -> None:
        self._file, self._start = file, start or live.read_start(file)
        values, params, _ = parse_header(self._start)
        self._params = unpack(params)
        if "rate" not in self._params:
            raise CorruptError("the stream does not hold sound")
        self.rate, self.depth = self._params["rate"], DEPTHS[self._params["depth"]]
        self.layout, self.channels = layout_of(self._params)
        self.metadata: dict[str, str] = {}
        model = checkpoint.find_digest(values["system"], values["version"], values["digest"], "audio")
        self.model, self.quality = model.name, quality_of(self._params["quality"])
        self._system = checkpoint.load(model, device)
        self._params["groups"] = self._system.groups(self.channels)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield blocks of samples.

        Raises:
            TruncatedError: the stream ends before its end chunk; what came before has been yielded.
            CorruptError, DesyncError: it is damaged.
        """
        player = Player(self._system, self._params)
        for kind, body, check in live.read_chunks(self._file, self._start):
            if kind == END:
                length, last = read_end(body, check)
                yield from player.finish(last, length)
                return
            if kind == UNIT:
                yield player.push(Unit(body, check))
            elif kind == _TAGS:
                self.metadata = read_tags(inflate(body))
            elif not kind.islower():
                raise CorruptError(f"chunk {kind!r} has no place in a stream of sound")
        raise TruncatedError("the stream of sound ends before its end; what there was has been decoded")


class Player:
    """Turns units into samples at the source's rate."""

    def __init__(self, system: AudioSystem, params: Params) -> None:
        self._system, self._params = system, params
        self.channels = layout_of(params)[1]
        self._synthesizer = Synthesizer(system, params)
        self._resampler = Resampler(system.rate or params["rate"], params["rate"], self.channels)
        self._frames = self._given = 0

    def push(self, unit: Unit) -> np.ndarray:
        """Return what a whole unit adds, [channels, n]."""
        return self.play(self._decode(unit, self._system.unit))

    def finish(self, last: Unit, length: int) -> Iterator[np.ndarray]:
        """Yield what the last unit adds to sound of `length` samples.

        Raises:
            CorruptError: units and length do not fit.
        """
        frames = self._system.frames(self._system.resampled(length, self._params["rate"])) - self._frames
        if not 0 <= frames <= self._system.unit:
            raise CorruptError(f"the units do not make {length} samples")
        missing = length - self._given
        tail = [self.play(self._decode(last, frames))] if frames else []
        yield exactly(np.concatenate([*tail, *self.drain()], 1), missing)

    def drain(self) -> Iterator[np.ndarray]:
        """Yield what only needed to know that nothing follows."""
        yield self.play(None)
        yield self._resampler.finish()

    def _decode(self, unit: Unit, frames: int) -> Symbols:
        self._frames += frames
        decoded = units.decode_unit(self._system, self._system.unit_spec(self._params, 0, frames), unit)
        return {name: part[0] for name, part in decoded.items()}

    def play(self, symbols: Symbols | None) -> np.ndarray:
        """Return what the symbols of a unit add; None: that nothing follows."""
        samples = self._synthesizer.finish() if symbols is None else self._synthesizer.push(symbols)
        out = self._resampler.push(samples[: self.channels].numpy())
        self._given += out.shape[1]
        return out


def exactly(samples: np.ndarray, count: int) -> np.ndarray:
    """Return the first `count` samples of each channel; rounding of rates may leave too few, the last is repeated."""
    missing = max(count - samples.shape[1], 0)
    return np.pad(samples[:, :count], ((0, 0), (0, missing)), "edge" if samples.shape[1] else "constant")


def encode(
    sound: Audio,
    model: checkpoint.ModelInfo,
    system: AudioSystem,
    *,
    quality: float,
    effort: int = 1,
    strip: bool = False,
    progress: Progress = no_progress,
) -> bytes:
    """Return a .lcb file of sound with its tags, unless `strip`."""
    encoder = Encoder(
        model, system, rate=sound.rate, layout=sound.layout, channels=sound.channels, depth=sound.depth,
        quality=quality, effort=effort, tags={} if strip else sound.metadata,
    )  # fmt: skip
    parts = []
    for start in range(0, sound.length, _PIECE):
        parts.append(encoder.push(sound.samples[:, start : start + _PIECE]))
        progress(start / sound.length)
    return b"".join([*parts, encoder.finish()])


def derived(container: Container, params: Params, system: AudioSystem) -> Params:
    """Return what the parameters of a whole file need beside its header: groups of channels, and the length.

    Of a file whose end is missing it is the length that its units are sure to cover.
    """
    length = container.length
    if length is None:
        hops = max(len(container.units) * system.unit - system.extra, 0)  # the end holds the only shorter unit
        length = max(hops * system.hop * params["rate"] // (system.rate or params["rate"]) - 1, 0)
    return {"groups": system.groups(layout_of(params)[1]), "length": length}


def check_limits(params: Params, *, max_pixels: int, max_memory: int) -> None:
    """Refuse sound by its header and end, before anything is allocated for it.

    Raises:
        LimitError: it claims more memory than the limits allow.
    """
    channels = layout_of(params)[1]
    needed = params["length"] * channels * 12  # bytes: samples, a copy while they are joined, symbols
    if needed > max_memory:
        raise LimitError(
            f"decoding {params['length'] / params['rate']:.0f} s of {channels} channels at once would take about "
            f"{needed >> 20} MiB, over the limit of {max_memory >> 20}; raise --max-memory, or decode it as a stream"
        )


def decode(
    container: Container,
    params: Params,
    system: AudioSystem,
    *,
    start: int = 0,
    stop: int | None = None,
    progress: Progress = no_progress,
) -> Audio:
    """Return samples start ... stop - 1 of a parsed file; only the units they depend on are decoded.

    Units that are known to be damaged, which only a tolerant reader lets through, become silence.

    Raises:
        CorruptError, DesyncError: it is damaged, or units and length do not fit.
        ValueError: there are no such samples.
    """
    layout, channels = layout_of(params)
    specs = units.pair(container, system, params)
    stop = params["length"] if stop is None else stop
    if not 0 <= start <= stop <= params["length"]:
        raise ValueError(f"samples {start} to {stop} of {params['length']}")
    first, last = _range(system, params, start, stop)
    player = Player(system, params)
    blocks = [np.zeros((channels, 0), np.float32)]
    for i, (spec, unit) in enumerate(specs[first:last]):
        if spec.empty:
            continue
        if unit.damaged is None:
            symbols = {name: part[0] for name, part in units.decode_unit(system, spec, unit).items()}
        else:
            symbols = system.blank(params, spec.params["grid"][1])
        blocks.append(player.play(symbols))
        progress(i / (last - first))
    blocks += player.drain() if first < last else []
    skip = start - first * system.unit * system.hop * params["rate"] // (system.rate or params["rate"])
    samples = exactly(np.concatenate(blocks, 1)[:, skip:], stop - start)
    tags = read_tags(container.metadata["tags"]) if "tags" in container.metadata else {}
    return Audio(samples, params["rate"], depth=DEPTHS[params["depth"]], layout=layout, metadata=tags)


def play(
    symbols: Symbols, params: Params, system: AudioSystem, *, rate: int | None = None, length: int | None = None
) -> Audio:
    """Return the sound of whole symbols that come from no file.

    Args:
        params: quality, groups and length at the system's rate.
        rate: samples a second to convert to.
        length: samples a channel at that rate, at most what there is.
    """
    samples = system.synthesize(symbols, params, progress=no_progress).numpy()
    rate = rate or system.rate
    return Audio(resample(samples, system.rate, rate)[:, :length], rate)


def _range(system: AudioSystem, params: Params, start: int, stop: int) -> tuple[int, int]:
    """Return the units that samples start ... stop - 1 of the source depend on."""
    rate = system.rate or params["rate"]
    size = system.unit * system.hop  # samples a unit, at the system's rate
    reach = 0 if rate == params["rate"] else _RESAMPLER_REACH * max(rate // params["rate"], 1)
    low = start * rate // params["rate"] - system.back * system.hop - reach
    high = -(-stop * rate // params["rate"]) + system.ahead * system.hop + reach
    first = max(low, 0) // size
    while first * size * params["rate"] % rate:  # where a sample of the system lies between two of the source
        first -= 1
    total = system.frames(system.resampled(params["length"], params["rate"]))
    return first, min(-(-high // size), -(-total // system.unit)) if stop > start else first


def read_tags(data: bytes) -> dict[str, str]:
    """Return the tags of a stream of sound.

    Raises:
        CorruptError: they are not a JSON object of strings.
    """
    try:
        tags = json.loads(data)
    except ValueError as exc:
        raise CorruptError("the tags are not JSON") from exc
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise CorruptError("the tags are not an object of strings")
    return tags
