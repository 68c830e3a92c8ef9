"""`codec eval` and `codec compare` as a user meets them."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

import codec
from codec.cli import exits
from codec.evaluation.results import Row
from codec.evaluation.rows import load_rows

from commandline import invoke, run
from support import DATA, SMALL, picture_of

CODECS = ["-c", f"{SMALL}:q=10..85/25", "-c", "jpeg:q=10,30,60,90", "-c", "png"]
QUICK = ["--repeat", 1, "--metric", "psnr", "--picture", "none"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "sub").mkdir()
    PIL.Image.fromarray(picture_of((176, 168, 3))).save(folder / "formula.png")
    (folder / "sub" / "parrots.png").write_bytes((DATA / "parrots.png").read_bytes())
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture(scope="module")
def evaluated(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated")
    published = f"{DATA / 'published.json'}:vtm"
    words = ["--published", published, "--metric", "psnr,ms-ssim", "--picture", "formula", "--repeat", 1]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # other tests use more
    result = run("eval", pictures, *CODECS, *words, "-o", out, env=environment)
    assert result.returncode == 0, result.stderr
    return out, result


def without_times(rows: list[Row]) -> list[Row]:
    times = dict.fromkeys(("encode_seconds", "decode_seconds"), 0.0) | dict.fromkeys(("encode_peak", "decode_peak"))
    return [replace(row, **times) for row in rows]


def test_rows_are_of_real_files(evaluated, pictures):
    rows = load_rows(evaluated[0] / "results.jsonl")
    assert [(r.file, r.curve, r.setting) for r in rows] == [
        (file, curve, setting)
        for file in ("formula.png", "sub/parrots.png")
        for curve, settings in (
            (SMALL, ["q=10", "q=35", "q=60", "q=85"]),
            ("jpeg", ["q=10", "q=30", "q=60", "q=90"]),
            ("png", [""]),
        )
        for setting in settings
    ]
    picture = codec.read(pictures / "sub" / "parrots.png")
    row = next(r for r in rows if (r.file, r.curve, r.setting) == ("sub/parrots.png", SMALL, "q=60"))
    data = codec.encode(picture, model=SMALL, quality=60)
    assert row.bytes == len(data)
    assert row.metrics["psnr"] == pytest.approx(codec.psnr_of(codec.decode(data), picture), abs=1e-3)
    assert row.metrics["ms-ssim"] is None
    assert row.estimated_bytes == pytest.approx(row.bytes, abs=60)
    assert row.encode_seconds > 0
    assert row.decode_seconds > 0
    if sys.platform == "linux":
        assert row.encode_peak > 1 << 20


def test_everything_is_written(evaluated):
    out, result = evaluated
    assert {path.name for path in out.iterdir()} == {
        "results.jsonl", "results.csv", "curves.csv", "summary.json", "summary", "report.html", "plots",
    }  # fmt: skip
    document = json.loads((out / "summary.json").read_text())
    assert document["anchor"] == "jpeg"
    assert [c["kind"] for c in document["curves"]] == ["model", "anchor", "anchor", "published"]
    assert document["facts"]["files"] == 2
    assert "no ms-ssim" in document["facts"]
    assert "failures" not in document["facts"]
    assert f"--codec {SMALL}:q=10..85/25 --codec jpeg:q=10,30,60,90" in document["command"]
    assert "One process" in document["conventions"]["Seconds"]
    assert (out / "summary" / "jpeg.json").exists()
    table = result.stdout.decode()
    assert table.splitlines()[0].startswith("BD-rate")
    assert "(1) is lossless" in table
    assert b"sub/parrots.png" in result.stderr
    assert b"\x1b[" not in result.stderr


def test_bpp_is_the_mean_over_files(evaluated):
    rows = [r for r in load_rows(evaluated[0] / "results.jsonl") if (r.curve, r.setting) == ("jpeg", "q=30")]
    curves = json.loads((evaluated[0] / "summary.json").read_text())["curves"]
    expected = np.mean([8 * r.bytes / (r.size["width"] * r.size["height"]) for r in rows])
    assert curves[1]["results"]["bpp"][1] == pytest.approx(expected)


def test_two_runs_agree_on_every_file_whatever_the_processes(evaluated, pictures, tmp_path):
    out = tmp_path / "out"
    code, _, stderr = invoke("eval", pictures, *CODECS, *QUICK, "-j", 2, "-o", out)
    assert code == 0, stderr
    first, second = (load_rows(folder / "results.jsonl") for folder in (evaluated[0], out))
    assert [r.coded for r in first] == [r.coded for r in second]
    assert [r.bytes for r in first] == [r.bytes for r in second]
    facts = json.loads((out / "summary.json").read_text())["facts"]
    assert "not comparable" in facts["processes and threads"]


def test_results_are_not_overwritten(evaluated, pictures):
    before = (evaluated[0] / "results.jsonl").read_bytes()
    code, _, stderr = invoke("eval", pictures, *CODECS, *QUICK, "-o", evaluated[0])
    assert code == exits.FAILURE
    assert "--resume" in stderr
    assert (evaluated[0] / "results.jsonl").read_bytes() == before


def test_resuming_measures_what_is_missing_only(pictures, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a", "b"):
        (source / f"{name}.png").write_bytes((DATA / "gray.png").read_bytes())
    words = ["eval", source, "-c", "jpeg:q=10,90", *QUICK, "-o", tmp_path / "out"]
    assert invoke(*words)[0] == 0
    path = tmp_path / "out" / "results.jsonl"
    first = load_rows(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[2] + lines[3][:50])
    code, _, stderr = invoke(*words, "--resume")
    assert code == 0
    assert stderr.count("b.png  jpeg q=90") == stderr.count("a.png  jpeg q=90") == 1
    assert "a.png  jpeg q=10" not in stderr
    again = load_rows(path)
    assert (again[0], again[2]) == (first[0], first[2])  # with their times
    assert without_times(again) == without_times(first)
    (source / "b.png").write_bytes((DATA / "parrots.png").read_bytes())
    assert "b.png  jpeg q=10" in invoke(*words, "--resume")[2]
    changed = load_rows(path)
    assert changed[:2] == again[:2]
    assert changed[2].size["width"] == 203
    assert invoke(*words, "-c", "webp:q=5", "--resume")[0] == 0
    assert len(load_rows(path)) == 6
    assert "webp" not in (tmp_path / "out" / "curves.csv").read_text() or invoke(*words, "--resume")[0] == 0
    assert len(load_rows(path)) == 6  # rows that were not asked for this time stay


def test_resuming_measures_again_what_was_coded_with_other_options(tmp_path):
    words = ["eval", DATA / "gray.png", "-c", "jpeg:q=10,90", *QUICK, "-o", tmp_path / "out"]
    assert invoke(*words)[0] == 0
    path = tmp_path / "out" / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[0]["options"] == {"quality": 10, "subsampling": "4:2:0", "optimize": True, "progressive": True}
    rows[0]["options"]["optimize"] = False  # what an earlier default might have been
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stderr = invoke(*words, "--resume")[2]
    assert "jpeg q=10" in stderr
    assert "jpeg q=90" not in stderr


def test_interrupting_and_resuming_gives_the_same_file(pictures, tmp_path):
    words = ["eval", pictures, "-c", "avif:q=20..80/10,speed=4", "-c", f"{SMALL}:q=20", *QUICK]
    command = [sys.executable, "-c", "from codec.cli.main import run; run()", *map(str, words)]
    process = subprocess.Popen([*command, "-o", str(tmp_path / "cut")], stderr=subprocess.PIPE)
    results = tmp_path / "cut" / "results.jsonl"
    deadline = time.monotonic() + 120
    while (not results.exists() or results.read_bytes().count(b"\n") < 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == exits.INTERRUPTED, stderr
    assert b"add --resume" in stderr
    kept = load_rows(results)
    assert 3 <= len(kept) < 16
    assert invoke(*words, "-o", tmp_path / "cut", "--resume")[0] == 0
    assert invoke(*words, "-o", tmp_path / "whole")[0] == 0
    resumed, whole = load_rows(results), load_rows(tmp_path / "whole" / "results.jsonl")
    assert without_times(resumed) == without_times(whole)
    assert resumed[: len(kept)] == kept


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_broken_picture_is_reported_and_the_rest_goes_on(tmp_path, jobs):
    source = tmp_path / "in"
    source.mkdir()
    (source / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    (source / "good.png").write_bytes((DATA / "gray.png").read_bytes())
    words = ["eval", source, "-c", "jpeg:q=10,90", *QUICK, "-j", jobs, "-o", tmp_path / "out"]
    code, _, stderr = invoke(*words)
    assert code == exits.PARTIAL
    assert stderr.count("bad.png: jpeg") == 1
    rows = load_rows(tmp_path / "out" / "results.jsonl")
    assert [r.error is None for r in rows] == [False, False, True, True]
    document = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert document["facts"]["files"] == 1
    assert "bad.png" in document["facts"]["failures"][0]
    (source / "bad.png").write_bytes((DATA / "gray.png").read_bytes())
    assert invoke(*words, "--resume")[0] == 0
    assert all(r.error is None for r in load_rows(tmp_path / "out" / "results.jsonl"))


def test_a_picture_that_one_codec_cannot_code_counts_for_none(tmp_path):
    words = ["-c", "jpeg:q=50", "-c", f"{SMALL}:q=50", *QUICK, "-o", tmp_path / "out", "--json"]
    code, stdout, stderr = invoke("eval", DATA / "deep.png", DATA / "parrots.png", *words)
    assert code == exits.PARTIAL
    assert "deep.png counts for no codec" in stderr
    document = json.loads(stdout)
    assert [c["results"]["bpp"] for c in document["curves"]] == [
        [pytest.approx(1.1, abs=0.4)],
        [pytest.approx(0.5, abs=0.4)],
    ]
    assert document["facts"]["files"] == 1
    assert invoke("eval", DATA / "cmyk.jpg", *words[:-2], tmp_path / "none")[0] == exits.PARTIAL


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-c", "jpeg:z=1"], exits.USAGE, "it has q, subsampling"),
        (["-c", "jpeg:q=500"], exits.USAGE, "0..100"),
        (["-c", "nothing"], exits.UNKNOWN, "choose from"),
        (["-c", "jpeg", "--metric", "vmaf"], exits.USAGE, "choose from"),
        (["-c", "jpeg", "--metric", "lpips"], exits.FAILURE, "--weights"),
        (["-c", "jpeg", "--weights", "lpips=absent"], exits.USAGE, "NAME=FILE"),
        (["-c", "jpeg", "--anchor", "webp"], exits.USAGE, "none of the curves jpeg"),
        (["-c", "jpeg", "--published", f"{DATA / 'published.json'}"], exits.USAGE, "paper-elic2022_mse"),
        (["-c", "jpeg", "--picture", "x.png"], exits.USAGE, "none of the files"),
        ([], exits.USAGE, "--codec"),
    ],
)
def test_wrong_requests_measure_nothing(tmp_path, words, code, message):
    got, _, stderr = invoke("eval", DATA / "gray.png", *words, "-o", tmp_path / "out")
    assert got == code, stderr
    assert message in stderr
    assert not (tmp_path / "out").exists()


def test_no_pictures(tmp_path):
    code, _, stderr = invoke("eval", tmp_path, "-c", "jpeg")
    assert code == exits.FAILURE
    assert "no pictures or sounds in" in stderr


def test_the_same_name_in_two_folders(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes((DATA / "gray.png").read_bytes())
    out = tmp_path / "out"
    assert invoke("eval", tmp_path / "a", tmp_path / "b", tmp_path / "a", "-c", "jpeg:q=5", *QUICK, "-o", out)[0] == 0
    assert [r.file for r in load_rows(out / "results.jsonl")] == ["x.png", str(tmp_path / "b" / "x.png")]


def test_help_is_quick():
    script = (
        "import sys\nfrom codec.cli.main import main\n"
        "for name in ('eval', 'compare'):\n"
        "    try:\n        main([name, '--help'])\n    except SystemExit:\n        pass\n"
        "print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_compare(tmp_path):
    photo, stream = DATA / "parrots.png", tmp_path / "photo.lcb"
    stream.write_bytes(codec.encode(photo, model=SMALL, quality=50))
    code, stdout, _ = invoke("compare", photo, stream, "--json")
    report = json.loads(stdout)
    assert code == 0
    assert report["b"] == {
        "file": str(stream), "bytes": stream.stat().st_size, "bpp": 8 * stream.stat().st_size / (203 * 151),
    }  # fmt: skip
    assert report["metrics"]["psnr"] == pytest.approx(codec.psnr_of(codec.decode(stream), codec.read(photo)), abs=1e-4)
    code, stdout, _ = invoke("compare", photo, stream, "--metric", "psnr,ms-ssim")
    assert f"{report['metrics']['psnr']:.6g} dB" in stdout
    assert "ms-ssim     not defined" in stdout
    assert "ssimulacra2" not in stdout
    assert "infinite" in invoke("compare", photo, photo)[1]


@pytest.mark.parametrize(
    ("other", "words", "code", "message"),
    [
        ("gray.png", [], exits.FAILURE, "cannot be compared"),
        ("README.md", [], exits.FAILURE, "README.md"),
        ("absent.png", [], exits.USAGE, "absent.png"),
        ("parrots.png", ["--metric", "x"], exits.USAGE, "choose from"),
    ],
)
def test_compare_refuses(other, words, code, message):
    got, _, stderr = invoke("compare", DATA / "parrots.png", DATA / other, *words)
    assert got == code
    assert message in stderr
