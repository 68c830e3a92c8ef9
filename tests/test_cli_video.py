"""Video through the command line: files, sound beside it, parts, archives, interruptions, damage."""

import io
import json
import subprocess
import sys
import time

import av
import numpy as np
import pytest
from click.testing import CliRunner

import codec
from codec import container
from codec.cli.main import main
from codec.engine.journal import folder_of
from codec.media import audio
from codec.media.video_writer import Writer

from blocks import ChainedBlocks, installed
from commandline import invoke, run
from support import sound_of, video_of

MODEL = ["-m", "blocks"]
CHAINED = ["-m", "chained-blocks"]


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    installed(tmp_path / "models", monkeypatch)


@pytest.fixture
def clip(tmp_path):
    """Ten frames with a title and half a second of sound."""
    video, path, sound = video_of(10), tmp_path / "clip.mp4", io.BytesIO()
    audio.write(sound_of(22_050), sound, "m4a")
    sound.seek(0)
    with Writer(path, "mp4", video.format, metadata={"title": "Ten"}, sound=[sound]) as writer:
        writer.write(video.frames)
    return path


def packets_of(path) -> list[bytes]:
    with av.open(path) as opened:
        return [bytes(packet) for packet in opened.demux(audio=0) if packet.size]


def sound_in(path) -> np.ndarray:
    """Return the samples of the first track at 44.1 kHz."""
    with av.open(path) as opened:
        converter = av.AudioResampler("fltp", "stereo", 44_100)
        frames = [part for frame in opened.decode(audio=0) for part in converter.resample(frame)]
        return np.concatenate([frame.to_ndarray() for frame in frames], 1)


def report_of(*words) -> dict:
    code, stdout, stderr = invoke(*words, "--json")
    assert code == 0, stderr
    return json.loads(stdout)


def test_there_and_back(clip, tmp_path):
    report = report_of("encode", clip, *MODEL, "--verify")
    stream = tmp_path / "clip.lcb"
    size = stream.stat().st_size
    assert report["bytes"] == size
    assert report["bpp"] == pytest.approx(8 * size / (48 * 40 * 10))
    assert report["kbps"] == pytest.approx(8 * size / 0.4 / 1000)
    assert {name: report[name] for name in ("width", "height", "frames", "fps", "groups", "clips")} == {
        "width": 48, "height": 40, "frames": 10, "fps": 25, "groups": 3, "clips": 1,
    }  # fmt: skip
    clip.rename(tmp_path / "original.mp4")
    report = report_of("decode", stream)
    assert (report["output"], report["frames"]) == (str(clip), 10)
    original, back = codec.read(tmp_path / "original.mp4"), codec.read(clip)
    assert back.frames.times == original.frames.times
    assert back.metadata["title"] == "Ten"
    assert packets_of(clip) == packets_of(tmp_path / "original.mp4")
    assert invoke("decode", stream)[0] == 1  # clip.mp4 is there
    assert invoke("decode", stream, "-f")[0] == 0


def test_verify_is_the_psnr_of_what_comes_out(clip, tmp_path):
    report = report_of("encode", clip, *MODEL, "--verify", "-q", 100)
    assert report["psnr"] == pytest.approx(
        codec.psnr_of(codec.decode(tmp_path / "clip.lcb"), codec.read(clip)), abs=0.001
    )


def test_inspect(clip, tmp_path):
    assert invoke("encode", clip, *MODEL)[0] == 0
    code, stdout, _ = invoke("inspect", tmp_path / "clip.lcb", "--check")
    assert code == 0
    for text in (
        "video     48x40 yuv420p, 10 frames at 25 a second, 0.400 s",
        "bpp",
        "kbit/s",
        "sound",
        "symbols decode",
    ):
        assert text in stdout
    assert report_of("inspect", tmp_path / "clip.lcb")["clip_frames"] == [10]


@pytest.mark.parametrize(("format", "coded"), [("mkv", "flac"), ("mp4", "aac"), ("webm", "opus"), ("avi", "pcm_s16le")])
def test_sound_can_be_coded(clip, tmp_path, format, coded):
    assert invoke("encode", clip, *MODEL, "--sound", "code", "-q", 90)[0] == 0
    [track] = codec.open(tmp_path / "clip.lcb").sound_of()
    assert codec.open(track).kind == "audio"
    code, _, stderr = invoke("decode", tmp_path / "clip.lcb", "-o", tmp_path / f"back.{format}")
    assert code == 0, stderr
    with av.open(tmp_path / f"back.{format}") as opened:
        assert opened.streams.audio[0].codec_context.name.replace("libopus", "opus") == coded
    back, original = sound_in(tmp_path / f"back.{format}"), sound_in(clip)
    assert np.corrcoef(back[:, :20_000].ravel(), original[:, :20_000].ravel())[0, 1] > 0.9


def test_sound_can_be_left_out(clip, tmp_path):
    assert invoke("encode", clip, *MODEL, "--sound", "none")[0] == 0
    assert codec.open(tmp_path / "clip.lcb").sound_of() == ()
    assert invoke("encode", clip, *MODEL, "-f")[0] == 0
    code, _, stderr = invoke("decode", tmp_path / "clip.lcb", "-o", tmp_path / "back.y4m")
    assert (code, "holds no sound" in stderr) == (0, True)


def test_mkv_where_mp4_cannot_hold_it(tmp_path):
    with av.open(tmp_path / "tta.mka", "w", format="matroska") as out:
        stream = out.add_stream("tta", rate=8_000, layout="mono")
        samples = np.round(sound_of(9_000, 1, 8_000).samples * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
        frame.rate = 8_000
        out.mux([*stream.encode(frame), *stream.encode(None)])
    video = video_of(3)
    with Writer(tmp_path / "film.mkv", "mkv", video.format, sound=[tmp_path / "tta.mka"]) as writer:
        writer.write(video.frames)
    assert invoke("encode", tmp_path / "film.mkv", *MODEL)[0] == 0
    assert report_of("decode", tmp_path / "film.lcb", "-f")["output"].endswith(".mkv")
    assert packets_of(tmp_path / "film.mkv")
    assert report_of("decode", tmp_path / "film.lcb", "--encoder", "ffv1", "-f")["output"].endswith(".mkv")


@pytest.mark.filterwarnings("ignore:'get_binary_stream'")
def test_raw_frames_and_pipes(tmp_path):
    video = video_of(5)
    raw = b"".join(b"".join(plane[i].tobytes() for plane in video.frames.planes) for i in range(5))
    (tmp_path / "clip.yuv").write_bytes(raw)
    words = ["encode", "--raw", "yuv420p", "--size", "48x40", "--rate", "30000/1001", *MODEL]
    report = report_of(*words, tmp_path / "clip.yuv")
    assert report["fps"] == pytest.approx(29.97, abs=0.001)
    piped = CliRunner().invoke(main, [*words, "-"], input=raw, standalone_mode=False)
    assert piped.exception is None
    assert piped.stdout_bytes == (tmp_path / "clip.lcb").read_bytes()
    back = CliRunner().invoke(main, ["decode", "-", "--to", "yuv"], input=piped.stdout_bytes, standalone_mode=False)
    assert back.exception is None
    assert len(back.stdout_bytes) == len(raw)
    decoded = codec.decode(tmp_path / "clip.lcb").frames
    assert back.stdout_bytes[: 48 * 40] == decoded.planes[0][0].tobytes()


def test_parts(clip, tmp_path):
    assert invoke("encode", clip, *MODEL)[0] == 0
    for frames, count in (("3:7", 4), ("8:", 2), (":1", 1)):
        words = "decode", tmp_path / "clip.lcb", "-o", tmp_path / "part.y4m", "--frames", frames, "-f"
        assert report_of(*words)["frames"] == count
    part = codec.read(tmp_path / "part.y4m").frames
    np.testing.assert_array_equal(part.planes[0], codec.open(tmp_path / "clip.lcb").decode(stop=1).frames.planes[0])
    for frames, text in (("7", "takes A:B"), ("7:3", "frames 7 to 3"), ("0:99", "of 10")):
        code, _, stderr = invoke("decode", tmp_path / "clip.lcb", "--frames", frames, "-o", tmp_path / "x.mp4")
        assert code in (1, 2)
        assert text in stderr
        assert not (tmp_path / "x.mp4").exists()


@pytest.mark.parametrize("target", [("--bpp", 0.8), ("--kbps", 38.0), ("--target-size", 1900)])
def test_rates_are_kept_to(clip, tmp_path, target):
    report = report_of("encode", clip, *MODEL, "--sound", "none", *target)
    got = report[{"--target-size": "bytes"}.get(target[0], target[0][2:])]
    assert 0.8 * target[1] < got <= target[1]
    assert invoke("encode", clip, *MODEL, "-f", target[0], 1e-4 if target[0] != "--target-size" else 9)[0] == 5


def test_a_psnr_is_reached(clip, tmp_path):
    wanted = report_of("encode", clip, *MODEL, "-q", 60, "--verify")["psnr"] - 0.001
    report = report_of("encode", clip, *MODEL, "--psnr", wanted, "--verify", "-f")
    assert report["psnr"] >= wanted
    assert report["quality"] <= 60.1


@pytest.mark.parametrize("model", [MODEL, CHAINED])
def test_clips_are_appended(clip, tmp_path, model):
    archive = tmp_path / "clip.lcb"
    assert invoke("encode", clip, *model, "-q", 70)[0] == 0
    before, first = archive.read_bytes(), codec.decode(archive)
    codec.write(video_of(5), tmp_path / "second.mkv", "mkv")
    report = report_of("append", archive, tmp_path / "second.mkv")
    assert archive.read_bytes().startswith(before)
    assert (report["clips"], report["frames"], report["added"]) == (2, 15, archive.stat().st_size - len(before))
    again = codec.decode(archive)
    assert all(map(np.array_equal, again.frames.planes, first.frames.planes))
    assert report_of("decode", archive, "--clip", 1, "-o", tmp_path / "back.mkv")["frames"] == 5
    assert codec.psnr_of(codec.open(archive).decode(clip=1), video_of(5)) > 15
    assert "2, of 10, 5 frames" in invoke("inspect", archive, "--check")[1]
    assert invoke("decode", archive, "--clip", 2, "-o", tmp_path / "x.mkv")[0] == 1
    assert report_of("append", archive, clip, *model, "-q", 10, "--group", 5)["groups"] == 3 + 2 + 2


def test_what_cannot_be_appended(clip, tmp_path, photo):
    archive = tmp_path / "clip.lcb"
    assert invoke("encode", clip, *MODEL)[0] == 0
    before = archive.read_bytes()
    codec.write(video_of(2, 50), tmp_path / "wide.mkv", "mkv")
    (tmp_path / "picture.lcb").write_bytes(codec.encode(photo[:16, :16], model="walloc-conformance"))
    for words, text in (
        ((archive, tmp_path / "wide.mkv"), "convert it first"),
        ((archive, clip, "-m", "walloc-conformance"), "was made with"),
        ((archive, tmp_path / "picture.lcb"), "picture.lcb"),
        ((tmp_path / "picture.lcb", clip), "holds image"),
    ):
        code, _, stderr = invoke("append", *words)
        assert code == 1
        assert text in stderr
    assert archive.read_bytes() == before
    assert not folder_of(archive).exists()


def test_an_interrupted_encode_is_resumed(clip, tmp_path, monkeypatch):
    words, stream = ["encode", clip, *CHAINED], tmp_path / "clip.lcb"
    assert invoke(*words, "-o", tmp_path / "whole.lcb")[0] == 0
    steps = ChainedBlocks.steps
    monkeypatch.setattr(ChainedBlocks, "steps", 0)
    monkeypatch.setattr(ChainedBlocks, "fail_after", 4)
    assert invoke(*words)[0] != 0
    assert folder_of(stream).is_dir()
    assert not stream.exists()
    monkeypatch.setattr(ChainedBlocks, "fail_after", None)
    code, _, stderr = invoke(*words)
    assert (code, "--resume" in stderr) == (1, True)
    code, _, stderr = invoke(*words, "--resume", "-q", 30)
    assert (code, "another quality" in stderr) == (1, True)
    assert invoke(*words, "--resume")[0] == 0
    assert stream.read_bytes() == (tmp_path / "whole.lcb").read_bytes()
    assert ChainedBlocks.steps == steps
    assert not folder_of(stream).exists()


def test_an_interrupted_append_is_resumed(clip, tmp_path, monkeypatch):
    archive = tmp_path / "clip.lcb"
    assert invoke("encode", clip, *CHAINED)[0] == 0
    before = archive.read_bytes()
    monkeypatch.setattr(ChainedBlocks, "fail_after", ChainedBlocks.steps + 4)
    assert invoke("append", archive, clip)[0] != 0
    assert archive.read_bytes() == before
    monkeypatch.setattr(ChainedBlocks, "fail_after", None)
    assert invoke("append", archive, clip)[0] == 1
    assert invoke("append", archive, clip, "--resume")[0] == 0
    assert codec.open(archive).info.clip_frames == (10, 10)
    assert not folder_of(archive).exists()


def test_nothing_finished_is_lost_when_the_process_is_killed(tmp_path):
    codec.write(video_of(4, 24, 16), tmp_path / "clip.mkv", "mkv")
    target, words = tmp_path / "clip.lcb", ["encode", tmp_path / "clip.mkv", "-m", "hnerv", "--group", "2"]
    script = [sys.executable, "-c", "from codec.cli.main import run; run()", *map(str, words)]
    first = folder_of(target) / "000000.group"
    with subprocess.Popen(script, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not first.exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    assert not target.exists()
    assert run(*words).returncode == 1
    found = first.read_bytes()
    resumed = run(*words, "--resume", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["frames"] == 4
    assert found[3:] == container.parse(target.read_bytes()).units[0].payload
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.lcb", "clip.mkv", "models"]
    assert codec.decode(target).length == 4


def test_force_starts_again(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(ChainedBlocks, "fail_after", 4)
    assert invoke("encode", clip, *CHAINED)[0] != 0
    monkeypatch.setattr(ChainedBlocks, "fail_after", None)
    assert invoke("encode", clip, *CHAINED, "-q", 30, "-f")[0] == 0
    assert ChainedBlocks.steps == 4 + 9


def test_salvage(clip, tmp_path):
    assert invoke("encode", clip, *MODEL)[0] == 0
    data = bytearray((tmp_path / "clip.lcb").read_bytes())
    data[data.index(container.parse(bytes(data)).units[1].payload)] ^= 1
    (tmp_path / "broken.lcb").write_bytes(data)
    assert invoke("decode", tmp_path / "broken.lcb", "-o", tmp_path / "x.mp4")[0] == 3
    assert not (tmp_path / "x.mp4").exists()
    code, _, stderr = invoke("decode", tmp_path / "broken.lcb", "-o", tmp_path / "x.mp4", "--salvage")
    assert (code, "unit 1 is damaged; the frame before instead" in stderr) == (0, True)
    assert codec.read(tmp_path / "x.mp4").length == 10
    (tmp_path / "cut.lcb").write_bytes(data[: len(data) - 9])
    code, _, stderr = invoke("decode", tmp_path / "cut.lcb", "-o", tmp_path / "y.mp4", "--salvage", "--json")
    assert code == 0, stderr
    assert codec.read(tmp_path / "y.mp4").length == 8
    (tmp_path / "start.lcb").write_bytes(data[:60])
    assert invoke("decode", tmp_path / "start.lcb", "-o", tmp_path / "z.mp4", "--salvage")[0] in (1, 3)
    assert not (tmp_path / "z.mp4").exists()


def test_what_cannot_be_is_said(clip, tmp_path):
    for words, code, text in (
        (["-m", "walloc-conformance"], 1, "is for image, not for video"),
        ([*MODEL, "--raw", "yuv420p"], 2, "--size such as"),
        ([*MODEL, "--raw", "yuv420p", "--size", "4x", "--rate", 30], 2, "--size such as"),
        ([*MODEL, "--raw", "yuv420p", "--size", "0x9", "--rate", 30], 1, "0x9"),
        ([*MODEL, "--size", "4x4"], 2, "raw video"),
        ([*MODEL, "--max-pixels", 100], 1, "max-pixels"),
    ):
        got, _, stderr = invoke("encode", clip, *words)
        assert (got, text in stderr) == (code, True), stderr
    assert not (tmp_path / "clip.lcb").exists()
    assert invoke("encode", clip, *MODEL)[0] == 0
    code, _, stderr = invoke("decode", tmp_path / "clip.lcb", "-o", tmp_path / "x.mp4", "--encoder", "mpeg1")
    assert (code, "unknown encoder" in stderr) == (1, True)
    code, _, stderr = invoke("decode", tmp_path / "clip.lcb", "-o", tmp_path / "x.png")
    assert (code, "cannot write" in stderr) == (1, True)
    code, _, stderr = invoke("decode", tmp_path / "clip.lcb", "-o", tmp_path / "x.mp4", "--max-pixels", 100)
    assert (code, "max-pixels" in stderr) == (1, True)


def test_a_folder_of_several_kinds(clip, tmp_path, photo):
    from PIL import Image

    folder = tmp_path / "in"
    folder.mkdir()
    clip.rename(folder / "clip.mp4")
    Image.fromarray(photo[:16, :16]).save(folder / "picture.png")
    code, stdout, _ = invoke("encode", folder, "-r", *MODEL, "-o", tmp_path / "out", "--json")
    assert code == 6  # the model is for video only
    assert [json.loads(line)["input"] for line in stdout.splitlines()] == [str(folder / "clip.mp4")]
