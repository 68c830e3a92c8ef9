"""Video in `codec eval`, `codec compare` and `codec list`, as a user meets it."""

import csv
import hashlib
import io
import json
import re
import shutil

import numpy as np
import PIL.Image
import pytest
from test_eval import without_times

import codec
from codec.cli import exits
from codec.errors import MediaError
from codec.evaluation import measure
from codec.evaluation.codecs import Codec, Family
from codec.evaluation.films import VIDEOS
from codec.evaluation.measure import How, Job
from codec.evaluation.record import record
from codec.evaluation.report import Decoded, Exhibit
from codec.evaluation.report.page import render
from codec.evaluation.results import Curve, Evaluation, Point, Row
from codec.evaluation.rows import load_rows
from codec.evaluation.sources import SourceFile, find_files
from codec.evaluation.spec import CurveSpec, parse_spec
from codec.evaluation.summary import average
from codec.evaluation.video_anchors import decode, encode
from codec.evaluation.video_metrics import METRICS
from codec.media import video
from codec.media.video import Video
from codec.media.video_pixels import to_rgb

from blocks import installed
from commandline import invoke
from support import DATA, video_of
from test_report import EVIL, data_in

MODEL = "blocks"
CODECS = ["-c", f"{MODEL}:q=10,40,70,90", "-c", "x264:crf=18,26,34,42", "-c", "av1:crf=40,preset=12"]
QUICK = ["--repeat", 1, "--metric", "psnr-yuv,vmaf"]


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory):
    """A model that needs no training."""
    with pytest.MonkeyPatch.context() as patch:
        installed(tmp_path_factory.mktemp("models"), patch)
        yield


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    (folder / "sub").mkdir()
    video.write(video_of(9, 128, 96), folder / "a.y4m", "y4m")
    video.write(video_of(6, 144, 96, matrix=1), folder / "sub" / "b.mkv", "mkv", encoder="ffv1")
    (folder / "notes.txt").write_text("not a video")
    return folder


@pytest.fixture(scope="module")
def evaluated(videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated")
    code, stdout, stderr = invoke("eval", videos, *CODECS, *QUICK, "--show", "a", "-o", out)
    assert code == 0, stderr
    return out, stdout, stderr


def row_of(out, *key) -> Row:
    return next(row for row in load_rows(out / "results.jsonl") if (row.file, row.curve, row.setting) == key)


def test_rows_are_of_real_files(evaluated, videos):
    out = evaluated[0]
    assert [row.file for row in load_rows(out / "results.jsonl")] == ["a.y4m"] * 9 + ["sub/b.mkv"] * 9
    clip = video.read(videos / "a.y4m")
    row = row_of(out, "a.y4m", MODEL, "q=70")
    data = codec.encode(clip, model=MODEL, quality=70)
    assert row.bytes == len(data)
    assert row.size == {"width": 128, "height": 96, "frames": 9, "microseconds": 360_000}
    x, y = (to_rgb(each.frames.planes, each.format) for each in (clip, codec.decode(data)))
    assert row.metrics["mse"] == pytest.approx(np.square(x.astype(float) - y).mean())
    assert set(row.metrics) == {"psnr", "mse", "psnr-yuv", "vmaf"}
    assert 0 < row.estimated_bytes < row.bytes
    stored = json.loads((out / "results.jsonl").read_text().splitlines()[0])
    assert (stored["frames"], "size" in stored) == (9, False)
    anchor = row_of(out, "sub/b.mkv", "x264", "crf=26")
    assert "core" in anchor.version
    assert anchor.options["preset"] == "medium"


def test_coded_files_are_kept_and_decode(evaluated, videos):
    out = evaluated[0]
    rows = load_rows(out / "results.jsonl")
    assert {path.name for path in (out / "coded").iterdir()} == {row.coded for row in rows}
    for row in rows:
        data = (out / "coded" / row.coded).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (row.bytes, row.coded)
    ours = out / "coded" / row_of(out, "a.y4m", MODEL, "q=90").coded
    assert codec.decode(ours).length == 9
    theirs = (out / "coded" / row_of(out, "sub/b.mkv", "x264", "crf=18").coded).read_bytes()
    assert decode("x264", theirs).length == 6


def test_rates_are_of_files(evaluated):
    out, stdout, stderr = evaluated
    document = json.loads((out / "summary.json").read_text())
    rows = [row for row in load_rows(out / "results.jsonl") if (row.curve, row.setting) == ("x264", "crf=34")]
    assert [curve["name"] for curve in document["curves"]] == [MODEL, "x264", "av1:preset=12"]
    results = document["curves"][1]["results"]
    expected = np.mean([8 * rows[0].bytes / (128 * 96 * 9), 8 * rows[1].bytes / (144 * 96 * 6)])
    assert results["bpp"][1] == pytest.approx(expected)
    assert results["psnr-rgb"][1] == pytest.approx(np.mean([row.metrics["psnr"] for row in rows]))
    assert results["frames"] == [7.5] * 4
    assert document["anchor"] == "x264"
    assert document["metrics"] == ["psnr", "psnr-yuv", "vmaf"]
    assert "width x height x frames" in document["conventions"]["Rate"]
    assert "raw streams" in document["conventions"]["Rate"]
    assert "(6 PSNR of Y + that of U + that of V) / 8" in document["conventions"]["psnr-yuv"]
    assert "vmaf_v0.6.1" in document["conventions"]["vmaf"]
    assert "imageio-ffmpeg" in document["facts"]["packages"]
    with (out / "results.csv").open() as file:
        first = next(csv.DictReader(file))
    assert float(first["bpp"]) == pytest.approx(8 * int(first["bytes"]) / (128 * 96 * 9))
    assert "bpp" in stdout
    assert " bpp  " in stderr


def test_the_report_has_frames_a_second_and_frames(evaluated, videos):
    page = (evaluated[0] / "report.html").read_text()
    assert "Encode frames/s" in page
    assert "real time" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert data_in(page)["curves"][0]["points"][0]["frames"] == 7.5
    assert data_in(page)["rate"] == {"label": "bits per pixel", "unit": "bpp", "digits": 5}
    assert 'data-file="a.y4m, 0.00 s"' in page
    assert 'data-file="a.y4m, 0.16 s"' in page  # the fifth of nine frames
    assert "pixels of all frames" in page
    shown = set(re.findall(r'data-curve="([^"]*)"', page))
    assert shown == {MODEL, "x264", "av1:preset=12"}


def test_the_report_shows_the_frames_that_were_decoded(videos):
    import base64

    clip = video.read(videos / "a.y4m")
    evaluation = Evaluation((Curve("x264", "anchor", "", (Point("crf=30", 0.1, {"psnr": 30.0}),)),), ("psnr",), {},
                            "", {}, "video")  # fmt: skip
    decoded = decode("x264", encode("x264", clip, {"crf": "40"}))
    exhibit = Exhibit("a.y4m", VIDEOS.excerpt(clip), [Decoded("x264", "crf=40", 0.1, 30.0, VIDEOS.excerpt(decoded))])
    page = render(evaluation, [exhibit])
    pictures = re.findall(r'src="data:image/webp;base64,([^"]*)"', page)
    assert len(pictures) == 4
    frames = [np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data)))) for data in pictures]
    wanted = [to_rgb(each.frames.planes, each.format) for each in (clip, decoded)]
    assert all(np.array_equal(frames[2 * i + k], wanted[k][t]) for i, t in enumerate((0, 4)) for k in (0, 1))


def test_resuming_measures_what_is_missing_only_and_gives_the_same(evaluated, videos, tmp_path):
    shutil.copytree(evaluated[0], tmp_path / "out")
    path = tmp_path / "out" / "results.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:6] + lines[7:-1]) + lines[-1][:60])
    (tmp_path / "out" / "coded" / "stale").write_bytes(b"of an earlier version")
    words = ["eval", videos, *CODECS, *QUICK, "--show", "none", "-o", tmp_path / "out", "--resume"]
    code, _, stderr = invoke(*words)
    assert code == 0, stderr
    assert stderr.count(" bpp  ") == 2
    assert without_times(load_rows(path)) == without_times(load_rows(evaluated[0] / "results.jsonl"))
    assert not (tmp_path / "out" / "coded" / "stale").exists()


def test_what_cannot_be_read_or_coded_is_reported(videos, tmp_path):
    source = tmp_path / "in"
    shutil.copytree(videos, source)
    (source / "bad.mp4").write_bytes(b"nonsense")
    video.write(video_of(3, 65, 48), source / "odd.y4m", "y4m")
    code, _, stderr = invoke("eval", source, "-c", "x264:crf=30", *QUICK, "--show", "none", "-o", tmp_path / "out")
    assert code == exits.PARTIAL
    assert "bad.mp4 counts for no codec" in stderr
    assert "x264 takes even sizes, not 65x48" in stderr
    assert "2 of 4 files averaged" in stderr


def test_one_kind_at_a_time(videos, tmp_path):
    medium, files = find_files([str(videos)])
    assert (medium, [file.name for file in files]) == (VIDEOS, ["a.y4m", "sub/b.mkv"])
    unnamed = tmp_path / "clip"
    shutil.copy(videos / "a.y4m", unnamed)
    assert find_files([str(unnamed)])[0] is VIDEOS
    for data, words, message in (
        ([videos, DATA / "gray.png"], ["-c", "x264"], "a.y4m is a video and "),
        ([videos], ["-c", "x264", "-c", "jpeg"], "jpeg is for pictures, and "),
        ([DATA / "gray.png"], ["-c", "x264"], "x264 is for videos, and "),
        ([videos], ["-c", "x264", "--metric", "pesq"], "videos have no metric 'pesq'; choose from psnr, mse, psnr-yuv"),
        ([videos], ["-c", "av1:crf=70"], "av1: crf=70 is not a whole number 1..63"),
    ):
        code, _, stderr = invoke("eval", *data, *words, "-o", tmp_path / "out")
        assert (code, message in stderr) == (exits.USAGE, True), stderr
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("fits", "repeat", "encodings", "decodings"), [(False, 3, 4, 4), (True, 3, 1, 4)])
def test_a_long_fit_is_done_once(monkeypatch, videos, tmp_path, fits, repeat, encodings, decodings):
    clip, done = video.read(videos / "a.y4m"), []
    coder = Codec("1", {}, lambda signal: done.append("encode") or b"x", lambda data: done.append("decode") or clip,
                  fits=fits)  # fmt: skip
    monkeypatch.setattr("codec.evaluation.spec.find_family", lambda name: Family("model", lambda options: coder, {}))
    monkeypatch.setattr(measure, "_warmed", set())
    job = Job(SourceFile(str(videos / "a.y4m"), "a.y4m"), "00", CurveSpec(f"fit-{fits}", "mine", {"": {}}), "")
    row = measure.measure(job, How("video", ("psnr", "mse"), {}, repeat, str(tmp_path)))
    assert (done.count("encode"), done.count("decode"), row.error) == (encodings, decodings, None)
    assert (tmp_path / row.coded).read_bytes() == b"x"


def test_models_tell_whether_they_fit(monkeypatch):
    from blocks import Blocks

    assert not parse_spec(f"{MODEL}:q=50")[0].codec("q=50").fits
    monkeypatch.setattr(Blocks, "fits", True)
    assert parse_spec(f"{MODEL}:q=51")[0].codec("q=51").fits


def test_means_and_paces():
    def row(file, frames, psnr):
        size = {"width": 100, "height": 50, "frames": frames, "microseconds": 40_000 * frames}
        return Row(file, "00", "a", "x", size=size, bytes=1000, metrics={"psnr": psnr, "vmaf": None},
                   encode_seconds=0.5, decode_seconds=0.1)  # fmt: skip

    point = average("x", [row("1", 10, 30.0), row("2", 30, 40.0)], VIDEOS)
    assert (point.metrics["psnr"], point.metrics["vmaf"], point.frames) == (35.0, None, 20)
    assert point.rate == pytest.approx((8000 / 50_000 + 8000 / 150_000) / 2)
    assert point.duration == pytest.approx(0.8)
    assert point.frames_a_second(point.encode_seconds) == pytest.approx(40)
    assert point.frames_a_second(None) is None
    assert average("x", [row("1", 10, 30.0), row("2", 30, None)], VIDEOS).metrics["psnr"] is None  # lossless


def test_names_from_data_are_only_ever_text():
    clip = VIDEOS.excerpt(video_of(3))
    points = tuple(Point(EVIL, 0.1 * 2**i, {"psnr": 30.0 + i}, 1.0, 1.0, duration=2.0, frames=50) for i in range(4))
    evaluation = Evaluation((Curve(EVIL, "model", EVIL, points),), ("psnr",), {}, EVIL, {"data": EVIL}, "video")
    page = render(evaluation, [Exhibit(EVIL, clip, [Decoded(EVIL, EVIL, 0.1, None, clip)])])
    assert page.count("<script") == 2
    assert "onerror" not in re.sub(r"<script.*?</script>|&lt;.*?&gt;", "", page, flags=re.DOTALL)
    cut = Video(clip.format, clip.frames[:1])
    with pytest.raises(MediaError, match="2 and 1 frames cannot be compared"):
        render(evaluation, [Exhibit("a", clip, [Decoded("x", "", 0.1, None, cut)])])


def test_compare(videos, tmp_path):
    stream = tmp_path / "a.lcb"
    stream.write_bytes(codec.encode(videos / "a.y4m", model=MODEL, quality=50))
    code, stdout, stderr = invoke("compare", videos / "a.y4m", stream, "--metric", "psnr-yuv", "--json")
    assert code == 0, stderr
    report = json.loads(stdout)
    assert report["b"]["bpp"] == pytest.approx(8 * stream.stat().st_size / (128 * 96 * 9))
    assert (report["width"], report["frames"], report["identical"]) == (128, 9, False)
    assert list(report["metrics"]) == ["psnr", "mse", "psnr-yuv"]
    assert report["metrics"]["psnr"] == pytest.approx(
        METRICS["psnr"].measure(video.read(videos / "a.y4m"), codec.decode(stream), None), abs=1e-6
    )
    code, stdout, _ = invoke("compare", videos / "a.y4m", videos / "a.y4m", "--metric", "psnr-y")
    assert stdout.count("infinite: they are the same") == 2
    assert " bpp" in stdout
    code, _, stderr = invoke("compare", videos / "a.y4m", videos / "sub" / "b.mkv")
    assert (code, "128x96 and 144x96 pixels cannot be compared" in stderr) == (exits.FAILURE, True)
    code, _, stderr = invoke("compare", videos / "a.y4m", DATA / "gray.png")
    assert (code, "a video and a picture cannot be compared" in stderr) == (exits.FAILURE, True)


def test_results_are_kept_for_the_list_of_models():
    curves = [
        Curve(name, kind, "", tuple(Point(f"q={i}", 0.01 * 2.0**i * f, {"psnr": 30.0 + 3 * i}) for i in range(5)))
        for name, kind, f in ((MODEL, "model", 0.9), ("x264", "anchor", 1), ("av1", "anchor", 0.6))
    ]
    facts = {"data": ["clips"], "files": 2}
    assert record(Evaluation(tuple(curves), ("psnr",), {}, "codec eval", facts, "video")) == [MODEL]
    line = next(line for line in invoke("list", "models")[1].splitlines() if line.startswith(f"{MODEL} "))
    assert "  clips, 2 files: 0.0090..0.1440 bpp, 30.0..42.0 dB  -10.0 % vs x264  +50.0 % vs av1" in line
