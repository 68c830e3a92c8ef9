"""Files whose units share a table and a chunk: framing, damage and lies in it."""

import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codec
from codec.chunks import INDEX, LAST_UNIT, PAYLOADS, TABLE
from codec.container import ChunkWriter, Container, Unit, parse
from codec.errors import CorruptError, FormatError, TruncatedError
from codec.fields import put_varint
from codec.params import audio_params, pack

from mosaics import installed
from support import picture_of

UNITS = st.lists(st.builds(Unit, st.binary(max_size=200), st.integers(0, 0xFFFF)), min_size=2, max_size=9)
METADATA = st.dictionaries(st.sampled_from(["icc", "exif"]), st.binary(min_size=1, max_size=30))
HEAD = "mosaic", 1, b"\x01\x02\x03\x04", b"params"


def example(units: int = 4, **more) -> Container:
    own = [Unit(b"<%d>" % i * i, 1000 * i) for i in range(units)]  # the first is empty
    return Container(*HEAD, own, compact=True, **more)


def payloads_of(data: bytes) -> int:
    """Return where the first payload begins."""
    parsed = parse(data)
    return len(data) - 4 - sum(len(unit.payload) for unit in parsed.units)


@given(
    UNITS,
    st.dictionaries(st.sampled_from(["icc", "exif"]), st.binary(min_size=1, max_size=30)),
    st.none() | st.binary(),
)
def test_round_trip(units, metadata, alpha):
    original = Container(*HEAD, units, metadata, alpha, compact=True)
    data = original.pack()
    assert parse(data) == parse(data, tolerant=True) == original
    assert parse(data).pack() == data


def test_golden_bytes():
    data = Container(*HEAD, [Unit(b"one", 0xBEEF), Unit(b"", 0)], compact=True).pack()
    start = ChunkWriter(*HEAD).start
    table, payloads = b"M\x07" + b"\x02" + b"\x03\xef\xbe" + b"\x00\x00\x00", b"Pone"
    crc = lambda ordinal, chunk: zlib.crc32(start + ordinal.to_bytes(4, "little") + chunk).to_bytes(4, "little")
    assert data == start + table + crc(0, table) + payloads + crc(1, payloads)


def test_three_bytes_around_a_unit():
    sizes = [len(Container(*HEAD, [Unit(b"payload", i) for i in range(n)], compact=True).pack()) for n in (20, 21)]
    assert sizes[1] - sizes[0] == len(b"payload") + 3


def test_a_single_unit_is_a_plain_one():
    unit = [Unit(b"payload", 7)]
    data = Container(*HEAD, unit, compact=True).pack()
    assert data == Container(*HEAD, unit).pack()
    assert parse(data).pack() == data


def test_every_truncation_and_every_flip_are_noticed():
    data = bytearray(example(metadata={"icc": b"profile"}).pack())
    for cut in range(len(data)):
        with pytest.raises(FormatError):
            parse(bytes(data[:cut]))
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            parse(bytes(data))
        data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptError, match="after the last unit"):
        parse(bytes(data) + b"\0")


def test_a_cut_keeps_every_unit_before_it():
    original = example(metadata={"exif": b"z"}, alpha=b"png")
    data, first = original.pack(), payloads_of(original.pack())
    ends = [first + sum(len(unit.payload) for unit in original.units[: i + 1]) for i in range(4)]
    for cut in range(first - 1, len(data)):
        found = parse(data[:cut], tolerant=True)
        whole = [end <= max(cut, first) for end in ends]
        assert [unit.damaged is None for unit in found.units] == whole
        assert [u.payload for u, w in zip(found.units, whole, strict=True) if w] == [
            u.payload for u, w in zip(original.units, whole, strict=True) if w
        ]
        assert all(isinstance(u.damaged, TruncatedError) for u, w in zip(found.units, whole, strict=True) if not w)
        assert (found.metadata, found.alpha, found.params) == (original.metadata, original.alpha, original.params)
        assert not any(unit.trusted for unit in found.units)
        assert found.damage
    for cut in range(data.index(b"M\x0d") + 1, first - 1):  # in the table
        with pytest.raises(FormatError):
            parse(data[:cut], tolerant=True)


def test_a_flip_costs_at_most_its_unit_or_all():
    original = example()
    data, first = bytearray(original.pack()), payloads_of(original.pack())
    for byte in range(len(data)):
        data[byte] ^= 0x10
        if byte < first - 1:
            with pytest.raises(FormatError):
                parse(bytes(data), tolerant=True)
        else:
            found = parse(bytes(data), tolerant=True)
            same = [a.payload == b.payload for a, b in zip(found.units, original.units, strict=True)]
            assert same.count(False) == (first <= byte < len(data) - 4)
            assert all(unit.damaged is None and not unit.trusted for unit in found.units)
            assert found.damage == ("the checksum of all units does not match",)
        data[byte] ^= 0x10


def forged(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a file of some chunks, with right checksums."""
    writer = ChunkWriter(*HEAD)
    return writer.start + b"".join(writer.chunk(kind, body, b"\0\0" * (kind == LAST_UNIT)) for kind, body in chunks)


ENTRY = b"\x01\0\0"


@pytest.mark.parametrize(
    "table",
    [
        b"", b"\x00", b"\x01" + ENTRY, b"\x02" + ENTRY, b"\x02" + 3 * ENTRY, b"\x02" + ENTRY + b"\x01\0",
        b"\x02" + ENTRY + b"\x80\x00\0\0", b"\x03" + ENTRY + b"\xff\xff\xff\0\0", put_varint(1 << 60) + 9 * ENTRY,
        b"\x02\x01" + 9 * b"\xff", put_varint(1 << 62),
    ],
)  # fmt: skip
@pytest.mark.parametrize("tolerant", [False, True])
def test_hostile_tables(table, tolerant):
    with pytest.raises(FormatError):
        parse(forged((TABLE, table), (PAYLOADS, b"ab")), tolerant=tolerant)


def test_hostile_sizes_take_no_memory():
    huge = put_varint((1 << 63) - 1) + b"\0\0"
    data = forged((TABLE, put_varint(3000) + 3000 * huge), (PAYLOADS, b"ab"))
    with pytest.raises(TruncatedError):
        parse(data)
    found = parse(data, tolerant=True)
    assert len(found.units) == 3000
    assert sum(len(unit.payload) for unit in found.units) == 6  # what was the checksum is payload
    assert all(unit.damaged for unit in found.units)


TWO = b"\x02" + 2 * ENTRY


@pytest.mark.parametrize("tolerant", [False, True])
@pytest.mark.parametrize(
    "chunks",
    [
        [(PAYLOADS, b"ab")],
        [(TABLE, TWO), (TABLE, TWO), (PAYLOADS, b"ab")],
        [(INDEX, b"\x02\x01\x01"), (TABLE, TWO), (PAYLOADS, b"ab")],
        [(TABLE, TWO), (PAYLOADS, b"ab"), (LAST_UNIT, b"c")],
        [(TABLE, TWO), (b"q", b"not the payloads"), (PAYLOADS, b"ab")],
    ],
)
def test_tables_and_payloads_go_together(chunks, tolerant):
    with pytest.raises(FormatError):
        parse(forged(*chunks), tolerant=tolerant)


@given(st.binary(max_size=60), st.booleans())
@settings(max_examples=300)
def test_random_bytes_after_the_table(data, tolerant):
    start = forged((TABLE, TWO))
    try:
        found = parse(start + data, tolerant=tolerant)
    except FormatError:
        return
    assert tolerant
    assert len(found.units) == 2


# --- with a system ----------------------------------------------------------------------------------------------------


@pytest.fixture
def toys(tmp_path, monkeypatch):
    installed(tmp_path / "models", monkeypatch)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 16), (40, 51), (128, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_any_size(toys, size, channels):
    data = codec.encode(picture_of((*size, channels)), model="mosaic")
    parsed = parse(data)
    assert parsed.compact == (len(parsed.units) > 1) == (max(size) > 16)
    assert parsed.pack() == data
    assert codec.decode(data).samples.shape == (*size, channels)
    assert codec.open(data).problems() == []
    assert codec.open(data).lost() == []
    assert (codec.open(data).info.units, codec.open(data).info.layers) == (len(parsed.units), None)


def test_compact_files_are_smaller_and_hold_the_same(toys):
    picture = picture_of((96, 96, 3))
    small, large = (codec.encode(picture, model=model) for model in ("mosaic", "tiled"))
    assert codec.open(small).symbols_digest() == codec.open(large).symbols_digest()
    around = [
        info.bytes - info.payload_bytes - len(info.system) for info in (codec.open(small).info, codec.open(large).info)
    ]
    assert codec.open(small).info.units == 36
    assert around[1] - around[0] == 6 * 35


def test_sound_does_not_share_chunks(toys):
    parsed = parse(codec.encode(picture_of((64, 64, 3)), model="mosaic"))
    forgery = replace(parsed, params=pack(audio_params(8000, "mono", 1, "s16", 0))).pack()
    with pytest.raises(CorruptError, match="share a chunk"):
        codec.open(forgery)
