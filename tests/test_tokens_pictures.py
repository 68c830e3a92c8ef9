"""Tokens of pictures, from files, from the command line, and back; and the example that learns from them."""

import json
import os
import re
import textwrap
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import codec
from codec import checkpoint
from codec.cli import exits
from codec.learning import generator
from codec.params import QUALITY_STEPS, image_params

import mosaics
from commandline import invoke
from support import picture_of


class Tesserae(mosaics.Mosaic):
    """Tokens [h, w], of pictures that can be made of them."""

    id = "tesserae"

    def tokens(self, symbols):
        return symbols["tokens"]

    def of_tokens(self, tokens, *, width=None, height=None):
        if tokens.dim() != 2 or int(tokens.max()) >= mosaics.LEVELS:
            raise ValueError(f"tokens of shape {list(tokens.shape)}, at most {int(tokens.max())}: they do not fit")
        size = height or 8 * tokens.shape[0], width or 8 * tokens.shape[1], 3
        return {"tokens": tokens.int()}, image_params(np.broadcast_to(np.uint8(0), size), QUALITY_STEPS)


class Rungs(mosaics.Ladder):
    """Tokens [regions, n] of pictures that can be made of them."""

    id = "rungs"

    def tokens(self, symbols):
        return symbols["tokens"]

    def of_tokens(self, tokens, *, width=None, height=None):
        size = height or 32, width or 32 * len(tokens), 3
        quality = tokens.shape[1] * QUALITY_STEPS // 16
        return {"tokens": tokens.int()}, image_params(np.broadcast_to(np.uint8(0), size), quality)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    for cls in (Tesserae, Rungs):
        checkpoint.save(cls(), folder / cls.id, config={}, facts={})
    return folder


@pytest.fixture(autouse=True)
def models(zoo, monkeypatch):
    """Make models `tesserae` and `rungs` for the time of a test."""
    own, original = {cls.id: cls for cls in (Tesserae, Rungs)}, checkpoint.system_class
    monkeypatch.setattr(checkpoint, "system_class", lambda name: own.get(name) or original(name))
    monkeypatch.setenv(checkpoint.PATH_VARIABLE, str(zoo), prepend=os.pathsep)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Three pictures of one size, one of them in a folder; something else beside them."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "sub").mkdir()
    for i, name in enumerate(("a.png", "b.png", "sub/c.png")):
        PIL.Image.fromarray(np.roll(picture_of((37, 70, 3)), 9 * i, 1)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def tokens_of(path: Path, model: str = "tesserae") -> np.ndarray:
    return codec.open(codec.encode(path, model=model, quality=100)).tokens()


def test_tokens_are_grids(photos):
    tokens = tokens_of(photos / "a.png")
    assert (tokens.shape, tokens.dtype) == ((5, 9), np.int32)
    assert tokens_of(photos / "a.png", "rungs").shape == (2 * 3, 16)


@pytest.mark.parametrize("model", ["tesserae", "rungs"])
def test_tokens_become_the_picture_of_the_file(photos, model):
    data = codec.encode(photos / "a.png", model=model, quality=100)
    picture = codec.from_tokens(codec.open(data).tokens(), model, width=70, height=37)
    assert isinstance(picture, codec.Image)
    assert np.array_equal(picture.samples, codec.decode(data).samples)


def test_the_size_is_that_of_the_tokens_unless_given(photos):
    tokens = torch.from_numpy(tokens_of(photos / "a.png"))
    picture = codec.from_tokens(tokens, "tesserae")
    assert (picture.width, picture.height) == (72, 40)


def test_what_does_not_fit_is_refused():
    grid = np.zeros((2, 2), int)
    for tokens, words in ((grid + 64, "do not fit"), (grid[0], "do not fit"), (grid + 0.5, "whole numbers")):
        with pytest.raises(ValueError, match=words):
            codec.from_tokens(tokens, "tesserae")
    with pytest.raises(ValueError, match="tesserae makes image, which has no rate or length"):
        codec.from_tokens(grid, "tesserae", rate=16_000)
    with pytest.raises(ValueError, match="rvq-conformance makes audio, which has no width or height"):
        codec.from_tokens(grid, "rvq-conformance", width=3)
    with pytest.raises(ValueError, match="rvq, vqgan or onedpiece"):
        codec.from_tokens(grid, "walloc-conformance")


def test_a_folder_there_and_back(photos, tmp_path):
    npz, back = tmp_path / "deep" / "t.npz", tmp_path / "back"
    code, stdout, stderr = invoke("tokens", "-r", photos, "-o", npz, "-m", "tesserae", "--json")
    assert code == 0, stderr
    report = json.loads(stdout)
    assert (report["tokens"], report["model"], report["names"]) == (
        [3, 5, 9],
        "tesserae",
        ["a.png", "b.png", "sub/c.png"],
    )
    with np.load(npz, allow_pickle=False) as archive:
        assert {name: archive[name].shape for name in archive} == {
            "tokens": (3, 5, 9), "model": (), "names": (3,), "width": (3,), "height": (3,)
        }  # fmt: skip
        assert np.array_equal(archive["tokens"][2], tokens_of(photos / "sub" / "c.png"))
        assert (archive["width"].tolist(), archive["height"].tolist()) == ([70] * 3, [37] * 3)
    assert invoke("tokens", npz, "-o", back)[0] == 0
    for name in report["names"]:
        decoded = codec.decode(codec.encode(photos / name, model="tesserae"))
        assert np.array_equal(codec.read(back / name).samples, decoded.samples)
    assert invoke("tokens", npz, "-o", back)[0] == exits.FAILURE  # they exist
    assert invoke("tokens", npz, "-o", back, "-f")[0] == 0


def test_one_picture_becomes_one_file(photos, tmp_path):
    npz, out = tmp_path / "t.npz", tmp_path / "out.webp"
    lcb = tmp_path / "a.lcb"
    lcb.write_bytes(codec.encode(photos / "a.png", model="rungs", quality=50))
    assert invoke("tokens", lcb, "-o", npz)[2] == f"{lcb} -> {npz}  1x6x8 tokens of rungs\n"
    assert invoke("tokens", npz, "-o", out)[0] == 0
    assert np.array_equal(codec.read(out).samples, codec.decode(lcb).samples)
    assert invoke("tokens", npz, "-o", f"{tmp_path / 'folder'}/")[0] == 0
    assert (tmp_path / "folder" / "a.png").exists()


def test_grids_of_different_shapes_are_arrays_of_their_own(photos, tmp_path):
    small, npz = tmp_path / "small.png", tmp_path / "t.npz"
    PIL.Image.fromarray(picture_of((16, 24, 3))).save(small)
    assert "unequal grids of tokens" in invoke("tokens", photos / "a.png", small, "-o", npz, "-m", "tesserae")[2]
    with np.load(npz) as archive:
        assert [archive[f"tokens_{i}"].shape for i in range(2)] == [(5, 9), (2, 3)]
        assert "tokens" not in archive
    assert invoke("tokens", npz, "-o", tmp_path / "back")[0] == 0
    sizes = {path.name: codec.read(path).samples.shape[:2] for path in (tmp_path / "back").iterdir()}
    assert sizes == {"a.png": (37, 70), "small.png": (16, 24)}


def test_tokens_and_model_are_enough(tmp_path):
    made = np.random.default_rng(0).integers(0, 64, (2, 4, 5))
    np.savez(tmp_path / "made.npz", tokens=made, model="tesserae")
    assert invoke("tokens", tmp_path / "made.npz", "-o", tmp_path / "out")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0000.png", "0001.png"]
    np.savez(tmp_path / "one.npz", tokens=made[1])
    assert invoke("tokens", tmp_path / "one.npz", "-m", "tesserae", "-o", tmp_path / "one.png")[0] == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "out" / "0001.png").read_bytes()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"names": ["../x.png", "y.png"]}, "no name of a file in a folder"),
        ({"names": ["/tmp/x.png", "y.png"]}, "no name of a file in a folder"),
        ({"names": ["x.png", "x.png"]}, "two pictures have one name"),
        ({"names": ["x.png"]}, "names is not one for each of 2"),
        ({"width": [8.0, 8.5]}, "width is not one for each of 2"),
        ({"tokens": np.zeros(3, int)}, r"they are \[pictures, h, w\]"),
        ({"model": "rvq-conformance", "tokens_0": 0}, "token"),
    ],
)
def test_archives_that_make_no_sense_are_refused(tmp_path, arrays, words):
    arrays = {"tokens": np.zeros((2, 3, 4), int), "model": "tesserae"} | arrays
    if "tokens_0" in arrays:
        arrays.pop("tokens")
    np.savez(tmp_path / "bad.npz", **arrays)
    code, _, stderr = invoke("tokens", tmp_path / "bad.npz", "-o", f"{tmp_path / 'out'}/")
    assert code == exits.DAMAGED
    assert re.search(words, stderr)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["PHOTOS", "-o", "T"], exits.USAGE, "add -r"),
        (["PHOTOS/a.png", "-o", "T.png"], exits.USAGE, "tokens go to an .npz file"),
        (["PHOTOS/a.png", "-o", "T", "-m", "walloc-conformance"], exits.FAILURE, "no codebooks"),
        (["PHOTOS/notes.txt", "-o", "T", "-m", "tesserae"], exits.FAILURE, "notes.txt"),
        (["LCB", "-o", "T", "-m", "tesserae"], exits.USAGE, "leave -m out"),
        (["PHOTOS/a.png", "CUT", "-o", "T", "-m", "tesserae"], exits.USAGE, "leave -m out"),
        (["CUT", "-o", "T"], exits.DAMAGED, "cut.lcb: "),
        (["LCB", "OTHER", "-o", "T"], exits.FAILURE, "tokens of rungs and tesserae do not mix"),
        (["PHOTOS/a.png", "SOUND", "-o", "T", "-m", "tesserae"], exits.FAILURE, "for image, not for audio"),
    ],
)
def test_wrong_requests(photos, tmp_path, words, code, message):
    lcb, other, cut, sound = (tmp_path / name for name in ("l.lcb", "o.lcb", "cut.lcb", "s.wav"))
    lcb.write_bytes(codec.encode(photos / "a.png", model="tesserae"))
    other.write_bytes(codec.encode(photos / "a.png", model="rungs"))
    cut.write_bytes(lcb.read_bytes()[:-3])
    with sound.open("wb") as file:
        codec.write(codec.Audio(np.zeros((1, 99), np.float32), 8000), file, "wav")
    places = {"LCB": lcb, "OTHER": other, "CUT": cut, "SOUND": sound, "T": tmp_path / "t.npz"}
    given = [str(places.get(word, word)).replace("PHOTOS", str(photos)) for word in words]
    got, _, stderr = invoke("tokens", *given)
    assert got == code, stderr
    assert message in stderr
    assert not (tmp_path / "t.npz").exists()


def test_nothing_is_overwritten(photos, tmp_path):
    npz = tmp_path / "t.npz"
    npz.write_bytes(b"mine")
    assert invoke("tokens", photos / "a.png", "-o", npz, "-m", "tesserae")[0] == exits.FAILURE
    assert npz.read_bytes() == b"mine"


def test_the_example_runs(photos, tmp_path, monkeypatch):
    """The lines in the generator's docstring, for the toy model and as small as it gets."""
    for path in sorted(photos.rglob("*.png")):
        target = tmp_path / "coded" / path.with_suffix(".lcb").name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(codec.encode(path, model="tesserae"))
    lines = textwrap.dedent(generator.__doc__[generator.__doc__.index("    import torch") :].rpartition("\n\n")[0])
    for text, other in (
        ("entries=8192", "entries=64, width=32, layers=1"), ("range(100)", "range(2)"), ("crop=16", "crop=4"),
        ("[1, 16, 16]", "[1, 4, 6]"), ('"vqgan"', '"tesserae"'),
    ):  # fmt: skip
        assert text in lines
        lines = lines.replace(text, other)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(lines, names)
    assert len(names["data"]) == 3
    assert (names["picture"].width, names["picture"].height) == (48, 32)
