"""Whatever the bytes, the answer is a picture that was encoded or an error of ours."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codec
from codec import container
from codec.container import Unit
from codec.errors import CodecError, CorruptError, FormatError, LimitError
from codec.params import IMAGE


def test_every_truncation(small_stream):
    for cut in range(len(small_stream)):
        with pytest.raises(FormatError):
            codec.decode(small_stream[:cut])


def test_every_bit_flip(small_stream):
    data = bytearray(small_stream)
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CodecError):
            codec.decode(bytes(data))
        data[bit // 8] ^= 1 << bit % 8


def forged(stream: bytes, *, payloads: list[bytes] | None = None, **params: int) -> bytes:
    """The stream with other parameters or payloads and right checksums: what an attacker sends."""
    parsed = container.parse(stream)
    values = IMAGE.unpack(parsed.params)[0] | params
    units = parsed.units if payloads is None else [Unit(p, 0) for p in payloads]
    return replace(parsed, params=IMAGE.pack(values), units=units).pack()


@pytest.mark.parametrize("side", [1 << 20, (1 << 31) - 1])
def test_forged_sizes_are_refused_before_allocation(small_stream, side):
    data = forged(small_stream, width=side, height=side)
    assert codec.open(data).info.width == side
    with pytest.raises(LimitError):
        codec.decode(data)


@pytest.mark.parametrize("size", [(57, 40), (64, 48), (8, 8), (4000, 40), (1, 1)])
def test_wrong_sizes_are_noticed(small_stream, size):
    """A size in the same number of blocks is indistinguishable; any other desynchronises."""
    data = forged(small_stream, width=size[0], height=size[1])
    with pytest.raises(CodecError):
        codec.decode(data)


def test_wrong_quality_is_noticed(small_stream):
    with pytest.raises(FormatError):
        codec.decode(forged(small_stream, quality=1024))


@given(st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_random_payloads(payload):
    stream = codec.encode(np.zeros((40, 56, 3), np.uint8), model="walloc-conformance", quality=40)
    data = forged(stream, payloads=[payload])
    try:
        codec.decode(data)
    except FormatError:
        return
    assert codec.open(data).symbols_digest() == codec.open(stream).symbols_digest()


def test_too_many_or_too_few_units(small_stream):
    with pytest.raises(CorruptError, match="units"):
        codec.decode(forged(small_stream, payloads=[b"a", b"b"]))


def test_the_wrong_alpha_plane(small_stream):
    for alpha in (b"", b"junk", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(CodecError):
            codec.decode(replace(container.parse(small_stream), alpha=alpha).pack())


def test_problems_names_the_damaged_unit():
    rng = np.random.default_rng(0)
    data = bytearray(codec.encode(rng.integers(0, 255, (16, 2500, 3), np.uint8), model="walloc-conformance"))
    assert codec.open(bytes(data)).info.units == 3
    data[-20] ^= 1
    with pytest.raises(CorruptError):
        codec.open(bytes(data))
    stream = codec.open(bytes(data), tolerant=True)
    assert [line.split(":")[0] for line in stream.problems()] == ["unit 2"]
