"""Three interpreters of one model description: Writer encodes, Reader decodes, RateMeter counts bits.

A system describes its symbols once, in coding order, by calling `coder(symbols, location, log2_scale)`, or
`coder.categorical(symbols, table)` for symbols of alphabets whose tables ship with the model, or
`coder.masses(symbols, log2_mass)` for symbols of alphabets whose probabilities a network gives. Writer
returns what it was given, Reader ignores `symbols` and returns what it reads, so encoder, decoder and training
loss cannot drift apart. Within a call, symbols are coded table by table, which lets constriction run at full
speed.

What a table does not hold is coded as its escape entry, followed (after the call's regular
symbols) by sign, magnitude class and magnitude in uniform models.
"""

from __future__ import annotations

import math
import zlib
from typing import Protocol

import constriction
import numpy as np
import torch
from torch import Tensor

from codec.coding.distributions import (
    EXCESS_CLASSES,
    FRACTION_BITS,
    PRECISION,
    SCALE_MAX,
    SCALE_MIN,
    CategoricalTables,
    ScaleMixture,
    Tables,
    table_index,
)
from codec.coding.exact import fix
from codec.coding.masses import MASS_BITS, frequencies
from codec.errors import CorruptError, DesyncError

_CODER_BITS = MASS_BITS  # fixed-point precision of constriction's default coders
SYMBOL_LIMIT = 1 << 22  # of a symbol; locations are smaller still

_model = constriction.stream.model
_queue = constriction.stream.queue
_FAMILY = _model.Categorical(perfect=False)  # a model for each row of masses


class Coder(Protocol):
    """Codes symbols; every interpreter has these methods."""

    def __call__(self, symbols: Tensor | None, location: Tensor, log2_scale: Tensor) -> Tensor:
        """Code symbols and return them.

        Args:
            symbols: any shape, whole numbers held as floats; None when decoding.
            location: same shape, in quantization steps; dyadic float64 when coding.
            log2_scale: same shape, log2 of the scale in steps.
        """

    def categorical(self, symbols: Tensor | None, table: Tensor) -> Tensor:
        """Code symbols of alphabets and return them.

        Args:
            symbols: any shape, whole numbers held as floats; None when decoding.
            table: same shape, number of each symbol's table among the model's `CategoricalTables`.
        """

    def masses(self, symbols: Tensor | None, log2_mass: Tensor) -> Tensor:
        """Code symbols 0 ... n - 1 and return them.

        Args:
            symbols: any shape, whole numbers held as floats; None when decoding.
            log2_mass: same shape and [n], log2 of each symbol's share, up to a constant; dyadic float64 in multiples of
                2**-8 when coding, see `codec.coding.masses`.
        """


class CategoricalFamily(Protocol):
    """What stands in for `CategoricalTables` while frequencies are learned, e.g. logits of a codebook's entries."""

    def bits(self, symbols: Tensor, table: Tensor) -> Tensor:
        """Return the bits of each symbol under its table, elementwise and differentiable in the family's parameters."""


class TableModels:
    """constriction models for the tables of a model, made on first use.

    Args:
        tables: for symbols with location and scale; None for a system that has none.
        categorical: for symbols of alphabets, where there are any; `.categorical` has their models.

    constriction's fast float constructor computes left_i = floor(cumulated_i * (2**24 - n) / total) + i. Given
    whole numbers f_i * 2**8 - 1 as "probabilities", cumulated sums and total are exact in float64, total is
    2**24 - n, and the left edges are exactly 2**8 times our integer cumulative frequencies.
    """

    def __init__(self, tables: Tables | CategoricalTables | None, categorical: CategoricalTables | None = None) -> None:
        self.tables = tables
        self.categorical = None if categorical is None else TableModels(categorical)
        self._models: dict[int, object] = {}

    def __reduce__(self) -> tuple:  # constriction's models can be neither copied nor pickled
        return TableModels, (self.tables, self.categorical and self.categorical.tables)

    def __getitem__(self, index: int):
        model = self._models.get(index)
        if model is None:
            scaled = self.tables.table(index).astype(np.float64) * (1 << (_CODER_BITS - PRECISION)) - 1
            model = self._models[index] = _model.Categorical(scaled, perfect=False)
        return model


def _scaled(log2_mass: Tensor) -> np.ndarray:
    """Return frequencies [symbols, n] in the way that constriction's fast constructor keeps them (`TableModels`)."""
    return frequencies(log2_mass.flatten(0, -2)).numpy() - 1


def _runs(index: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Return the stable order that groups equal tables, and (table, start, stop) of each group."""
    order = np.argsort(index.astype(np.int16), kind="stable")
    ordered = index[order]
    cuts = np.flatnonzero(np.diff(ordered)) + 1
    starts = [0, *cuts.tolist()]
    stops = [*cuts.tolist(), len(index)]
    return order, [(int(ordered[a]), a, b) for a, b in zip(starts, stops, strict=True)] if len(index) else []


class _Checked:
    """Accumulates the 16-bit check of the symbols that passed."""

    def __init__(self) -> None:
        self._crc = 0

    def _note(self, symbols: np.ndarray) -> None:
        self._crc = zlib.crc32(symbols.astype("<i4").tobytes(), self._crc)

    @property
    def check(self) -> int:
        """CRC-32 of all symbols as little-endian int32 in coding order, its halves xored."""
        return (self._crc ^ self._crc >> 16) & 0xFFFF


class Writer(_Checked):
    """Encodes symbols into bytes."""

    def __init__(self, models: TableModels) -> None:
        super().__init__()
        self._models = models
        self._encoder = _queue.RangeEncoder()

    def __call__(self, symbols: Tensor, location: Tensor, log2_scale: Tensor) -> Tensor:
        index, shift = (part.flatten().numpy() for part in table_index(location, log2_scale))
        values = self._whole(symbols)
        self._encode(values - shift, index, self._models)
        return symbols

    def categorical(self, symbols: Tensor, table: Tensor) -> Tensor:
        index = table.flatten().numpy()
        values = self._whole(symbols)
        tables = self._models.categorical.tables
        low, high = tables.bounds(index)
        if ((tables.escapes[index] == 0) & ((values < low) | (values > high))).any():
            raise ValueError("a symbol is outside the closed alphabet of its table")
        self._encode(values, index, self._models.categorical)
        return symbols

    def masses(self, symbols: Tensor, log2_mass: Tensor) -> Tensor:
        values = self._whole(symbols)
        if len(values):
            if values.min() < 0 or values.max() >= log2_mass.shape[-1]:
                raise ValueError("a symbol is outside the alphabet of its masses")
            self._encoder.encode(values.astype(np.int32), _FAMILY, _scaled(log2_mass))
        return symbols

    def _whole(self, symbols: Tensor) -> np.ndarray:
        values = symbols.flatten().numpy().astype(np.int64)
        if len(values) and np.abs(values).max() >= SYMBOL_LIMIT:
            raise ValueError(f"a symbol exceeds {SYMBOL_LIMIT}")
        self._note(values)
        return values

    def _encode(self, residual: np.ndarray, index: np.ndarray, models: TableModels) -> None:
        order, runs = _runs(index)
        residual = residual[order]
        low, high = models.tables.bounds(index[order])
        escaped = (residual < low) | (residual > high)
        entries = np.where(escaped, high - low + 1, residual - low).astype(np.int32)
        for table, start, stop in runs:
            self._encoder.encode(entries[start:stop], models[table])
        if escaped.any():
            self._escape(residual[escaped], low[escaped], high[escaped])

    def _escape(self, residual: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        below = residual < low
        excesses = np.where(below, low - residual, residual - high)  # >= 1
        for excess, negative in zip(excesses.tolist(), below.tolist(), strict=True):
            size = excess.bit_length() - 1
            head = 2 * size + negative
            self._encoder.encode(np.array([head], np.int32), _model.Uniform(2 * EXCESS_CLASSES))
            if size:
                self._encoder.encode(np.array([excess - (1 << size)], np.int32), _model.Uniform(1 << size))

    def finish(self, *, compact: bool = False) -> bytes:
        """Return the payload: 32-bit little-endian words, trailing zero bytes of the last word left out.

        Args:
            compact: big-endian words instead, and of all numbers that decode to the symbols the one with most zero
                bytes at its end, which are left out: about two bytes less.
        """
        words = self._encoder.get_compressed()
        if not compact:
            return words.astype("<u4").tobytes().rstrip(b"\0")
        count, (lower, size) = self._encoder.pos()
        return _shortest(words.astype(">u4").tobytes(), 4 * count, lower, size)


def _shortest(sealed: bytes, done: int, lower: int, size: int) -> bytes:
    """Return the shortest bytes that decode as a sealed payload does.

    Any number in an interval decodes to the same symbols. `lower` and `size` are its beginning and length in units of
    the 8 bytes after the first `done`; carries may still reach those, so the interval is taken from where the sealed
    number lies in it.

    Args:
        sealed: big-endian words.
    """
    start = max(done - 8, 0)  # a carry that goes further leaves a shorter, still valid, interval
    width = done + 8 - start
    value = int.from_bytes(sealed[start:].ljust(width, b"\0"), "big")
    low = max(value - ((value - lower) & (1 << 64) - 1), 0)
    high = min(value - ((value - lower) & (1 << 64) - 1) + size, 1 << 8 * width)
    for kept in range(width + 1):
        unit = 1 << 8 * (width - kept)
        rounded = -(-low // unit) * unit
        if rounded < high:
            return (sealed[:start] + rounded.to_bytes(width, "big")[:kept]).rstrip(b"\0")
    return sealed.rstrip(b"\0")


class Reader(_Checked):
    """Decodes symbols from bytes.

    Args:
        compact: as the writer's `finish` was told.

    Raises:
        CorruptError: a symbol is impossible.
    """

    def __init__(self, models: TableModels, payload: bytes, *, compact: bool = False) -> None:
        super().__init__()
        self._models = models
        padded = payload + b"\0" * (-len(payload) % 4)
        self._decoder = _queue.RangeDecoder(np.frombuffer(padded, ">u4" if compact else "<u4").astype(np.uint32))

    def __call__(self, symbols: None, location: Tensor, log2_scale: Tensor) -> Tensor:
        index, shift = (part.flatten().numpy() for part in table_index(location, log2_scale))
        out = self._residuals(index, self._models)
        out += shift
        return self._checked(out).to(location.dtype).reshape(location.shape)

    def categorical(self, symbols: None, table: Tensor) -> Tensor:
        out = self._residuals(table.flatten().numpy(), self._models.categorical)
        return self._checked(out).double().reshape(table.shape)

    def masses(self, symbols: None, log2_mass: Tensor) -> Tensor:
        shape = log2_mass.shape[:-1]
        out = self._decode(_FAMILY, _scaled(log2_mass)) if shape.numel() else np.zeros(0, np.int32)
        return self._checked(out.astype(np.int64)).double().reshape(shape)

    def _residuals(self, index: np.ndarray, models: TableModels) -> np.ndarray:
        order, runs = _runs(index)
        entries = np.empty(len(index), np.int64)
        for table, start, stop in runs:
            entries[start:stop] = self._decode(models[table], stop - start)
        low, high = models.tables.bounds(index[order])
        residual = entries + low
        escaped = residual > high
        if escaped.any():
            bounds = zip(low[escaped].tolist(), high[escaped].tolist(), strict=True)
            residual[escaped] = [self._escape(*pair) for pair in bounds]
        out = np.empty(len(index), np.int64)
        out[order] = residual
        return out

    def _checked(self, out: np.ndarray) -> Tensor:
        if len(out) and np.abs(out).max() >= SYMBOL_LIMIT:
            raise CorruptError("a decoded symbol is out of range")
        self._note(out)
        return torch.from_numpy(out)

    def _decode(self, model: object, count: int | np.ndarray) -> np.ndarray:
        try:
            return self._decoder.decode(model, count)
        except AssertionError as exc:  # constriction notices a few of the payloads that no encoder writes
            raise CorruptError("the payload is not one an encoder writes") from exc

    def _escape(self, low: int, high: int) -> int:
        head = int(self._decode(_model.Uniform(2 * EXCESS_CLASSES), 1)[0])
        size, negative = divmod(head, 2)
        excess = 1 << size
        if size:
            excess += int(self._decode(_model.Uniform(1 << size), 1)[0])
        return low - excess if negative else high + excess

    def finish(self, check: int) -> None:
        """Compare with the check stored in the stream.

        Raises:
            DesyncError: the symbols are not those that were encoded.
        """
        if self.check != check:
            raise DesyncError(
                "decoded symbols differ from the encoded ones although the bytes are intact; "
                "please report this with the output of `codec doctor`"
            )


def symbol_bits(shape: ScaleMixture, symbols: Tensor, location: Tensor, log2_scale: Tensor) -> Tensor:
    """Return about how many bits each symbol costs; differentiable."""
    # As the tables have it: a network that trusts finer locations pays a bit for what it takes for certain.
    return shape.bits(symbols - fix(location, FRACTION_BITS), log2_scale.clamp(SCALE_MIN, SCALE_MAX))


class RateMeter:
    """Sums differentiable bits instead of writing any.

    Args:
        shape: the family behind the tables; None for a system whose symbols are all categorical.
        categorical: the family behind the categorical tables, or those tables themselves to count what a file costs.
        noise: add uniform noise to unquantized symbols, the usual relaxation of rounding (Balle et al.,
            "End-to-end Optimized Image Compression", ICLR 2017, section 3); what the meter returns, the context of
            later symbols, is then rounded and passes no gradients. Without noise bits are counted for the symbols
            as they are, whole or not, and they are returned as they are: gradients reach them through contexts, too.

    Attributes:
        bits: [B] total so far, for symbols [B, ...].
    """

    def __init__(
        self, shape: ScaleMixture | None, *, noise: bool, categorical: CategoricalFamily | None = None
    ) -> None:
        self._shape = shape
        self._categorical = categorical
        self._noise = noise
        self.bits: Tensor = torch.zeros(())

    def __call__(self, symbols: Tensor, location: Tensor, log2_scale: Tensor) -> Tensor:
        sample = symbols + torch.rand_like(symbols) - 0.5 if self._noise else symbols
        self.bits = self.bits + symbol_bits(self._shape, sample, location, log2_scale).flatten(1).sum(1)
        return torch.floor(symbols.detach() + 0.5) if self._noise else symbols

    def categorical(self, symbols: Tensor, table: Tensor) -> Tensor:
        """Count the bits of whole symbols; no noise is added, as neighbours in an alphabet need not be alike."""
        self.bits = self.bits + self._categorical.bits(symbols, table).flatten(1).sum(1)
        return symbols

    def masses(self, symbols: Tensor, log2_mass: Tensor) -> Tensor:
        """Count the bits of whole symbols; gradients reach the masses."""
        nats = log2_mass * math.log(2)
        chosen = nats.gather(-1, symbols.long()[..., None]).squeeze(-1)
        self.bits = self.bits + ((nats.logsumexp(-1) - chosen) / math.log(2)).flatten(1).sum(1)
        return symbols
