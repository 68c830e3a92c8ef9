"""Systems that serve a task, and what `codec predict` says of their files."""

import json
import math

import pytest

import codec
from codec.cli import exits
from codec.errors import NoSignalError
from codec.task import Prediction

from commandline import invoke
from lamps import installed, lit
from support import SMALL


@pytest.fixture(autouse=True)
def lamp(tmp_path, monkeypatch):
    installed(tmp_path / "models", monkeypatch)


@pytest.fixture
def bright(tmp_path):
    return lit(tmp_path / "bright.png", 200)


@pytest.fixture
def stream(bright, tmp_path):
    path = tmp_path / "bright.lcb"
    path.write_bytes(codec.encode(bright, model="lamp-1"))
    return path


def test_a_file_predicts(stream):
    found = codec.open(stream).predict()
    assert isinstance(found, codec.Prediction)
    assert found.label == str(found) == "bright"
    assert list(found.probabilities) == ["bright", "dark", "green"]
    assert list(found.probabilities.values()) == sorted(found.probabilities.values(), reverse=True)
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert found.probabilities["bright"] == pytest.approx(1 / (1 + math.exp(-9)), abs=1e-4)
    with pytest.raises(AttributeError):
        found.label = "dark"
    assert found == Prediction("bright", dict(found.probabilities))


def test_the_rest_of_a_stream_works(stream):
    opened = codec.open(stream)
    assert opened.info.model == "lamp-1"
    assert opened.latents().tolist() == [pytest.approx(72, abs=1)]
    assert opened.problems() == []


def test_no_picture_comes_back(stream):
    with pytest.raises(NoSignalError, match="lamp serves a task and has no picture; use `codec predict FILE`"):
        codec.decode(stream)


def test_files_with_pictures_predict_nothing(small_stream):
    with pytest.raises(ValueError, match=r"walloc predicts nothing.*decode it"):
        codec.open(small_stream).predict()


def test_predicting_files(stream, tmp_path):
    dark = tmp_path / "dark.lcb"
    dark.write_bytes(codec.encode(lit(tmp_path / "dark.png", 60), model="lamp-1"))
    code, stdout, stderr = invoke("predict", stream, dark)
    assert (code, stderr) == (0, "")
    first, second = stdout.splitlines()
    assert first == f"{stream}  {stream.stat().st_size} bytes  bright 100.0 %"
    assert "  dark 100.0 %" in second
    assert "bright 0.0 %, green 0.0 %" not in first
    assert invoke("predict", stream, "--top", 2)[1].strip().endswith("bright 100.0 %, dark 0.0 %")


def test_predicting_as_json(stream):
    code, stdout, _ = invoke("predict", stream, "--json")
    assert code == 0
    report = json.loads(stdout)
    assert report["input"] == str(stream)
    assert (report["model"], report["label"], report["bytes"]) == ("lamp-1", "bright", stream.stat().st_size)
    assert list(report["probabilities"]) == ["bright", "dark", "green"]
    assert list(json.loads(invoke("predict", stream, "--json", "--top", 1)[1])["probabilities"]) == ["bright"]


def test_predicting_pictures(bright, stream):
    code, stdout, _ = invoke("predict", bright, stream, "-m", "lamp-1", "-q", 60, "--json")
    assert code == 0
    picture, file = map(json.loads, stdout.splitlines())
    assert picture.pop("input") == str(bright)
    assert file.pop("input") == str(stream)
    assert picture == file  # bytes, too: those the file would have


def test_a_file_that_cannot_be_predicted_does_not_stop_the_others(stream, small_stream, bright, tmp_path):
    photo, damaged, absent = (tmp_path / name for name in ("photo.lcb", "damaged.lcb", "absent.lcb"))
    photo.write_bytes(small_stream)
    damaged.write_bytes(stream.read_bytes()[:-1])
    code, stdout, stderr = invoke("predict", photo, damaged, bright, stream)
    assert code == exits.PARTIAL
    assert stdout.startswith(f"{stream}  ")
    assert [line.partition(": ")[2].partition(": ")[0] for line in stderr.splitlines()] == [
        str(photo), str(damaged), str(bright),
    ]  # fmt: skip
    assert "walloc predicts nothing" in stderr
    assert "add -m MODEL" in stderr
    assert invoke("predict", damaged)[0] == exits.DAMAGED
    assert invoke("predict", photo)[0] == exits.FAILURE
    assert invoke("predict", absent)[0] == exits.USAGE


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-m", "nothing"], exits.UNKNOWN, "not installed"),
        (["-m", SMALL], exits.FAILURE, "walloc predicts nothing"),
        (["-q", 50], exits.USAGE, "add -m MODEL"),
        (["--max-pixels", 3, "-m", "lamp-1"], exits.FAILURE, "--max-pixels"),
    ],
)
def test_wrong_requests(bright, words, code, message):
    got, stdout, stderr = invoke("predict", bright, *words)
    assert (got, stdout) == (code, "")
    assert message in stderr
    assert stderr.strip().count("\n") == 0


@pytest.mark.parametrize("words", [["decode", "IN.lcb"], ["encode", "IN.png", "-m", "lamp-1", "--verify"],
                                   ["encode", "IN.png", "-m", "lamp-1", "--psnr", 30]])  # fmt: skip
def test_commands_that_need_a_picture_refuse_in_a_line(stream, bright, tmp_path, words):
    words = [{"IN.lcb": stream, "IN.png": bright}.get(word, word) for word in words]
    before = sorted(tmp_path.iterdir())
    code, _, stderr = invoke(*words, "-o", tmp_path / "out.bin" if words[0] == "encode" else tmp_path / "out.png")
    assert code == exits.FAILURE
    assert "lamp serves a task and has no picture; use `codec predict FILE`" in stderr
    assert stderr.strip().count("\n") == 0
    assert sorted(tmp_path.iterdir()) == before
