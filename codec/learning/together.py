"""Entropy decoding of many small files at once: networks run on all of them together.

A small picture is a few hundred symbols a call, so most of the time of decoding it alone goes into starting operations.
Files of one model and one size share these; each has a decoder of its own, and its symbols are those that decoding it
alone gives.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence

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
    out: list[Symbols | CodecError | None] = [None] * len(streams)
    groups: dict[tuple, list[tuple[int, UnitSpec, Unit]]] = defaultdict(list)
    for i, stream in enumerate(streams):
        try:
            system, container, params = stream.coded()
            pairs = units.pair(container, system, params)
            if len(pairs) > 1 or system.joined([spec for spec, _ in pairs]) is None:
                out[i] = units.decode_symbols(container, system, params)
            else:
                shapes = system.shapes(params)
                groups[system, tuple(shapes.items())].append((i, *pairs[0]))
        except CodecError as exc:
            out[i] = exc
    for (system, shapes), members in groups.items():
        count = max(_SYMBOLS // sum(map(np.prod, dict(shapes).values())), 1)
        for start in range(0, len(members), count):
            part = members[start : start + count]
            for (i, *_), symbols in zip(part, _decode(system, [member[1:] for member in part]), strict=True):
                out[i] = symbols
    return out


def _decode(system: System, coded: list[tuple[UnitSpec, Unit]]) -> list[Symbols | CodecError]:
    """Decode units of the same shape, each the whole of its file."""
    try:
        readers = Readers(system.tables, [unit.payload for _, unit in coded])
        with torch.inference_mode():
            symbols = system.code(readers, system.joined([spec for spec, _ in coded]), None)
        readers.finish([unit.check for _, unit in coded])
    except FormatError as exc:
        return [exc] if len(coded) == 1 else [_decode(system, [one])[0] for one in coded]  # to know whose it is
    # Not slices of one tensor: who keeps one of them shall not keep all.
    parts = {name: values.int().numpy() for name, values in symbols.items()}
    return [{name: torch.from_numpy(part[i].copy()) for name, part in parts.items()} for i in range(len(coded))]


class Readers:
    """Decodes symbols [B, ...] of B payloads; for one payload it is `codec.coding.coder.Reader`.

    Raises:
        CorruptError: a symbol is impossible.
    """

    def __init__(self, models: TableModels, payloads: Sequence[bytes]) -> None:
        self._models = models
        self._lanes = [_Lane(models, payload) for payload in payloads]

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
