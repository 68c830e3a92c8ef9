"""Entropy decoding of many small files at once: networks run on all of them together.

A small picture, or a second of sound, is a few hundred symbols a call, so most of the time of decoding it alone goes
into starting operations. Units of one model and one size share these; each has a decoder of its own, and its symbols
are those that decoding it alone gives.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from codec.coding.coder import SYMBOL_LIMIT, Reader, TableModels
from codec.coding.distributions import table_index
from codec.container import Unit
from codec.engine import units
from codec.errors import CodecError, CorruptError, FormatError
from codec.stream import Stream
from codec.system import Symbols, System, UnitSpec

_SYMBOLS = 1 << 17  # decoded together, at most: more no longer fit the processor's caches


def symbols_of(streams: Sequence[Stream]) -> list[Symbols | CodecError]:
    """Return the symbols of each stream as `Stream.symbols` does, of a video those of its first clip, or its error."""
    out: list[Symbols | CodecError] = []
    alike: dict[tuple, list[_Part]] = defaultdict(list)  # units that can be decoded together
    for i, stream in enumerate(streams):
        try:
            system, container, params = stream.coded()
            parts = [_Part(i, *pair) for pair in units.pair(container, system, params) if not pair[0].empty]
            if not parts or system.joined([parts[0].spec]) is None:
                out.append(units.decode_symbols(container, system, params))
                continue
            out.append({name: torch.zeros(shape, dtype=torch.int32) for name, shape in system.shapes(params).items()})
            for part in parts:
                alike[system, tuple(part.spec.params["grid"])].append(part)
        except CodecError as exc:
            out.append(exc)
    for (system, _), parts in alike.items():
        count = _at_once(parts[0], out)
        for start in range(0, len(parts), count):
            _decode(system, parts[start : start + count], out)
    return out


class _Part(NamedTuple):
    """A unit of the stream with this number."""

    stream: int
    spec: UnitSpec
    unit: Unit


def _at_once(part: _Part, out: Sequence[Symbols | CodecError]) -> int:
    """Return how many units like this one are decoded together."""
    whole = out[part.stream]
    if isinstance(whole, CodecError):
        return 1
    return max(_SYMBOLS // sum(whole[name][region].numel() for name, region in part.spec.regions.items()), 1)


def _decode(system: System, parts: Sequence[_Part], out: list[Symbols | CodecError]) -> None:
    """Decode units of the same shape into the symbols of their streams, or put what is wrong in their place."""
    try:
        for part in parts:
            if part.unit.damaged is not None:
                raise part.unit.damaged
        readers = Readers(system.tables, [part.unit.payload for part in parts], compact=system.compact)
        with torch.inference_mode():
            symbols = system.code(readers, system.joined([part.spec for part in parts]), None)
        readers.finish([part.unit.check for part in parts])
    except FormatError as exc:
        if len(parts) == 1:
            out[parts[0].stream] = exc
            return
        for part in parts:  # to know whose it is
            _decode(system, [part], out)
        return
    for name, values in symbols.items():
        for part, decoded in zip(parts, values.int(), strict=True):
            if not isinstance(out[part.stream], CodecError):
                out[part.stream][name][part.spec.regions[name]] = decoded


class Readers:
    """Decodes symbols [B, ...] of B payloads; for one payload it is `codec.coding.coder.Reader`.

    Raises:
        CorruptError: a symbol is impossible.
    """

    def __init__(self, models: TableModels, payloads: Sequence[bytes], *, compact: bool = False) -> None:
        self._models = models
        self._lanes = [_Lane(models, payload, compact=compact) for payload in payloads]

    def __call__(self, symbols: None, location: Tensor, log2_scale: Tensor) -> Tensor:
        """Decode the next symbols of all payloads; see `codec.coding.coder.Coder`."""
        index, shift = (part.flatten(1).numpy() for part in table_index(location, log2_scale))
        order = np.argsort(index.astype(np.int16), axis=1, kind="stable")
        ordered = np.take_along_axis(index, order, 1)
        low, high = (part.reshape(index.shape) for part in self._models.tables.bounds(ordered.ravel()))
        residual = self._entries(ordered) + low
        for lane, *line in zip(self._lanes, residual, low, high, strict=True):
            lane.escapes(*line)
        out = np.empty_like(residual)
        np.put_along_axis(out, order, residual, 1)
        out += shift
        if out.size and np.abs(out).max() >= SYMBOL_LIMIT:
            raise CorruptError("a decoded symbol is out of range")
        for lane, line in zip(self._lanes, out.astype("<i4"), strict=True):
            lane.note(line)
        return torch.from_numpy(out).to(location.dtype).reshape(location.shape)

    def masses(self, symbols: None, log2_mass: Tensor) -> Tensor:
        """Decode the next symbols of computed alphabets; see `codec.coding.coder.Coder`."""
        return torch.stack([lane.masses(None, part) for lane, part in zip(self._lanes, log2_mass, strict=True)])

    def _entries(self, ordered: np.ndarray) -> np.ndarray:
        """Return table entries [B, n] for tables [B, n] in order of number, runs of one table at a time."""
        entries = np.empty(ordered.shape, np.int64)
        if not entries.size:
            return entries
        begins = np.ones(ordered.shape, bool)  # of runs
        begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        starts = np.flatnonzero(begins)
        counts = np.diff(starts, append=ordered.size).tolist()
        tables = ordered.ravel()[starts].tolist()
        bounds = np.searchsorted(starts, np.arange(len(ordered) + 1) * ordered.shape[1]).tolist()
        for lane, line, a, b in zip(self._lanes, entries, bounds, bounds[1:], strict=False):
            lane.runs(tables[a:b], counts[a:b], line)
        return entries

    def finish(self, checks: Sequence[int]) -> None:
        """Compare with the checks stored in the streams; see `Reader.finish`."""
        for lane, check in zip(self._lanes, checks, strict=True):
            lane.finish(check)


class _Lane(Reader):
    """The decoder of one payload among several."""

    def runs(self, tables: list[int], counts: list[int], out: np.ndarray) -> None:
        """Decode runs of symbols, each under one table, into `out`."""
        models, decode = self._models, self._decoder.decode
        try:
            parts = [decode(models[table], count) for table, count in zip(tables, counts, strict=True)]
        except AssertionError as exc:  # see `Reader._decode`
            raise CorruptError("the payload is not one an encoder writes") from exc
        np.concatenate(parts, out=out)

    def escapes(self, residual: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """Decode what lies beyond the tables, in place."""
        escaped = residual > high
        if escaped.any():
            bounds = zip(low[escaped].tolist(), high[escaped].tolist(), strict=True)
            residual[escaped] = [self._escape(*pair) for pair in bounds]

    def note(self, symbols: np.ndarray) -> None:
        """Take int32 little-endian symbols into the check."""
        self._crc = zlib.crc32(symbols, self._crc)
