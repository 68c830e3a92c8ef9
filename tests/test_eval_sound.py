"""Sound in `codec eval`, `codec compare` and `codec list`, as a user meets it."""

import base64
import csv
import io
import json
import re
import shutil

import numpy as np
import PIL.Image
import pytest
from test_eval import without_times

import codec
from codec import checkpoint
from codec.cli import exits
from codec.errors import MediaError
from codec.evaluation.codecs import FAMILIES, families_for, find_family
from codec.evaluation.record import record
from codec.evaluation.report import Decoded, Exhibit
from codec.evaluation.report.page import render
from codec.evaluation.report.sounds import SECONDS, data_uri, loudest
from codec.evaluation.results import Curve, Evaluation, Point, Row
from codec.evaluation.rows import load_rows
from codec.evaluation.sounds import SOUNDS
from codec.evaluation.sources import find_files
from codec.evaluation.spec import parse_spec
from codec.evaluation.summary import Selection, average, curves_of
from codec.media import audio
from codec.media.audio import Audio

from commandline import invoke
from support import DATA
from test_report import EVIL, data_in

MODEL = "walloc-audio-conformance"
CODECS = ["-c", f"{MODEL}:q=10,40,70,90", "-c", "opus:kbps=16,24,48,96", "-c", "mp3:kbps=64"]
QUICK = ["--repeat", 1, "--metric", "snr,mel"]


def sound_of(seconds: float, rate: int = 44_100, channels: int = 2, seed: int = 1) -> Audio:
    """Coloured noise that comes and goes, with a tone."""
    times = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal((channels, times.size)).cumsum(axis=1)
    noise -= np.cumsum(noise, axis=1) / (1 + np.arange(times.size))
    waves = np.sin(2 * np.pi * 440 * times) + noise / np.abs(noise).max()
    return Audio((0.4 * waves * (0.6 + 0.4 * np.sin(9 * times))).astype(np.float32), rate)


def save(sound: Audio, path) -> None:
    audio.write(sound, path, path.suffix)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "sub").mkdir()
    save(sound_of(0.2), folder / "a.wav")
    save(sound_of(0.3, 48_000, seed=2), folder / "sub" / "b.flac")
    (folder / "notes.txt").write_text("not a sound")
    return folder


@pytest.fixture(scope="module")
def evaluated(sounds, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated")
    code, stdout, stderr = invoke("eval", sounds, *CODECS, *QUICK, "--show", "a", "-o", out)
    assert code == 0, stderr
    return out, stdout, stderr


def test_rows_are_of_real_files(evaluated, sounds):
    rows = load_rows(evaluated[0] / "results.jsonl")
    assert [row.file for row in rows] == ["a.wav"] * 9 + ["sub/b.flac"] * 9
    row = next(row for row in rows if (row.file, row.curve, row.setting) == ("a.wav", MODEL, "q=70"))
    sound = codec.read(sounds / "a.wav")
    data = codec.encode(sound, model=MODEL, quality=70)
    assert row.bytes == len(data)
    assert row.size == {"channels": 2, "sample_rate": 44_100, "samples": 8820}
    error = codec.decode(data).samples - sound.samples
    assert row.metrics["mse"] == pytest.approx(np.square(error, dtype=np.float64).mean())
    assert row.metrics["snr"] == pytest.approx(
        10 * np.log10(np.square(sound.samples, dtype=np.float64).sum() / np.square(error, dtype=np.float64).sum()),
        abs=1e-3,
    )
    assert set(row.metrics) == {"psnr", "mse", "snr", "mel"}
    assert row.estimated_bytes < row.bytes
    stored = json.loads((evaluated[0] / "results.jsonl").read_text().splitlines()[0])
    assert (stored["sample_rate"], "size" in stored) == (44_100, False)


def test_rates_are_of_files(evaluated):
    out, stdout, stderr = evaluated
    document = json.loads((out / "summary.json").read_text())
    rows = [row for row in load_rows(out / "results.jsonl") if (row.curve, row.setting) == ("opus", "kbps=48")]
    expected = np.mean([8 * row.bytes / (row.size["samples"] / row.size["sample_rate"]) / 1000 for row in rows])
    assert [curve["name"] for curve in document["curves"]] == [MODEL, "opus", "mp3"]
    assert document["curves"][1]["results"]["kbps"][2] == pytest.approx(expected)
    assert document["curves"][1]["results"]["duration"] == [pytest.approx(0.25)] * 4
    assert document["anchor"] == "opus"
    assert document["metrics"] == ["psnr", "snr", "mel"]
    assert "Kilobits per second" in document["conventions"]["Rate"]
    assert "2 max |x - mean x|" in document["conventions"]["psnr"]
    with (out / "results.csv").open() as file:
        first = next(csv.DictReader(file))
    assert float(first["kbps"]) == pytest.approx(8 * int(first["bytes"]) / 0.2 / 1000)
    assert "kbps" in stdout
    assert "kbit/s" in stderr


def test_the_report_can_be_listened_to(evaluated, sounds):
    page = (evaluated[0] / "report.html").read_text()
    assert "default-src 'none'; media-src data:;" in page
    assert data_in(page)["rate"] == {"label": "kilobits per second", "unit": "kbit/s", "digits": 2}
    assert "Encode \N{MULTIPLICATION SIGN} real time" in page
    assert 'id="pictures"' not in page
    assert "Viewer" not in page
    shown = re.findall(r'<audio controls preload="none" src="data:audio/flac;base64,([^"]*)" aria-label="(.*?)"', page)
    assert {name.partition(" ")[0] for _, name in shown} == {"original", MODEL, "opus", "mp3"}
    assert shown[0][1] == "original"
    original = codec.read(sounds / "a.wav")
    heard = audio.read(base64.b64decode(shown[0][0]))
    assert np.array_equal(heard.samples, original.samples)
    assert audio.read(base64.b64decode(shown[-1][0])).length == original.length


def test_resuming_measures_what_is_missing_only_and_gives_the_same(evaluated, sounds, tmp_path):
    shutil.copytree(evaluated[0], tmp_path / "out")
    path = tmp_path / "out" / "results.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4] + lines[5:-1]) + lines[-1][:60])
    words = ["eval", sounds, *CODECS, *QUICK, "--show", "none", "-o", tmp_path / "out", "--resume"]
    code, _, stderr = invoke(*words)
    assert code == 0, stderr
    assert stderr.count("kbit/s") == 2
    first = load_rows(evaluated[0] / "results.jsonl")
    assert without_times(load_rows(path)) == without_times(first)  # Opus included: its files are the same every time


def test_old_results_of_pictures_can_be_read(tmp_path):
    old = {
        "file": "a.png", "source": "00", "curve": "jpeg", "setting": "q=5", "version": "1", "options": {}, "width": 20,
        "height": 10, "bytes": 100, "coded": "11", "metrics": {"psnr": 30.0, "mse": 65.0}, "estimated_bytes": None,
        "encode_seconds": 0.1, "decode_seconds": 0.1, "encode_peak": None, "decode_peak": None, "error": None,
    }  # fmt: skip
    (tmp_path / "results.jsonl").write_text(json.dumps(old) + "\n")
    assert [row.size for row in load_rows(tmp_path / "results.jsonl")] == [{"width": 20, "height": 10}]


def test_what_cannot_be_read_or_is_silent_is_reported(sounds, tmp_path):
    source = tmp_path / "in"
    shutil.copytree(sounds, source)
    (source / "bad.wav").write_bytes(b"nonsense")
    save(Audio(np.zeros((1, 9000), np.float32), 44_100), source / "silent.wav")
    code, _, stderr = invoke("eval", source, "-c", "opus:kbps=64", *QUICK, "--show", "none", "-o", tmp_path / "out")
    assert code == exits.PARTIAL
    assert "bad.wav counts for no codec" in stderr
    assert "silent.wav: there is no sound in it" in stderr
    assert "2 of 4 files averaged" in stderr


def test_one_kind_at_a_time(sounds, tmp_path):
    picture = tmp_path / "in" / "cover.png"
    picture.parent.mkdir()
    PIL.Image.new("RGB", (9, 9)).save(picture)
    medium, files = find_files([str(sounds)])
    assert (medium.name, [file.name for file in files]) == ("audio", ["a.wav", "sub/b.flac"])
    unnamed = tmp_path / "recording"
    shutil.copy(sounds / "a.wav", unnamed)
    assert find_files([str(unnamed)])[0] is SOUNDS
    for data, codecs, message in (
        ([sounds, picture], ["-c", "opus"], "a.wav is sound and "),
        ([sounds], ["-c", "opus", "-c", "jpeg"], "jpeg is for pictures, and "),
        ([picture], ["-c", MODEL], f"{MODEL} is for sounds, and "),
        (
            [sounds],
            ["-c", "opus", "--metric", "ms-ssim"],
            "sounds have no metric 'ms-ssim'; choose from psnr, mse, snr",
        ),
        ([sounds], ["-c", "opus:kbps=1"], "6..510"),
    ):
        code, _, stderr = invoke("eval", *data, *codecs, "-o", tmp_path / "out")
        assert (code, message in stderr) == (exits.USAGE, True), stderr
        assert not (tmp_path / "out").exists()


def test_families_of_sound():
    names = [name for name in FAMILIES if find_family(name).media == "audio"]
    assert names == ["opus", "aac", "mp3", "lyra"]
    assert {*names, MODEL} <= set(families_for("audio"))
    assert "jpeg" not in families_for("audio")
    for name in names:
        for option in find_family(name).options.values():
            for value in option.default:
                option.check(value)


@pytest.mark.parametrize("spec", ["opus", "opus:application=voip,frame=60,vbr=off", "aac", "mp3"])
def test_defaults_fit_speech_and_music(spec):
    [curve] = parse_spec(spec)
    for sound in (sound_of(0.1, 16_000, 1), sound_of(0.1, 44_100, 2)):
        for setting in curve.settings:
            made = curve.codec(setting)
            assert json.loads(json.dumps(dict(made.options))) == made.options  # or resuming measures all again
            decoded = made.decode(made.encode(sound))
            assert (decoded.rate, decoded.channels) == (sound.rate, sound.channels)
            SOUNDS.alike(sound, decoded)


def test_means_are_over_files_that_all_have():
    def row(file, curve, psnr, pesq):
        size = {"channels": 1, "sample_rate": 16_000, "samples": 32_000}
        return Row(file, "00", curve, "x", size=size, bytes=1000, metrics={"psnr": psnr, "pesq": pesq},
                   encode_seconds=0.5)  # fmt: skip

    rows = {
        ("a", "x"): [row("1", "a", 30.0, 2.0), row("2", "a", None, 4.0)],
        ("b", "x"): [row("1", "b", 30.0, 3.0), row("2", "b", 40.0, None)],
        ("c", "x"): [row("1", "c", 30.0, None), row("2", "c", 40.0, None)],  # has no say
    }
    prepared = [
        type("Prepared", (), {"spec": parse_spec("mp3")[0], "kind": "anchor", "description": ""})() for _ in rows
    ]
    for each, (name, _) in zip(prepared, rows, strict=True):
        each.spec = type("Spec", (), {"name": name, "settings": {"x": {}}})()
    points = [curve.points[0] for curve in curves_of(Selection(rows, ["1", "2"], {}, {}), prepared, SOUNDS)]
    assert [point.metrics for point in points] == [
        {"psnr": None, "pesq": 2.0},
        {"psnr": 35.0, "pesq": 3.0},
        {"psnr": 35.0, "pesq": None},
    ]
    assert points[0].rate == pytest.approx(4)
    assert points[0].times_real_time(points[0].encode_seconds) == pytest.approx(4)
    assert average("x", rows["b", "x"], SOUNDS).metrics["pesq"] == 3.0


def test_the_loudest_part_is_heard():
    sound = sound_of(SECONDS + 2, 8000, 3)
    samples = sound.samples.copy()
    samples[:, :10_000] *= 0.01
    place = loudest(Audio(samples, 8000))
    assert place.start > 8000
    assert len(place) == SECONDS * 8000
    part = audio.read(base64.b64decode(data_uri(Audio(samples, 8000), place).partition(",")[2]))
    assert (part.channels, part.length, part.rate) == (2, len(place), 8000)


def test_names_from_data_are_only_ever_text():
    sound = sound_of(0.1, 8000, 1)
    points = tuple(Point(EVIL, 8.0 * 2**i, {"psnr": 30.0 + i}, 1.0, 1.0, duration=2.0) for i in range(4))
    evaluation = Evaluation((Curve(EVIL, "model", EVIL, points),), ("psnr",), {}, EVIL, {"data": EVIL}, "audio")
    page = render(evaluation, [Exhibit(EVIL, sound, [Decoded(EVIL, EVIL, 8.0, None, sound)])])
    assert "<img" not in page
    assert page.count("<script") == 2
    assert data_in(page)["curves"][0]["points"][0]["duration"] == 2


def test_compare(sounds, tmp_path):
    stream = tmp_path / "a.lcb"
    stream.write_bytes(codec.encode(sounds / "a.wav", model=MODEL, quality=50))
    code, stdout, _ = invoke("compare", sounds / "a.wav", stream, "--metric", "snr,si-sdr", "--json")
    report = json.loads(stdout)
    assert code == 0
    assert report["b"]["kbps"] == pytest.approx(8 * stream.stat().st_size / 0.2 / 1000)
    assert (report["sample_rate"], report["channels"], report["identical"]) == (44_100, 2, False)
    assert list(report["metrics"]) == ["psnr", "mse", "snr", "si-sdr"]
    code, stdout, stderr = invoke("compare", sounds / "a.wav", sounds / "a.wav", "--metric", "snr")
    assert stdout.count("infinite: they are the same") == 2
    assert "kbit/s" in stdout
    code, _, stderr = invoke("compare", sounds / "a.wav", sounds / "sub" / "b.flac")
    assert (code, "cannot be compared" in stderr) == (exits.FAILURE, True)
    code, _, stderr = invoke("compare", sounds / "a.wav", DATA / "gray.png")
    assert (code, "sound and a picture cannot be compared" in stderr) == (exits.FAILURE, True)


def test_results_are_kept_for_the_list_of_models(tmp_path, monkeypatch):
    folder = tmp_path / "models" / "mine"
    shutil.copytree(checkpoint.find_model(MODEL).folder, folder)
    monkeypatch.setenv("CODEC_MODELS", str(folder.parent))
    curves = [
        Curve(name, kind, "", tuple(Point(f"q={i}", 8 * 2.0**i * factor, {"psnr": 30.0 + 3 * i}) for i in range(5)))
        for name, kind, factor in (("mine", "model", 0.9), ("opus", "anchor", 1), ("mp3", "anchor", 1.8))
    ]
    facts = {"data": ["music"], "files": 6}
    assert record(Evaluation(tuple(curves), ("psnr",), {}, "codec eval", facts, "audio")) == ["mine"]
    line = next(line for line in invoke("list", "models")[1].splitlines() if line.startswith("mine"))
    assert "  music, 6 files: 7.2..115.2 kbit/s, 30.0..42.0 dB  -10.0 % vs opus  -50.0 % vs mp3" in line


def test_silence_has_no_rate(tmp_path):
    save(Audio(np.full((1, 100), 0.25, np.float32), 8000), tmp_path / "x.wav")
    with pytest.raises(MediaError, match="no sound in it; leave it out"):
        SOUNDS.read(str(tmp_path / "x.wav"))
    out = io.BytesIO()
    audio.write(sound_of(0.1, 8000, 1), out, "wav")
    (tmp_path / "y.wav").write_bytes(out.getvalue())
    assert SOUNDS.read(str(tmp_path / "y.wav")).metadata == {}
