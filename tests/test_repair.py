"""Damaged pictures: what is lost is found, predicted where the system can, and said."""

import json

import numpy as np
import PIL.Image
import pytest

import codec
from codec import container
from codec.cli import exits
from codec.errors import CorruptError, FormatError

from commandline import invoke
from mosaics import LEVELS, installed
from support import ROOT, SMALL, picture_of

HEIGHT, WIDTH = 40, 51  # 5 x 7 tokens, 3 x 4 units
AREAS = [
    (x, y, min(16, WIDTH - x), min(16, HEIGHT - y)) for y in range(0, HEIGHT, 16) for x in range(0, WIDTH, 16)
]  # of the units


@pytest.fixture(autouse=True)
def toys(tmp_path, monkeypatch):
    installed(tmp_path / "models", monkeypatch)


@pytest.fixture
def data() -> bytes:
    return codec.encode(picture_of((HEIGHT, WIDTH, 3)), model="mosaic")


def starts_of(data: bytes) -> list[int]:
    """Return where the payloads of the units begin, and where the last ends."""
    sizes = [len(unit.payload) for unit in container.parse(data).units]
    first = len(data) - 4 - sum(sizes)
    return [first + sum(sizes[:i]) for i in range(len(sizes) + 1)]


def hit(data: bytes, *numbers: int) -> bytes:
    """Damage units: the first byte of a payload is the one that matters most."""
    return with_flips(data, *(starts_of(data)[i] for i in numbers))


def with_flips(data: bytes, *offsets: int) -> bytes:
    out = bytearray(data)
    for offset in offsets:
        out[offset] ^= 0xFF
    return bytes(out)


def check_repaired(damaged: bytes, data: bytes, lost: list[int]) -> None:
    """Hold what comes of a damaged file against the whole one."""
    stream = codec.open(damaged, tolerant=True)
    assert stream.lost() == [AREAS[i] for i in lost]
    picture, whole = stream.decode(repair=True), codec.decode(data)
    assert stream.lost() == [AREAS[i] for i in lost]
    expected = whole.samples.copy()
    if lost:
        known = np.ones(codec.open(data).symbols()["tokens"].shape, bool)
        for x, y, _, _ in (AREAS[i] for i in lost):
            known[y // 8 : y // 8 + 2, x // 8 : x // 8 + 2] = False
        mean = int(codec.open(data).symbols()["tokens"].numpy()[known].astype(np.float32).mean())
        for x, y, w, h in (AREAS[i] for i in lost):
            expected[y : y + h, x : x + w] = mean * (256 // LEVELS)
    assert np.array_equal(picture.samples, expected)


def test_every_unit_can_be_lost(data):
    for i in range(len(AREAS)):
        damaged = hit(data, i)
        with pytest.raises(CorruptError):
            codec.open(damaged)
        check_repaired(damaged, data, [i])
        with pytest.raises(CorruptError, match="fetch"):
            codec.open(damaged, tolerant=True).decode()
        problems = codec.open(damaged, tolerant=True).problems()
        assert [line.split(":")[0] for line in problems] == ["the checksum of all units does not match", f"unit {i}"]
        assert not any("please report" in line for line in problems)


def test_several_are_lost(data):
    check_repaired(hit(data, 0, 1, 6, 11), data, [0, 1, 6, 11])


def test_all_are_lost(data):
    damaged = hit(data, *range(12))
    assert len(codec.open(damaged, tolerant=True).lost()) == 12
    with pytest.raises(CorruptError, match="nothing to predict from"):
        codec.open(damaged, tolerant=True).decode(repair=True)


def test_a_wrong_checksum_alone_costs_nothing(data):
    for offset in (len(data) - 1, starts_of(data)[0] - 1):
        damaged = with_flips(data, offset)
        check_repaired(damaged, data, [])
        assert np.array_equal(codec.open(damaged, tolerant=True).decode().samples, codec.decode(data).samples)
        assert codec.open(damaged, tolerant=True).problems() == ["the checksum of all units does not match"]


def test_a_whole_file_is_as_it_was(data):
    check_repaired(data, data, [])


def test_every_cut(data):
    """Units that lie before it are there; where none is, or not even their table, it is an error of ours."""
    starts = starts_of(data)
    for cut in range(len(data)):
        with pytest.raises(FormatError):
            codec.decode(data[:cut])
        if cut >= starts[1]:
            check_repaired(data[:cut], data, [i for i in range(12) if starts[i + 1] > cut])
        else:
            with pytest.raises(FormatError):
                codec.open(data[:cut], tolerant=True).decode(repair=True)


def test_a_flip_in_every_byte_is_a_picture(data):
    out, whole = bytearray(data), codec.decode(data)
    for byte in range(starts_of(data)[0] - 1, len(data)):
        out[byte] ^= 1 << byte % 8
        stream = codec.open(bytes(out), tolerant=True)
        picture = stream.decode(repair=True)
        kept = np.ones((HEIGHT, WIDTH), bool)
        for x, y, w, h in stream.lost():
            kept[y : y + h, x : x + w] = False
        assert len(stream.lost()) <= 1
        assert np.array_equal(picture.samples[kept], whole.samples[kept])
        out[byte] ^= 1 << byte % 8


def test_units_with_a_checksum_each():
    """Systems with few, large units tell where they are damaged, too, and that they cannot predict it."""
    data = bytearray(codec.encode(picture_of((HEIGHT, WIDTH, 3)), model="tiled"))
    data[-8] ^= 1
    stream = codec.open(bytes(data), tolerant=True)
    assert stream.lost() == AREAS[-1:]
    with pytest.raises(ValueError, match="tiled cannot predict what was lost"):
        stream.decode(repair=True)
    assert stream.remedies() == ()


def test_areas_of_units_that_are_no_blocks():
    assert codec.open(with_flips(codec.encode(picture_of((9, 7, 3)), model="ladder"), -5), tolerant=True).lost() == [
        (0, 0, 7, 9)
    ]


def test_what_is_not_for_sound():
    stream = codec.open(ROOT / "bitstreams" / "audio-stereo.lcb", tolerant=True)
    with pytest.raises(ValueError, match="cannot be predicted"):
        stream.decode(repair=True)
    with pytest.raises(ValueError, match="images"):
        stream.lost()
    assert stream.remedies() == ()


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path, data):
    path = tmp_path / "photo.lcb"
    path.write_bytes(hit(data, 3, 4))
    return path


def test_decode_repair_says_what_it_predicted(damaged, data):
    code, stdout, stderr = invoke("decode", damaged, "--repair", "--json")
    assert code == 0, stderr
    assert json.loads(stdout)["predicted"] == [[48, 0, 3, 16], [0, 16, 16, 16]]
    lines = stderr.splitlines()
    assert lines == [
        f"codec: {damaged}: predicted 3x16 pixels at 48, 0",
        f"codec: {damaged}: predicted 16x16 pixels at 0, 16",
    ]
    with PIL.Image.open(damaged.with_suffix(".png")) as image:
        assert image.size == (WIDTH, HEIGHT)
        assert np.array_equal(np.asarray(image)[20:, 20:], codec.decode(data).samples[20:, 20:])


def test_decode_repair_of_a_whole_file(tmp_path, data):
    (tmp_path / "a.lcb").write_bytes(data)
    code, stdout, stderr = invoke("decode", tmp_path / "a.lcb", "--repair", "--json")
    assert (code, json.loads(stdout)["predicted"], stderr) == (0, [], "")
    assert invoke("decode", tmp_path / "a.lcb", "-f", "--salvage")[0] == 0


def test_without_repair_it_is_an_error_that_names_it(damaged):
    code, _, stderr = invoke("decode", damaged)
    assert code == exits.DAMAGED
    assert stderr.count("\n") == 1
    assert "--repair" in stderr
    code, _, stderr = invoke("decode", damaged, "--salvage")
    assert code == exits.FAILURE
    assert stderr.count("\n") == 1
    assert "use --repair" in stderr
    assert not damaged.with_suffix(".png").exists()


def test_systems_that_cannot(tmp_path):
    for model in ("tiled", SMALL):
        data = codec.encode(picture_of((16, 2100, 3)), model=model)
        path = tmp_path / f"{model}.lcb"
        path.write_bytes(with_flips(data, len(data) - 9))
        code, _, stderr = invoke("decode", path, "--repair")
        assert (code, stderr.count("\n")) == (exits.FAILURE, 1)
        assert "cannot predict what was lost" in stderr
        code, _, stderr = invoke("decode", path)
        assert (code, "--repair" in stderr) == (exits.DAMAGED, False)
        code, _, stderr = invoke("decode", path, "--salvage")
        assert (code, stderr.count("\n"), "fetch the file again" in stderr) == (exits.FAILURE, 1, True)


def test_options_that_do_not_fit(damaged):
    assert invoke("decode", damaged, "--repair", "--salvage")[0] == exits.USAGE
    sound = ROOT / "bitstreams" / "audio-stereo.lcb"
    code, _, stderr = invoke("decode", sound, "--repair", "-o", damaged.parent / "x.wav")
    assert (code, "for images" in stderr) == (exits.FAILURE, True)


def test_a_damaged_header_or_table_cannot_be_repaired(tmp_path, data):
    for offset in (6, 9, 15, starts_of(data)[0] - 3):
        path = tmp_path / "broken.lcb"
        path.write_bytes(with_flips(data, offset))
        code, _, stderr = invoke("decode", path, "--repair")
        assert code in (exits.DAMAGED, exits.UNKNOWN)
        assert stderr.count("\n") == 1


def test_inspect_lists_what_is_lost(damaged):
    code, stdout, _ = invoke("inspect", damaged, "--check", "--json")
    assert code == exits.DAMAGED
    problems = json.loads(stdout)["problems"]
    assert [line.split(":")[0] for line in problems[1:]] == ["unit 3", "unit 4"]
    assert invoke("inspect", damaged)[0] == exits.DAMAGED
