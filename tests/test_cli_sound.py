"""Sound through the command line: files, pipes, targets, damage."""

import json

import numpy as np
import pytest

import codec
from codec.media import audio

from commandline import invoke, run

MODEL = ["-m", "walloc-audio-conformance"]


@pytest.fixture
def song(tmp_path):
    """A second and a half of stereo, with a title."""
    t = np.arange(66_150) / 44_100
    samples = np.stack([np.sin(2 * np.pi * f * t) / 3 for f in (440, 550)]).astype(np.float32)
    path = tmp_path / "song.wav"
    audio.write(codec.Audio(samples, 44_100, metadata={"title": "Two tones"}), path, "wav")
    return path


def test_there_and_back(song, tmp_path):
    code, stdout, stderr = invoke("encode", song, *MODEL, "--json")
    assert code == 0, stderr
    report = json.loads(stdout)
    stream = tmp_path / "song.lcb"
    assert report["bytes"] == stream.stat().st_size
    assert report["kbps"] == pytest.approx(8 * report["bytes"] / 1.5 / 1000)
    assert (report["rate"], report["layout"], report["duration"]) == (44_100, "stereo", 1.5)
    code, stdout, _ = invoke("inspect", stream, "--check")
    assert code == 0
    assert "44100 Hz stereo, 1.500 s" in stdout
    assert "kbit/s" in stdout
    code, _, stderr = invoke("decode", stream, "-o", tmp_path / "back.flac")
    assert code == 0, stderr
    original, back = audio.read(song), audio.read(tmp_path / "back.flac")
    assert (back.length, back.rate, back.depth, back.metadata) == (66_150, 44_100, "s16", {"title": "Two tones"})
    assert codec.psnr_of(back, original) > 25
    assert invoke("decode", stream)[0] == 1  # song.wav is there
    assert invoke("decode", stream, "-f")[0] == 0
    assert audio.read(song).length == 66_150


def test_pipes_give_the_same_file(song, tmp_path):
    whole = codec.encode(song, model=MODEL[1])
    encoded = run("encode", "-", *MODEL, stdin=song.read_bytes())
    assert encoded.returncode == 0, encoded.stderr
    assert encoded.stdout == whole
    samples = np.frombuffer(song.read_bytes()[-66_150 * 4 :], "<i2")
    raw = run("encode", "-", *MODEL, "--raw", "s16le", "--rate", 44_100, "--layout", "stereo", stdin=samples.tobytes())
    assert codec.open(raw.stdout).symbols_digest() == codec.open(whole).symbols_digest()
    decoded = run("decode", "-", "--to", "s16le", stdin=encoded.stdout)
    assert decoded.returncode == 0, decoded.stderr
    assert len(decoded.stdout) == 66_150 * 4
    expected = np.rint(codec.decode(whole).samples.T * 32768).clip(-32768, 32767)
    np.testing.assert_allclose(np.frombuffer(decoded.stdout, "<i2").reshape(-1, 2), expected, atol=1)


def test_a_rate_is_kept_to(song, tmp_path):
    code, stdout, stderr = invoke("encode", song, *MODEL, "--kbps", 60, "--verify", "--json")
    assert code == 0, stderr
    report = json.loads(stdout)
    assert 50 < report["kbps"] <= 60
    assert report["psnr"] > 20
    code, _, stderr = invoke("encode", song, *MODEL, "--kbps", 0.1, "-f")
    assert code == 5
    assert "out of reach" in stderr
    assert invoke("encode", song, *MODEL, "--kbps", 60, "-q", 50)[0] == 2


def test_salvage_of_a_cut_file(song, tmp_path):
    data = codec.encode(song, model=MODEL[1])
    cut, out = tmp_path / "cut.lcb", tmp_path / "cut.wav"
    cut.write_bytes(data[: len(data) // 2])
    code, _, _ = invoke("decode", cut)
    assert code == 3
    assert not out.exists()
    assert invoke("decode", cut, "--salvage")[0] == 0
    assert 0 < audio.read(out).length < 66_150
    assert run("decode", "-", "--to", "s16le", stdin=cut.read_bytes()).returncode == 3


def test_what_cannot_be_is_said(song, tmp_path):
    for words, text in (
        (["-m", "walloc-conformance"], "is for image, not for audio"),
        (["--bpp", 1, *MODEL], "bpp is for image"),
        (["--raw", "s16le", *MODEL], "belong together"),
    ):
        code, _, stderr = invoke("encode", song, *words)
        assert code in (1, 2)
        assert text in stderr
    stream = tmp_path / "song.lcb"
    stream.write_bytes(codec.encode(song, model=MODEL[1]))
    code, _, stderr = invoke("decode", stream, "-o", tmp_path / "song.xyz")
    assert (code, "cannot write" in stderr) == (1, True)
    code, _, stderr = invoke("decode", stream, "-o", tmp_path / "song.png")
    assert (code, "cannot write" in stderr) == (1, True)


def test_a_folder_of_both_kinds(song, tmp_path, photo):
    from PIL import Image

    folder = tmp_path / "both"
    folder.mkdir()
    Image.fromarray(photo[:32, :32]).save(folder / "picture.png")
    song.rename(folder / "song.wav")
    (folder / "notes.txt").write_text("neither")
    code, stdout, stderr = invoke("encode", folder, "-r", *MODEL, "-o", tmp_path / "out", "--json")
    assert code == 6  # the model is for one of them only
    assert [json.loads(line)["input"] for line in stdout.splitlines()] == [str(folder / "song.wav")]
    assert "picture.png" in stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["song.lcb"]
    code, stdout, _ = invoke("decode", tmp_path / "out", "-r", "--json")
    assert json.loads(stdout)["output"].endswith("song.wav")
