"""Pictures in layers: the first of them alone, files that were cut off, files cut to a size."""

import io
import json

import numpy as np
import pytest

import codec
from codec import container
from codec.cli import exits
from codec.errors import CorruptError, FormatError, RateError, TruncatedError

from commandline import invoke
from mosaics import Ladder, installed
from support import ROOT, SMALL, picture_of

PICTURE = picture_of((77, 109, 3))  # 12 regions


@pytest.fixture(autouse=True)
def toys(tmp_path, monkeypatch):
    installed(tmp_path / "models", monkeypatch)


@pytest.fixture
def data() -> bytes:
    return codec.encode(PICTURE, model="ladder", quality=100)


@pytest.fixture
def path(tmp_path, data):
    (tmp_path / "photo.lcb").write_bytes(data)
    return tmp_path / "photo.lcb"


def tokens(data, **options):
    return codec.open(data, **options).symbols()["tokens"]


def is_prefix(part: bytes, whole: bytes) -> bool:
    found = tokens(part)
    return bool((found == tokens(whole)[:, : found.shape[1]]).all())


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (32, 32), (40, 100)])
@pytest.mark.parametrize("quality", [0, 6, 30, 60, 100])
def test_any_size_and_quality(size, quality):
    data = codec.encode(picture_of((*size, 1)), model="ladder", quality=quality)
    assert codec.decode(data).samples.shape == (*size, 1)
    assert container.parse(data).pack() == data
    count = codec.open(data).info.units
    for layers in range(1, count + 1):
        assert codec.decode(data, layers=layers).samples.shape == (*size, 1)


# --- the first layers -------------------------------------------------------------------------------------------------


def test_layers_are_a_prefix(data):
    assert codec.open(data).info.layers == tuple(len(unit.payload) for unit in container.parse(data).units)
    whole, values = tokens(data), []
    for layers, count in enumerate(Ladder.EDGES[1:], 1):
        stream = codec.open(data, layers=layers)
        assert np.array_equal(stream.symbols()["tokens"], whole[:, :count])
        assert np.array_equal(stream.symbols()["tokens"], whole[:, :count])  # asked twice
        values.append(codec.psnr_of(stream.decode(), codec.read(PICTURE)))
        assert stream.info == codec.open(data).info  # of the file
    assert values[0] < values[-1]
    assert np.array_equal(codec.decode(data, layers=5).samples, codec.decode(data).samples)


@pytest.mark.parametrize("layers", [0, -1, 6, 100])
def test_layers_that_are_not_there(data, layers):
    stream = codec.open(data, layers=layers)
    for _ in range(2):
        with pytest.raises(ValueError, match="the file has 5, so choose 1 to 5"):
            stream.decode()


def test_systems_and_signals_without_layers(data):
    plain = codec.encode(PICTURE, model="mosaic")
    with pytest.raises(ValueError, match="mosaic has no layers"):
        codec.decode(plain, layers=1)
    with pytest.raises(ValueError, match="mosaic has no layers"):
        codec.open(plain).whole_layers()
    with pytest.raises(ValueError, match="not for audio"):
        codec.open(ROOT / "bitstreams" / "audio-stereo.lcb", layers=1)
    assert codec.open(data).remedies() == ("salvage",)


def test_decode_and_inspect_say_it(path):
    code, stdout, stderr = invoke("decode", path, "--layers", 2, "--json")
    assert (code, stderr) == (0, "")
    assert json.loads(stdout)["layers"] == 2
    assert np.array_equal(codec.read(path.with_suffix(".png")).samples, codec.decode(path, layers=2).samples)
    code, _, stderr = invoke("decode", path, "--layers", 6, "-f")
    assert (code, stderr.count("\n"), "choose 1 to 5" in stderr) == (exits.FAILURE, 1, True)
    assert invoke("decode", path, "--layers", 0, "-f")[0] == exits.USAGE
    sizes = list(codec.open(path).info.layers)
    assert f"layers    5, of {', '.join(map(str, sizes))} bytes" in invoke("inspect", path)[1]
    assert json.loads(invoke("inspect", path, "--json")[1])["layers"] == sizes
    (path.parent / "plain.lcb").write_bytes(codec.encode(PICTURE, model="mosaic"))
    assert json.loads(invoke("inspect", path.parent / "plain.lcb", "--json")[1])["layers"] is None
    code, _, stderr = invoke("decode", path.parent / "plain.lcb", "--layers", 1)
    assert (code, "has no layers" in stderr) == (exits.FAILURE, True)
    sound = ROOT / "bitstreams" / "audio-stereo.lcb"
    code, _, stderr = invoke("decode", sound, "--layers", 1, "-o", path.parent / "x.wav")
    assert (code, "for images" in stderr) == (exits.FAILURE, True)


# --- files that were cut off ------------------------------------------------------------------------------------------


def test_every_cut_gives_the_layers_before_it(data):
    sizes = codec.open(data).info.layers
    first = len(data) - 4 - sum(sizes)
    for cut in range(len(data)):
        with pytest.raises(FormatError):
            codec.open(data[:cut])
        whole = sum(first + sum(sizes[: i + 1]) <= cut for i in range(5))
        if not whole:
            with pytest.raises(FormatError):
                codec.open(data[:cut], tolerant=True).decode()
            continue
        stream = codec.open(data[:cut], tolerant=True)
        assert stream.whole_layers() == whole
        assert np.array_equal(stream.decode().samples, codec.decode(data, layers=whole).samples)


def test_a_damaged_layer_ends_it(data):
    out = bytearray(data)
    out[-4 - sum(codec.open(data).info.layers[3:])] ^= 0xFF  # of the fourth
    stream = codec.open(bytes(out), tolerant=True)
    assert stream.whole_layers() == 3
    assert np.array_equal(stream.decode().samples, codec.decode(data, layers=3).samples)
    assert codec.open(bytes(out), tolerant=True, layers=2).whole_layers() == 2
    with pytest.raises(ValueError, match="cannot predict"):
        stream.decode(repair=True)
    with pytest.raises(CorruptError):
        stream.symbols()


def test_salvage(path, data):
    sizes = codec.open(data).info.layers
    path.write_bytes(data[: -4 - sizes[-1] // 2])
    code, _, stderr = invoke("decode", path)
    assert (code, "--salvage" in stderr, "--repair" in stderr) == (exits.DAMAGED, True, False)
    code, stdout, stderr = invoke("decode", path, "--salvage", "--json")
    assert (code, json.loads(stdout)["layers"]) == (0, 4)
    assert stderr == f"codec: {path}: 4 of 5 layers are whole\n"
    assert np.array_equal(codec.read(path.with_suffix(".png")).samples, codec.decode(data, layers=4).samples)
    code, stdout, stderr = invoke("decode", path, "--salvage", "--layers", 2, "--json", "-f")
    assert (code, json.loads(stdout)["layers"]) == (0, 2)
    code, _, stderr = invoke("decode", path, "--repair", "-f")
    assert (code, "cannot predict" in stderr) == (exits.FAILURE, True)
    path.write_bytes(data[: -4 - sum(sizes) + sizes[0] - 1])
    code, _, stderr = invoke("decode", path, "--salvage", "-f")
    assert (code, stderr.count("\n"), "not even the first layer" in stderr) == (exits.DAMAGED, 1, True)
    code, stdout, _ = invoke("inspect", path, "--check", "--json")
    assert (code, len(json.loads(stdout)["problems"])) == (exits.DAMAGED, 6)


# --- files cut to a size ----------------------------------------------------------------------------------------------


def test_truncation_keeps_the_largest_prefix_that_fits(data):
    sizes = {}
    for quality in range(0, 1025, 16):
        made = codec.encode(PICTURE, model="ladder", quality=quality * 100 / 1024)
        count = tokens(made).shape[1]
        sizes[count] = len(made)
    analyzed = Ladder.analyzed
    for target in range(sizes[1], len(data) + 3, 4):
        cut = codec.truncate(data, target_size=target)
        assert len(cut) <= target
        assert tokens(cut).shape[1] == max(count for count, size in sizes.items() if size <= target)
        assert is_prefix(cut, data)
    assert Ladder.analyzed == analyzed  # nothing was encoded again


def test_truncation_of_a_truncation(data):
    once = codec.truncate(data, target_size=150)
    assert codec.truncate(once, target_size=90) == codec.truncate(data, target_size=90)
    assert container.parse(once).pack() == once
    assert codec.open(once).problems() == []


def test_layers_and_truncation_agree(data):
    for layers, count in enumerate(Ladder.EDGES[1:5], 1):
        cut = codec.truncate(data, target_size=len(codec.encode(PICTURE, model="ladder", quality=count * 6.25)))
        assert codec.open(cut).info.units == layers
        assert np.array_equal(codec.decode(cut).samples, codec.decode(data, layers=layers).samples)


def test_what_is_small_enough_stays(data):
    for size in (len(data), 10**6):
        assert codec.truncate(io.BytesIO(data), target_size=size) == data
    plain = codec.encode(PICTURE, model="mosaic")
    assert codec.truncate(plain, target_size=len(plain)) == plain


def test_metadata_and_alpha_are_kept(data):
    alpha = np.zeros(PICTURE.shape[:2], np.uint8)
    picture = codec.Image(PICTURE, alpha, {"exif": b"Exif\0\0MM" + bytes(9)})
    cut = codec.truncate(codec.encode(picture, model="ladder", quality=100), target_size=260)
    back = codec.decode(cut)
    assert dict(back.metadata) == picture.metadata
    assert np.array_equal(back.alpha, alpha)
    assert tokens(cut).shape[1] < 16


def test_truncation_that_cannot_be(data):
    smallest = len(codec.encode(PICTURE, model="ladder", quality=0))
    assert len(codec.truncate(data, target_size=smallest)) == smallest
    for made in (data, codec.truncate(data, target_size=smallest)):
        with pytest.raises(RateError, match=f"quality 0 gives {smallest};"):
            codec.truncate(made, target_size=smallest - 1)
    with pytest.raises(ValueError, match="files of mosaic cannot be cut, those of onedpiece can"):
        codec.truncate(codec.encode(PICTURE, model="mosaic"), target_size=100)
    with pytest.raises(TruncatedError):
        codec.truncate(data[:-1], target_size=100)


def test_encode_looks_at_the_picture_once():
    for target in ({"target_size": 100}, {"bpp": 0.1}, {"psnr": 18.0}):
        before = Ladder.analyzed
        made = codec.encode(PICTURE, model="ladder", **target)
        assert Ladder.analyzed == before + 1
        quality = codec.open(made).info.quality
        assert made == codec.encode(PICTURE, model="ladder", quality=quality)
    assert codec.psnr_of(codec.decode(made), codec.read(PICTURE)) >= 18
    with pytest.raises(RateError, match="quality 0"):
        codec.encode(PICTURE, model="ladder", target_size=10)
    with pytest.raises(ValueError, match="effort"):
        codec.encode(PICTURE, model="ladder", target_size=100, effort=11)


def test_the_command(path, data):
    code, stdout, stderr = invoke("truncate", path, "--bytes", 150, "--json")
    assert (code, stderr) == (0, "")
    report, out = json.loads(stdout), path.with_name("photo.cut.lcb")
    assert out.read_bytes() == codec.truncate(data, target_size=150)
    assert path.read_bytes() == data
    assert (report["input"], report["output"], report["before"]) == (str(path), str(out), len(data))
    assert report["bytes"] == out.stat().st_size <= 150
    assert sum(report["layers"]) < 150
    assert (report["width"], report["height"], report["model"]) == (109, 77, "ladder")
    code, _, stderr = invoke("truncate", path, "--bytes", 150)
    assert (code, "-f" in stderr) == (exits.FAILURE, True)
    assert invoke("truncate", path, "--bytes", "90", "-f")[0] == 0
    assert out.stat().st_size <= 90
    assert invoke("truncate", path, "--bytes", "0.2k", "-o", path.parent / "new" / "x.lcb")[0] == 0
    assert invoke("truncate", path, "--bytes", 150, "-o", path, "-f")[0] == 0
    assert path.read_bytes() == codec.truncate(data, target_size=150)


def test_the_command_on_folders(path, data):
    assert invoke("truncate", "-r", path.parent, "--bytes", 100, "-o", path.parent / "out")[0] == 0
    assert [p.name for p in (path.parent / "out").iterdir()] == ["photo.lcb"]
    for _ in range(2):  # what was cut is not cut again
        assert invoke("truncate", "-r", path.parent, "--bytes", 100, "-f")[0] == 0
    assert sorted(p.name for p in path.parent.rglob("*.lcb")) == ["photo.cut.lcb"] * 2 + ["photo.lcb"] * 2


def test_exit_codes_of_the_command(path, tmp_path):
    smallest = len(codec.encode(PICTURE, model="ladder", quality=0))
    code, _, stderr = invoke("truncate", path, "--bytes", smallest - 1)
    assert (code, stderr.count("\n"), f"quality 0 gives {smallest};" in stderr) == (exits.UNREACHABLE, 1, True)
    assert invoke("truncate", path)[0] == exits.USAGE
    assert invoke("truncate", path, "--bytes", "few")[0] == exits.USAGE
    (tmp_path / "plain.lcb").write_bytes(codec.encode(PICTURE, model=SMALL))
    code, _, stderr = invoke("truncate", tmp_path / "plain.lcb", "--bytes", 100)
    assert (code, stderr.count("\n"), "onedpiece" in stderr) == (exits.FAILURE, 1, True)
    code, _, stderr = invoke("truncate", ROOT / "bitstreams" / "audio-stereo.lcb", "--bytes", 100, "-o", tmp_path / "a")
    assert (code, "onedpiece" in stderr) == (exits.FAILURE, True)
    path.write_bytes(path.read_bytes()[:-1])
    assert invoke("truncate", path, "--bytes", 100)[0] == exits.DAMAGED
    assert not list(tmp_path.glob("*.cut.lcb"))
