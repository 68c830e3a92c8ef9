"""`codec eval --task`: a user's classifier as one more metric of any codec."""

import csv
import json
import os

import pytest

import codec
from codec.cli import exits
from codec.evaluation.report.plots import write_plots
from codec.evaluation.results import Curve, Evaluation, Point
from codec.evaluation.rows import load_rows
from codec.evaluation.tasks import load_task

from commandline import invoke, run
from lamps import album, installed
from support import SMALL, sound_of, video_of

QUICK = ["--repeat", 1, "--metric", "psnr", "--show", "none"]
BRIGHTNESS = """
print("loaded")
def predict(image):
    return "bright" if image.samples.mean() > 128 else "dark"
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return album(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def task(tmp_path):
    path = tmp_path / "brightness.py"
    path.write_text(BRIGHTNESS)
    return path


def scores(folder, name="accuracy"):
    return {(row.file, row.curve, row.setting): row.metrics[name] for row in load_rows(folder / "results.jsonl")}


@pytest.fixture(scope="module")
def evaluated(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "brightness.py").write_text(BRIGHTNESS)
    words = ["-c", "jpeg:q=10,40,70,90", "-c", f"{SMALL}:q=20,80", "-c", "png", "--task", folder / "brightness.py"]
    result = run("eval", pictures, *words, *QUICK, "--json", "-o", folder / "out", "-j", 2,
                 env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder / "out", result


def test_rows_have_scores_of_the_class_their_folder_names(evaluated):
    rows = load_rows(evaluated[0] / "results.jsonl")
    assert len(rows) == 4 * 7
    for row in rows:
        assert row.error is None
        assert row.metrics["accuracy"] == row.original == (0 if row.file == "dark/wrong.png" else 100)
        assert len(row.task) == 64
        assert "psnr" in row.metrics
    with (evaluated[0] / "results.csv").open() as file:
        assert {line["accuracy"] for line in csv.DictReader(file)} == {"0.0", "100.0"}


def test_curves_and_originals_are_in_percent(evaluated):
    out, result = evaluated
    document = json.loads(result.stdout)  # what the user's file prints is elsewhere
    assert b"loaded" in result.stderr
    assert document == json.loads((out / "summary.json").read_text())
    assert document["metrics"][-1] == "accuracy"
    assert document["originals"] == {"accuracy": 75.0}
    assert document["facts"]["originals"] == "accuracy 75.0 %"
    assert "brightness.py" in document["conventions"]["accuracy"]
    assert "--task" in document["command"]
    for curve in document["curves"]:
        assert set(curve["results"]["accuracy"]) == {75.0}
    with (out / "curves.csv").open() as file:
        assert {line["accuracy"] for line in csv.DictReader(file)} == {"75.0"}
    assert {"rd-accuracy.png", "rd-accuracy.svg"} <= {path.name for path in (out / "plots").iterdir()}
    [delta] = [d for d in document["bd"] if (d["curve"], d["metric"]) == (SMALL, "accuracy")]
    assert delta["rate"] is None


def test_the_report_has_the_metric_and_the_originals(evaluated):
    page = (evaluated[0] / "report.html").read_text()
    assert "accuracy of the originals 75.0 %" in page
    assert '{"label":"accuracy","title":"accuracy (%)","unit":"%","digits":1,"falling":false,"original":75.0}' in page
    assert '<th scope="col" class="n">accuracy (%)</th>' in page


def test_the_table_tells_scores_instead_of_rates(pictures, task, tmp_path):
    code, stdout, _ = invoke("eval", pictures, "-c", "jpeg:q=10,90", "--task", task, *QUICK, "-o", tmp_path / "out")
    assert code == 0
    head, jpeg = stdout.splitlines()[-2:]
    assert head.endswith("accuracy (%), originals 75.0")
    assert jpeg.endswith("75.0..75.0")


def test_the_plot_marks_the_originals(tmp_path):
    points = tuple(Point(f"q={i}", 0.1 * 2**i, {"accuracy": 60.0 + i}) for i in range(4))
    evaluation = Evaluation((Curve("jpeg", "anchor", "", points),), ("accuracy",), {}, "", {}, originals={})
    plain = [path.read_bytes() for path in write_plots(evaluation, tmp_path)]
    marked = Evaluation(evaluation.curves, ("accuracy",), {}, "", {}, originals={"accuracy": 87.25})
    svg = next(path for path in write_plots(marked, tmp_path) if path.suffix == ".svg").read_text()
    assert svg.encode() not in plain
    assert "originals, 87.2 %" in svg


def test_a_score_of_ones_own(pictures, tmp_path):
    task = tmp_path / "mine.py"
    (tmp_path / "beside.py").write_text("LIMIT = 128\n")
    task.write_text(
        "from dataclasses import dataclass\n"
        "from beside import LIMIT\n"
        "NAME = 'mean level'\n"
        "@dataclass\nclass Level:\n    value: float\n"
        "def predict(image):\n    return Level(float(image.samples.mean()))\n"
        "def score(prediction, path):\n"
        "    assert path.is_absolute() and path.parent.name in ('bright', 'dark') and path.is_file()\n"
        "    return prediction.value / 255 * (path.stem == 'a')\n"
    )
    code, stdout, _ = invoke(
        "eval", pictures / "bright", "-c", "jpeg:q=95", "--task", task, *QUICK, "--json", "-o", tmp_path / "out"
    )
    assert code == 0
    assert not (tmp_path / "__pycache__" / "mine.pyc").exists()
    document = json.loads(stdout)
    found = scores(tmp_path / "out", "mean level")
    assert found["a.png", "jpeg", "q=95"] == pytest.approx(100 * 200 / 255, abs=0.5)
    assert found["b.png", "jpeg", "q=95"] == 0
    assert document["originals"]["mean level"] == pytest.approx(50 * 200 / 255, abs=0.5)
    assert (tmp_path / "out" / "plots" / "rd-mean level.svg").exists()


def test_every_process_loads_the_file_once(pictures, tmp_path):
    task, log = tmp_path / "task.py", tmp_path / "log"
    task.write_text(
        f"import os\nwith open({str(log)!r}, 'a') as file:\n    file.write(f'{{os.getpid()}}\\n')\n"
        "def predict(image): return 'dark'\n"
    )
    words = ["-c", "jpeg:q=10..90/10", "--task", task, *QUICK, "-j", 2, "-o", tmp_path / "out"]
    assert invoke("eval", pictures, *words)[0] == 0
    processes = log.read_text().split()
    assert 2 <= len(processes) == len(set(processes)) <= 3
    assert set(scores(tmp_path / "out").values()) == {0, 100}


def test_resuming_measures_again_when_the_file_has_changed(pictures, task, tmp_path):
    words = ["eval", pictures, "-c", "jpeg:q=10,90", *QUICK, "-o", tmp_path / "out"]
    assert invoke(*words)[0] == 0
    told = "dark/a.png  jpeg"
    assert invoke(*words, "--task", task, "--resume")[2].count(told) == 2  # rows had no score
    first = load_rows(tmp_path / "out" / "results.jsonl")
    assert told not in invoke(*words, "--task", task, "--resume")[2]
    assert load_rows(tmp_path / "out" / "results.jsonl") == first
    assert told not in invoke(*words, "--resume")[2]  # without a task its scores do not matter
    assert load_rows(tmp_path / "out" / "results.jsonl") == first
    task.write_text(BRIGHTNESS.replace("128", "10"))
    assert invoke(*words, "--task", task, "--resume")[2].count(told) == 2
    assert scores(tmp_path / "out")["dark/a.png", "jpeg", "q=10"] == 0


def test_files_added_later_without_the_task_do_not_matter_to_means(pictures, task, tmp_path):
    words = [*QUICK, "-c", "jpeg:q=10", "-o", tmp_path / "out"]
    assert invoke("eval", pictures / "dark" / "a.png", *words, "--task", task)[0] == 0
    code, stdout, _ = invoke("eval", pictures / "dark", *words, "--resume", "--json")
    assert code == 0
    assert json.loads(stdout)["metrics"] == ["psnr", "psnr-of-mean-mse"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def predict(image:\n", "task.py, line 1: SyntaxError: '(' was never closed"),
        ("\nimport nothing_of_that_name\n", "task.py, line 2: ModuleNotFoundError: No module named"),
        ("import sys\nsys.exit(3)\n", "task.py, line 2: SystemExit: 3"),
        ("x = 1\n", "task.py defines no predict(signal)"),
        ("def predict(x): return x\nscore = 3\n", "score is not a function"),
        ("def predict(x): return x\nNAME = 'a/b'\n", "NAME = 'a/b'"),
        ("def predict(x): return x\nNAME = 'psnr'\n", "choose another"),
        ("def predict(x): return x\nNAME = 'bytes'\n", "choose another"),
        ("def predict(x): return x\nNAME = 3\n", "NAME = 3"),
    ],
)
def test_mistakes_in_the_file_measure_nothing(pictures, tmp_path, source, message):
    task = tmp_path / "task.py"
    task.write_text(source)
    code, _, stderr = invoke("eval", pictures, "-c", "jpeg", "--task", task, "-o", tmp_path / "out")
    assert code == exits.USAGE
    assert message in stderr
    assert stderr.count("\n") == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def predict(image):\n    return {}[image.width]\n", "task.py, line 2: KeyError: 32"),
        ("def predict(image): return 1\n\ndef score(p, path): raise ValueError\n", "task.py, line 3: ValueError"),
        ("def predict(image): return 1\ndef score(p, path): return 1.5\n", "score returned 1.5; return a number 0..1"),
        ("def predict(image): return 1\ndef score(p, path): return float('nan')\n", "score returned nan"),
        ("def predict(image): return 1\ndef score(p, path): return None\n", "task.py: TypeError"),
    ],
)
def test_what_fails_for_a_file_is_the_error_of_its_row(pictures, tmp_path, source, message):
    task = tmp_path / "task.py"
    task.write_text(source)
    words = ["-c", "jpeg:q=50", "--task", task, *QUICK, "-o", tmp_path / "out"]
    code, _, stderr = invoke("eval", pictures / "dark" / "a.png", *words)
    assert code == exits.PARTIAL
    assert message in stderr
    [row] = load_rows(tmp_path / "out" / "results.jsonl")
    assert message in row.error


def test_one_file_that_fails_counts_for_none(pictures, tmp_path):
    task = tmp_path / "task.py"
    task.write_text("def predict(image):\n    assert image.samples.mean() > 100\n    return 'bright'\n")
    words = ["-c", "jpeg:q=50", "--task", task, *QUICK, "--json", "-o", tmp_path / "out"]
    code, stdout, stderr = invoke("eval", pictures, *words)
    assert code == exits.PARTIAL
    assert "dark/a.png counts for no codec" in stderr
    assert json.loads(stdout)["originals"]["accuracy"] == pytest.approx(200 / 3)


def test_sound_and_video(tmp_path):
    task = tmp_path / "task.py"
    task.write_text("def predict(signal): return type(signal).__name__\n")
    (tmp_path / "Audio").mkdir()
    (tmp_path / "Video").mkdir()
    for signal, path, spec in (
        (sound_of(9000), tmp_path / "Audio" / "a.wav", "mp3:kbps=64"),
        (video_of(4), tmp_path / "Video" / "a.mkv", "x264:crf=30"),
    ):
        with path.open("wb") as file:
            codec.write(signal, file, path.suffix[1:])
        out = tmp_path / f"out{path.suffix}"
        assert invoke("eval", path.parent, "-c", spec, "--task", task, *QUICK, "-o", out)[0] == 0
        [row] = load_rows(out / "results.jsonl")
        assert row.metrics["accuracy"] == row.original == 100


def test_a_task_is_what_it_was_when_it_was_checked(task):
    found = load_task(str(task))
    assert found.name == "accuracy"
    task.write_text("def predict(image): return 1\n")
    assert load_task(str(task)).digest != found.digest
    with pytest.raises(codec.errors.TaskError, match=r"was changed.*--resume"):
        found.predict(None)


# --- models that serve a task -----------------------------------------------------------------------------------------


@pytest.fixture
def lamp(tmp_path, monkeypatch):
    installed(tmp_path / "models", monkeypatch)


def test_a_model_that_serves_the_task_is_scored_by_its_own_predictions(lamp, pictures, tmp_path):
    task = tmp_path / "task.py"
    task.write_text("def predict(image): return 'dark'\n")  # which is wrong of half of the pictures
    words = [
        "-c",
        "lamp-1:q=20,80",
        "-c",
        "jpeg:q=10,90",
        "--task",
        task,
        "--json",
        "--repeat",
        1,
        "-o",
        tmp_path / "out",
    ]
    code, stdout, stderr = invoke("eval", pictures, *words)
    assert code == 0, stderr
    rows = load_rows(tmp_path / "out" / "results.jsonl")
    assert {row.error for row in rows} == {None}
    lamps = [row for row in rows if row.curve == "lamp-1"]
    assert {tuple(row.metrics) for row in lamps} == {("accuracy",)}
    assert [row.metrics["accuracy"] for row in lamps] == [100, 100, 100, 100, 100, 100, 0, 0]
    assert all(row.estimated_bytes < 10 for row in lamps)
    document = json.loads(stdout)
    assert [curve["results"]["accuracy"] for curve in document["curves"]] == [[75, 75], [50, 50]]
    assert document["originals"] == {"accuracy": 50}
    assert not any(fact.startswith("no ") and "4 files" not in text for fact, text in document["facts"].items())
    assert "lamp-1" in (tmp_path / "out" / "report.html").read_text()
    again = invoke("eval", pictures, *words, "--resume")[2]
    assert "dark/a.png  lamp-1" not in again


def test_a_model_that_serves_a_task_alone_and_without_points_of_quality(lamp, pictures, tmp_path):
    task = tmp_path / "task.py"
    task.write_text("NAME = 'top-1'\ndef predict(image): return 'dark'\n")
    words = ["-c", "lamp-1:q=50", "--task", task, "--repeat", 1, "--record", "-o", tmp_path / "out"]
    code, stdout, stderr = invoke("eval", pictures, *words)
    assert code == 0, stderr
    assert stdout.splitlines()[-2].endswith("top-1 (%), originals 50.0")
    assert stdout.splitlines()[-1].endswith("75.0")
    assert "top-1 100 %" in stderr
    assert "recorded for no model" in stderr  # there is no PSNR


def test_a_model_that_serves_a_task_needs_one(lamp, pictures, tmp_path):
    code, _, stderr = invoke("eval", pictures, "-c", "jpeg", "-c", "lamp-1", *QUICK, "-o", tmp_path / "out")
    assert code == exits.USAGE
    assert "lamp-1 serves a task, and no image comes back; add --task MODEL.py" in stderr
    assert not (tmp_path / "out").exists()
