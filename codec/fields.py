"""Binary fields declared once as data: the declaration reads, writes, validates and documents them.

A `Layout` is a tuple of `Field`s. `Layout.pack` turns a dict into bytes, `Layout.unpack` the reverse with every
value checked, `Layout.table` is the table printed in bitstreams/FORMAT.md (a test holds the two together).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codec.errors import CorruptError, TruncatedError

_MAX_VARINT = 9  # bytes: 63 bits
_NAME = re.compile(r"[a-z][a-z0-9.-]{0,31}")


def put_varint(value: int) -> bytes:
    """Encode 0 <= value < 2**63 as little-endian base 128 (LEB128)."""
    if not 0 <= value < 1 << 63:
        raise ValueError(f"varint out of range: {value}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def get_varint(data: bytes | memoryview, offset: int) -> tuple[int, int]:
    """Decode a varint at `offset`; return (value, next offset).

    Raises:
        TruncatedError: the data ends inside it.
        CorruptError: it is longer than 9 bytes or not in its shortest form.
    """
    value = 0
    for i in range(_MAX_VARINT):
        if offset + i >= len(data):
            raise TruncatedError("the stream ends inside a number")
        byte = data[offset + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            if byte == 0 and i:
                raise CorruptError("a number is not in its shortest form")
            return value, offset + i + 1
    raise CorruptError("a number is longer than 9 bytes")


@dataclass(frozen=True)
class Field:
    """One field: `kind` is `varint`, `varints` (a tuple, preceded by its length), `name`, `bytesN` or `bits` (16 bits
    shared by `parts`, low bits first).

    Attributes:
        name: key in the dict (for `bits`, of the group only).
        minimum, maximum: bounds of a `varint`, or of how many `varints` there are.
        parts: for `bits`, (name, width in bits, maximum, meaning) of each part.
    """

    name: str
    kind: str
    meaning: str
    minimum: int = 0
    maximum: int = (1 << 63) - 1
    parts: tuple[tuple[str, int, int, str], ...] = ()

    def pack(self, values: Mapping[str, Any]) -> bytes:
        if self.kind == "varint":
            return put_varint(self._checked(self.name, values[self.name], self.minimum, self.maximum))
        if self.kind == "varints":
            count = self._checked(self.name, len(values[self.name]), self.minimum, self.maximum)
            return b"".join(map(put_varint, [count, *values[self.name]]))
        if self.kind == "name":
            text = values[self.name]
            if not _NAME.fullmatch(text):
                raise ValueError(f"{self.name}: {text!r} is not a registered name")
            raw = bytearray(text.encode("ascii"))
            raw[-1] |= 0x80
            return bytes(raw)
        if self.kind == "bits":
            word, shift = 0, 0
            for name, width, maximum, _ in self.parts:
                word |= self._checked(name, values[name], 0, maximum) << shift
                shift += width
            return word.to_bytes(2, "little")
        raw = bytes(values[self.name])
        if len(raw) != self._size():
            raise ValueError(f"{self.name}: {len(raw)} bytes instead of {self._size()}")
        return raw

    def unpack(self, data: bytes | memoryview, offset: int) -> tuple[dict[str, Any], int]:
        if self.kind == "varint":
            value, offset = get_varint(data, offset)
            return {self.name: self._read(self.name, value, self.minimum, self.maximum)}, offset
        if self.kind == "varints":
            count, offset = get_varint(data, offset)
            numbers = []
            for _ in range(self._read(f"count of {self.name}", count, self.minimum, self.maximum)):
                value, offset = get_varint(data, offset)
                numbers.append(value)
            return {self.name: tuple(numbers)}, offset
        if self.kind == "name":
            for end in range(offset, min(len(data), offset + 32)):
                if data[end] & 0x80:
                    text = (bytes(data[offset:end]) + bytes([data[end] & 0x7F])).decode("ascii", "replace")
                    if not _NAME.fullmatch(text):
                        raise CorruptError(f"{self.name} is not a valid name")
                    return {self.name: text}, end + 1
            raise CorruptError(f"{self.name} has no end")
        size = self._size()
        if offset + size > len(data):
            raise TruncatedError(f"the stream ends inside {self.name}")
        raw = bytes(data[offset : offset + size])
        if self.kind != "bits":
            return {self.name: raw}, offset + size
        word, out = int.from_bytes(raw, "little"), {}
        for name, width, maximum, _ in self.parts:
            out[name] = self._read(name, word & ((1 << width) - 1), 0, maximum)
            word >>= width
        if word:
            raise CorruptError(f"{self.name} has reserved bits set")
        return out, offset + size

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return (name, coding, range, meaning) rows for the documentation."""
        if self.kind == "bits":
            head = [(self.name, "u16", "", self.meaning)]
            return head + [(f"- {n}", f"{w} bits", f"0..{m}", text) for n, w, m, text in self.parts]
        limits = f"{self.minimum}..{self.maximum}" if self.kind.startswith("varint") else ""
        return [(self.name, self.kind, limits, self.meaning)]

    def _size(self) -> int:
        return 2 if self.kind == "bits" else int(self.kind.removeprefix("bytes"))

    @staticmethod
    def _checked(name: str, value: int, low: int, high: int) -> int:
        if not low <= value <= high:
            raise ValueError(f"{name}: {value} is outside {low}..{high}")
        return int(value)

    @staticmethod
    def _read(name: str, value: int, low: int, high: int) -> int:
        if not low <= value <= high:
            raise CorruptError(f"{name} is {value}, outside {low}..{high}")
        return value


@dataclass(frozen=True)
class Layout:
    """Fields one after another, without padding."""

    fields: tuple[Field, ...]

    def pack(self, values: Mapping[str, Any]) -> bytes:
        """Return the bytes of `values`; a value out of range is a ValueError (the caller's mistake)."""
        return b"".join(field.pack(values) for field in self.fields)

    def unpack(self, data: bytes | memoryview, offset: int = 0) -> tuple[dict[str, Any], int]:
        """Return (values, next offset).

        Raises:
            TruncatedError, CorruptError: the data end early or a value is out of range.
        """
        values: dict[str, Any] = {}
        for field in self.fields:
            part, offset = field.unpack(data, offset)
            values.update(part)
        return values, offset

    def table(self) -> str:
        """Return the fields as a Markdown table."""
        rows = [row for field in self.fields for row in field.rows()]
        lines = ["| field | coding | range | meaning |", "| --- | --- | --- | --- |"]
        return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
