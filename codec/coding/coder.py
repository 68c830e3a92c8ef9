"""Three interpreters of one model description: Writer encodes, Reader decodes, RateMeter counts bits.

A system describes its symbols once, in coding order, by calling `coder(symbols, location, log2_scale)`. Writer
returns what it was given, Reader ignores `symbols` and returns what it reads, so encoder, decoder and training
loss cannot drift apart. Within a call, symbols are coded table by table, which lets constriction run at full
speed.

Residuals outside a table's support are coded as the table's escape entry, followed (after the call's regular
symbols) by sign, magnitude class and magnitude in uniform models.
"""

from __future__ import annotations

import zlib
from typing import Protocol

import constriction
import numpy as np
import torch
from torch import Tensor

from codec.coding.distributions import PRECISION, SCALE_MAX, SCALE_MIN, ScaleMixture, Tables, table_index
from codec.errors import CorruptError, DesyncError

_CODER_BITS = 24  # fixed-point precision of constriction's default coders
_EXCESS_CLASSES = 24  # magnitudes beyond the support are below 2**24, what a uniform model can hold
SYMBOL_LIMIT = 1 << 22  # of a symbol; locations are smaller still

_model = constriction.stream.model
_queue = constriction.stream.queue


class Coder(Protocol):
    """Codes symbols; every interpreter has this one method."""

    def __call__(self, symbols: Tensor | None, location: Tensor, log2_scale: Tensor) -> Tensor:
        """Code symbols and return them.

        Args:
            symbols: any shape, whole numbers held as floats; None when decoding.
            location: same shape, in quantization steps; dyadic float64 when coding.
            log2_scale: same shape, log2 of the scale in steps.
        """


class TableModels:
    """constriction models for the tables of a `Tables`, made on first use.

    constriction's fast float constructor computes left_i = floor(cumulated_i * (2**24 - n) / total) + i. Given
    whole numbers f_i * 2**8 - 1 as "probabilities", cumulated sums and total are exact in float64, total is
    2**24 - n, and the left edges are exactly 2**8 times our integer cumulative frequencies.
    """

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._models: dict[int, object] = {}

    def __reduce__(self) -> tuple:
        return TableModels, (self.tables,)  # constriction's models can be neither copied nor pickled

    def __getitem__(self, index: int):
        model = self._models.get(index)
        if model is None:
            scaled = self.tables.table(index).astype(np.float64) * (1 << (_CODER_BITS - PRECISION)) - 1
            model = self._models[index] = _model.Categorical(scaled, perfect=False)
        return model


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
        values = symbols.flatten().numpy().astype(np.int64)
        if len(values) and np.abs(values).max() >= SYMBOL_LIMIT:
            raise ValueError(f"a symbol exceeds {SYMBOL_LIMIT}")
        self._note(values)
        order, runs = _runs(index)
        residual = (values - shift)[order]
        support = self._models.tables.supports[index[order]].astype(np.int64)
        escaped = np.abs(residual) > support
        entries = np.where(escaped, 2 * support + 1, residual + support).astype(np.int32)
        for table, start, stop in runs:
            self._encoder.encode(entries[start:stop], self._models[table])
        if escaped.any():
            self._escape(residual[escaped], support[escaped])
        return symbols

    def _escape(self, residual: np.ndarray, support: np.ndarray) -> None:
        for value, bound in zip(residual.tolist(), support.tolist(), strict=True):
            excess = abs(value) - bound  # >= 1
            size = excess.bit_length() - 1
            head = 2 * size + (value < 0)
            self._encoder.encode(np.array([head], np.int32), _model.Uniform(2 * _EXCESS_CLASSES))
            if size:
                self._encoder.encode(np.array([excess - (1 << size)], np.int32), _model.Uniform(1 << size))

    def finish(self) -> bytes:
        """Return the payload: 32-bit little-endian words, trailing zero bytes of the last word left out."""
        return self._encoder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")


class Reader(_Checked):
    """Decodes symbols from bytes.

    Raises:
        CorruptError: a symbol is impossible.
    """

    def __init__(self, models: TableModels, payload: bytes) -> None:
        super().__init__()
        self._models = models
        padded = payload + b"\0" * (-len(payload) % 4)
        self._decoder = _queue.RangeDecoder(np.frombuffer(padded, "<u4").astype(np.uint32))

    def __call__(self, symbols: None, location: Tensor, log2_scale: Tensor) -> Tensor:
        index, shift = (part.flatten().numpy() for part in table_index(location, log2_scale))
        order, runs = _runs(index)
        entries = np.empty(len(index), np.int64)
        for table, start, stop in runs:
            entries[start:stop] = self._decode(self._models[table], stop - start)
        support = self._models.tables.supports[index[order]].astype(np.int64)
        residual = entries - support
        escaped = entries == 2 * support + 1
        if escaped.any():
            residual[escaped] = [self._escape(bound) for bound in support[escaped].tolist()]
        out = np.empty(len(index), np.int64)
        out[order] = residual
        out += shift
        if len(out) and np.abs(out).max() >= SYMBOL_LIMIT:
            raise CorruptError("a decoded symbol is out of range")
        self._note(out)
        return torch.from_numpy(out).to(location.dtype).reshape(location.shape)

    def _decode(self, model: object, count: int) -> np.ndarray:
        try:
            return self._decoder.decode(model, count)
        except AssertionError as exc:  # constriction notices a few of the payloads that no encoder writes
            raise CorruptError("the payload is not one an encoder writes") from exc

    def _escape(self, bound: int) -> int:
        head = int(self._decode(_model.Uniform(2 * _EXCESS_CLASSES), 1)[0])
        size, negative = divmod(head, 2)
        excess = 1 << size
        if size:
            excess += int(self._decode(_model.Uniform(1 << size), 1)[0])
        return -(excess + bound) if negative else excess + bound

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


class RateMeter:
    """Sums differentiable bits instead of writing any.

    Args:
        shape: the family behind the tables.
        noise: add uniform noise to unquantized symbols, the usual relaxation of rounding (Balle et al.,
            "End-to-end Optimized Image Compression", ICLR 2017, section 3); what the meter returns, the context of
            later symbols, is then rounded and passes no gradients. Without noise bits are counted for the symbols
            as they are, whole or not, and they are returned as they are: gradients reach them through contexts, too.

    Attributes:
        bits: [B] total so far, for symbols [B, ...].
    """

    def __init__(self, shape: ScaleMixture, *, noise: bool) -> None:
        self._shape = shape
        self._noise = noise
        self.bits: Tensor = torch.zeros(())

    def __call__(self, symbols: Tensor, location: Tensor, log2_scale: Tensor) -> Tensor:
        sample = symbols + torch.rand_like(symbols) - 0.5 if self._noise else symbols
        bits = self._shape.bits(sample - location, log2_scale.clamp(SCALE_MIN, SCALE_MAX))
        self.bits = self.bits + bits.flatten(1).sum(1)
        return torch.floor(symbols.detach() + 0.5) if self._noise else symbols
