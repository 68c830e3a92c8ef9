import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.container import HEADER
from codec.errors import CorruptError, FormatError, TruncatedError
from codec.fields import Field, Layout, get_varint, put_varint
from codec.params import AUDIO, IMAGE, LAYOUTS, VIDEO, quality_index, quality_of, unpack

from support import ROOT

IMAGE_VALUES = {"quality": 300, "kind": 0, "gray": 0, "deep": 1, "width": 768, "height": 512}


@given(st.integers(0, (1 << 63) - 1))
def test_varint_round_trip(value):
    data = put_varint(value)
    assert get_varint(data, 0) == (value, len(data))
    for cut in range(len(data)):
        with pytest.raises(TruncatedError):
            get_varint(data[:cut], 0)


def test_varint_has_one_form():
    with pytest.raises(CorruptError, match="shortest"):
        get_varint(b"\x80\x00", 0)
    with pytest.raises(CorruptError, match="9 bytes"):
        get_varint(b"\xff" * 10, 0)
    with pytest.raises(ValueError, match="out of range"):
        put_varint(1 << 63)


@given(st.integers(0, 1024), st.integers(1, (1 << 31) - 1), st.integers(1, (1 << 31) - 1), st.booleans())
def test_image_params_round_trip(quality, width, height, gray):
    values = {"quality": quality, "kind": 0, "gray": int(gray), "deep": 0, "width": width, "height": height}
    packed = IMAGE.pack(values)
    assert IMAGE.unpack(packed) == (values, len(packed))
    assert unpack(packed) == values


def test_image_params_golden_bytes():
    assert IMAGE.pack(IMAGE_VALUES).hex() == "2c41" + "8006" + "8004"


def test_values_are_checked_on_both_sides():
    with pytest.raises(ValueError, match="quality"):
        IMAGE.pack(IMAGE_VALUES | {"quality": 1025})
    with pytest.raises(ValueError, match="width"):
        IMAGE.pack(IMAGE_VALUES | {"width": 0})
    with pytest.raises(CorruptError, match="quality"):
        IMAGE.unpack((2047).to_bytes(2, "little") + b"\x01\x01")
    with pytest.raises(CorruptError, match="reserved"):
        IMAGE.unpack((1 << 15).to_bytes(2, "little") + b"\x01\x01")
    with pytest.raises(CorruptError, match="width"):
        IMAGE.unpack(b"\0\0\0\x01")


def test_names():
    layout = Layout((Field("id", "name", ""),))
    assert layout.pack({"id": "walloc"}) == b"wallo\xe3"
    assert layout.unpack(b"wallo\xe3")[0] == {"id": "walloc"}
    for bad in ("", "Walloc", "1walloc", "wal loc", "w" * 33):
        with pytest.raises(ValueError, match="registered"):
            layout.pack({"id": bad})
    for raw in (b"walloc", b"", b"\x81", b"w" * 40):
        with pytest.raises(CorruptError):
            layout.unpack(raw)


@given(st.binary(max_size=40))
def test_random_bytes_raise_format_errors_only(data):
    for layout in (HEADER, IMAGE, AUDIO, VIDEO):
        try:
            values, used = layout.unpack(data)
        except FormatError:
            continue
        assert layout.pack(values) == data[:used]


def test_format_document_shows_the_declarations():
    text = (ROOT / "bitstreams" / "FORMAT.md").read_text()
    assert HEADER.table() in text
    assert IMAGE.table() in text
    assert AUDIO.table() in text
    assert VIDEO.table() in text
    assert " ".join(f"{i} {name}," for i, name in enumerate(list(LAYOUTS)[:-1])) in " ".join(text.split())


@pytest.mark.parametrize("quality", [0, 0.1, 37.5, 60, 99.9, 100])
def test_quality_survives_the_header(quality):
    index = quality_index(quality)
    assert quality_index(quality_of(index)) == index
    assert abs(quality_of(index) - quality) <= 0.06


@pytest.mark.parametrize("quality", [-0.1, 100.1, float("nan")])
def test_quality_out_of_range(quality):
    with pytest.raises(ValueError, match="outside"):
        quality_index(quality)
