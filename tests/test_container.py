import io
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec import container, live
from codec.container import LAST_UNIT, SIGNATURE, ChunkWriter, Container, Unit, parse
from codec.errors import CodecError, CorruptError, FormatError, TruncatedError, UnsupportedVersionError
from codec.fields import put_varint

UNITS = st.lists(st.builds(Unit, st.binary(max_size=60), st.integers(0, 0xFFFF)), min_size=1, max_size=5)
METADATA = st.dictionaries(st.sampled_from(["icc", "exif", "xmp"]), st.binary(min_size=1, max_size=300))


def example(units: int = 1, **more) -> Container:
    return Container(
        "walloc", 1, b"\x01\x02\x03\x04", b"params", [Unit(b"payload%d" % i, i) for i in range(units)], **more
    )


@given(UNITS, METADATA, st.none() | st.binary(max_size=50), st.binary(max_size=30))
def test_round_trip(units, metadata, alpha, params):
    original = Container("walloc", 7, b"abcd", params, units, metadata, alpha)
    assert parse(original.pack()) == original


def test_golden_bytes():
    data = Container("walloc", 1, b"\x01\x02\x03\x04", b"\x05", [Unit(b"data", 0xBEEF)]).pack()
    assert (
        data[:-4].hex()
        == "894c43420d0a" + "01" + "0c" + "77616c6c6fe3" + "01" + "01020304" + "05" + "4c" + "64617461" + "efbe"
    )
    head = data[:20]
    assert data[-4:] == zlib.crc32(head + b"\0\0\0\0" + data[20:-4]).to_bytes(4, "little")


def test_overhead_of_a_plain_image_is_at_most_32_bytes():
    from codec.params import IMAGE

    values = {"quality": 1024, "kind": 0, "gray": 0, "deep": 0, "width": 16383, "height": 16383}
    payload = b"x" * 100_000
    data = Container("walloc", 1, b"\x01\x02\x03\x04", IMAGE.pack(values), [Unit(payload, 1)]).pack()
    assert len(data) - len(payload) <= 32


@pytest.mark.parametrize("more", [{}, {"metadata": {"icc": b"profile" * 9}, "alpha": b"png"}])
@pytest.mark.parametrize("units", [1, 3])
def test_every_truncation_is_noticed(units, more):
    data = example(units, **more).pack()
    for cut in range(len(data)):
        with pytest.raises(FormatError):
            parse(data[:cut])


@pytest.mark.parametrize("units", [1, 3])
def test_every_bit_flip_is_noticed(units):
    data = bytearray(example(units, metadata={"exif": b"abc"}).pack())
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            parse(bytes(data))
        data[bit // 8] ^= 1 << bit % 8


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_random_bytes(data):
    for prefix in (b"", SIGNATURE, SIGNATURE + b"\x01"):
        with pytest.raises(CodecError):
            parse(prefix + data)


def test_appended_bytes_and_text_mode_damage():
    data = example().pack()
    with pytest.raises(CorruptError):
        parse(data + b"\0")
    with pytest.raises(FormatError):
        parse(data.replace(b"\r\n", b"\n"))
    with pytest.raises(FormatError):
        parse(data.replace(b"\n", b"\r\n"))


def test_a_newer_format_is_named():
    data = bytearray(example().pack())
    data[6] = 2
    with pytest.raises(UnsupportedVersionError, match="version 2"):
        parse(bytes(data))


def with_chunk(kind: bytes, body: bytes) -> bytes:
    """The example with one more chunk in front, checksums right."""
    writer = ChunkWriter("walloc", 1, b"\x01\x02\x03\x04", b"params")
    return writer.start + writer.chunk(kind, body) + writer.unit(Unit(b"payload0", 0), LAST_UNIT)


def test_unknown_chunks():
    assert parse(with_chunk(b"q", b"whatever")).units == [Unit(b"payload0", 0)]
    with pytest.raises(UnsupportedVersionError, match="critical"):
        parse(with_chunk(b"Q", b"whatever"))


def test_a_metadata_bomb_is_refused():
    bomb = zlib.compress(b"\0" * (container.MAX_METADATA + 1), 9)
    with pytest.raises(CorruptError, match="larger"):
        parse(with_chunk(b"i", bomb))
    with pytest.raises(CorruptError, match="inflated"):
        parse(with_chunk(b"i", b"not zlib"))


@pytest.mark.parametrize(
    "body", [b"", put_varint(1 << 60), put_varint(2) + put_varint(1 << 50) * 2, put_varint(2) + b"\x01\x01"]
)
def test_forged_indexes_are_refused(body):
    with pytest.raises(FormatError):
        parse(with_chunk(b"X", body))


def test_a_forged_length_is_refused_before_memory_is_taken():
    start = example().pack()[:7] + put_varint(1 << 40)
    with pytest.raises(CorruptError, match="limit"):
        parse(start + b"x" * 50)


def test_chunks_cannot_be_swapped_or_borrowed():
    one, two = example(3).pack(), example(3, metadata={"exif": b"z"}).pack()
    i, j = one.index(b"U\x08payload0"), one.index(b"U\x08payload1")
    size = j - i
    swapped = one[:i] + one[j : j + size] + one[i:j] + one[j + size :]
    with pytest.raises(CorruptError):
        parse(swapped)
    other = two[two.index(b"U\x08payload0") :]
    with pytest.raises(CorruptError):
        parse(one[:i] + other)


@pytest.mark.parametrize("offset", [0, 1, 4, 12])
def test_a_damaged_unit_costs_only_itself(offset):
    data = bytearray(example(3).pack())
    data[data.index(b"U\x08payload1") + offset] ^= 0x40
    with pytest.raises(CorruptError):
        parse(bytes(data))
    units = parse(bytes(data), tolerant=True).units
    assert [unit.damaged is None for unit in units] == [True, False, True]
    assert units[2] == Unit(b"payload2", 2)


def test_truncated_exactly_between_units():
    data = example(3).pack()
    with pytest.raises(TruncatedError):
        parse(data[: data.index(b"U\x08payload1")])


# --- sound: written and read piece by piece ---------------------------------------------------------------------------


def sound(units: int = 3, **more) -> Container:
    return Container("walloc", 1, b"abcd", b"params", [Unit(b"payload%d" % i, i) for i in range(units)], **more)


def followed(data: bytes) -> list[tuple[bytes, bytes, int]]:
    file = io.BytesIO(data)
    return list(live.read_chunks(file, live.read_start(file)))


@given(UNITS, st.integers(0, 1 << 40))
def test_sound_round_trip(units, length):
    original = Container("walloc", 7, b"abcd", b"params", units, {"tags": b"{}"}, None, length)
    assert parse(original.pack()) == original
    chunks = followed(original.pack())
    assert [(body, check) for kind, body, check in chunks if kind == b"U"] == [(u.payload, u.check) for u in units[:-1]]
    kind, body, check = chunks[-1]
    assert (kind, container.read_end(body, check)) == (b"E", (length, units[-1]))


def test_sound_cut_anywhere_keeps_the_whole_units():
    data = sound(length=1000).pack()
    ends = [data.index(b"payload%d" % i) + 14 for i in range(3)]  # payload, symbol check, CRC
    for cut in range(ends[0] - 16, len(data)):
        with pytest.raises(FormatError):
            parse(data[:cut])
        whole = parse(data[:cut], tolerant=True)
        assert len(whole.units) == sum(end <= cut for end in ends)
        assert whole.length is None
        try:
            list(followed(data[:cut]))
        except TruncatedError:
            continue
        assert cut in [ends[0] - 16, *ends]  # between chunks; that the end is missing is for the reader to see


def test_live_reading_refuses_damage():
    data = sound(length=1000).pack()
    for i in range(len(data)):
        with pytest.raises(FormatError):
            followed(data[:i] + bytes([data[i] ^ 0x41]) + data[i + 1 :])
    with pytest.raises(TruncatedError):
        followed(b"")
    with pytest.raises(CorruptError, match="limit"):
        followed(data[: data.index(b"U")] + b"U" + put_varint(1 << 40))
