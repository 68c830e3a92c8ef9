"""The command line as a user meets it: real processes, real files, real exit codes."""

import json
import os
import pty
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest

import codec
from codec.cli import exits

from commandline import invoke, run
from support import DATA, SMALL

PHOTO = DATA / "parrots.png"
MODEL = ["-m", SMALL]


@pytest.fixture
def photo_file(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(PHOTO.read_bytes())
    return path


def test_the_main_job(photo_file):
    encoded = run("encode", photo_file, "--json", "--verify")
    assert encoded.returncode == 0, encoded.stderr
    report = json.loads(encoded.stdout)
    stream = photo_file.with_suffix(".lcb")
    assert report["output"] == str(stream)
    assert report["bytes"] == stream.stat().st_size
    assert report["bpp"] == 8 * report["bytes"] / (203 * 151)
    assert set(report) == {
        "input", "output", "bytes", "bpp", "width", "height", "model", "quality", "seconds", "psnr",
    }  # fmt: skip
    decoded = run("decode", stream, "-o", photo_file.with_name("back.png"))
    assert decoded.returncode == 0, decoded.stderr
    with PIL.Image.open(photo_file.with_name("back.png")) as a, PIL.Image.open(PHOTO) as b:
        error = np.square(np.asarray(a, float) - np.asarray(b, float)).mean()
    assert 10 * np.log10(255**2 / error) == pytest.approx(report["psnr"], abs=0.01)
    assert report["psnr"] > 25


def test_names_follow_the_input(photo_file, tmp_path):
    assert invoke("encode", photo_file, *MODEL)[0] == 0
    assert invoke("decode", tmp_path / "photo.lcb", "--to", "webp")[0] == 0
    assert (tmp_path / "photo.webp").exists()
    assert invoke("decode", tmp_path / "photo.lcb", "-o", tmp_path / "new" / "x.tif")[0] == 0
    with PIL.Image.open(tmp_path / "new" / "x.tif") as image:
        assert image.format == "TIFF"


def test_nothing_is_overwritten_without_force(photo_file):
    stream = photo_file.with_suffix(".lcb")
    stream.write_bytes(b"precious")
    code, _, stderr = invoke("encode", photo_file, *MODEL)
    assert code == exits.FAILURE
    assert "-f" in stderr
    assert stream.read_bytes() == b"precious"
    assert invoke("encode", photo_file, *MODEL, "--skip-existing")[0] == 0
    assert stream.read_bytes() == b"precious"
    assert invoke("encode", photo_file, *MODEL, "-f")[0] == 0
    assert codec.open(stream).info.width == 203


def test_folders_keep_their_subtree(tmp_path):
    for name in ("a/one.png", "a/b/two.png", "a/b/readme.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((DATA / "gray.png").read_bytes())
    code, stdout, _ = invoke("encode", "-r", tmp_path / "a", "-o", tmp_path / "out", *MODEL, "-j", 2, "--json")
    assert code == 0
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.lcb")) == [
        "b/two.lcb",
        "one.lcb",
    ]
    assert len([json.loads(line) for line in stdout.splitlines()]) == 2
    assert invoke("decode", "-r", tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / "b" / "two.png").exists()
    code, _, stderr = invoke("encode", tmp_path / "a", *MODEL)
    assert code == exits.USAGE
    assert "-r" in stderr


def test_stdin_and_stdout(tmp_path):
    encoded = run("encode", "-", *MODEL, "-q", 40, stdin=PHOTO.read_bytes())
    assert encoded.returncode == 0, encoded.stderr
    assert encoded.stdout == codec.encode(PHOTO, model=SMALL, quality=40)
    decoded = run("decode", "-", "-o", "-", "--to", "ppm", stdin=encoded.stdout)
    assert decoded.stdout.startswith(b"P6\n203 151\n255\n")


def test_two_inputs_for_one_output(photo_file, tmp_path):
    other = tmp_path / "photo.jpg"
    other.write_bytes((DATA / "rotated.jpg").read_bytes())
    code, _, stderr = invoke("encode", photo_file, other, *MODEL)
    assert code == exits.USAGE
    assert "photo.lcb" in stderr
    assert not (tmp_path / "photo.lcb").exists()


def test_one_bad_file_does_not_stop_the_others(tmp_path, photo_file):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    for jobs in (1, 2):
        code, _, stderr = invoke(
            "encode", bad, photo_file, DATA / "cmyk.jpg", "-o", tmp_path / str(jobs), *MODEL, "-j", jobs
        )
        assert code == exits.PARTIAL
        assert (tmp_path / str(jobs) / "photo.lcb").exists()
        assert "bad.png" in stderr
        assert "CMYK" in stderr
        assert "2 of 3" in stderr
        assert len(list((tmp_path / str(jobs)).iterdir())) == 1


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["-q", "101"], exits.USAGE),
        (["-e", "0"], exits.USAGE),
        (["-q", "5", "--bpp", "1"], exits.USAGE),
        (["--target-size", "many"], exits.USAGE),
        (["--nonsense"], exits.USAGE),
        (["-m", "nothing"], exits.UNKNOWN),
        (["--target-size", "40"], exits.UNREACHABLE),
        (["--psnr", "90"], exits.UNREACHABLE),
        (["--max-pixels", "100"], exits.FAILURE),
        (["-o", "-", "--json"], exits.USAGE),
    ],
)
def test_exit_codes_of_encode(photo_file, args, code):
    options = args if "-m" in args else [*args, *MODEL]
    got, _, stderr = invoke("encode", photo_file, *options)
    assert got == code, stderr
    assert stderr.strip()
    assert list(photo_file.parent.iterdir()) == [photo_file]


def test_exit_codes_of_decode(tmp_path, small_stream):
    files = {
        "cut.lcb": (small_stream[:-5], exits.DAMAGED),
        "flipped.lcb": (small_stream[:-9] + bytes([small_stream[-9] ^ 1]) + small_stream[-8:], exits.DAMAGED),
        "text.lcb": (b"hello", exits.DAMAGED),
        "empty.lcb": (b"", exits.DAMAGED),
        "newer.lcb": (small_stream[:6] + b"\x09" + small_stream[7:], exits.UNKNOWN),
    }
    for name, (data, code) in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        got, _, stderr = invoke("decode", path)
        assert got == code, (name, stderr)
        assert stderr.count("\n") == 1
        assert name in stderr
        assert invoke("inspect", path)[0] == code
    assert not list(tmp_path.glob("*.png"))
    assert invoke("decode", *(tmp_path / n for n in files))[0] == exits.PARTIAL
    assert invoke("decode", tmp_path / "absent.lcb")[0] == exits.USAGE


def test_missing_models_have_their_code(tmp_path, small_stream, monkeypatch):
    monkeypatch.delenv("CODEC_MODELS")
    (tmp_path / "a.lcb").write_bytes(small_stream)
    code, _, stderr = invoke("decode", tmp_path / "a.lcb")
    assert code == exits.UNKNOWN
    assert "CODEC_MODELS" in stderr


def test_targets(photo_file):
    assert invoke("encode", photo_file, *MODEL, "--target-size", "1k")[0] == 0
    assert 900 < photo_file.with_suffix(".lcb").stat().st_size <= 1000


def test_inspect(tmp_path, small_stream):
    path = tmp_path / "a.lcb"
    path.write_bytes(small_stream)
    code, stdout, _ = invoke("inspect", path, "--json")
    report = json.loads(stdout)
    assert code == 0
    assert (report["width"], report["height"], report["model"]) == (56, 40, SMALL)
    assert "32 bytes" not in stdout
    code, stdout, _ = invoke("inspect", path, "--check")
    assert code == 0
    assert "all symbols decode" in stdout


def test_inspect_check_names_damage(tmp_path):
    rng = np.random.default_rng(0)
    data = bytearray(codec.encode(rng.integers(0, 255, (16, 2500, 3), np.uint8), model=SMALL))
    data[-20] ^= 1
    (tmp_path / "a.lcb").write_bytes(bytes(data))
    code, stdout, _ = invoke("inspect", tmp_path / "a.lcb", "--check", "--json")
    assert code == exits.DAMAGED
    assert json.loads(stdout)["problems"][0].startswith("unit 2")


def test_list_and_doctor():
    code, stdout, _ = invoke("list", "models")
    assert code == 0
    assert "walloc-12" in stdout
    assert "default" in stdout
    systems = [json.loads(line)["name"] for line in invoke("list", "systems", "--json")[1].splitlines()]
    assert systems == sorted(codec.installed_systems())
    assert "walloc" in systems
    code, stdout, _ = invoke("doctor")
    assert code == 0, stdout
    assert f"model {SMALL}" in stdout


def test_help_needs_no_torch():
    script = (
        "import sys\nfrom codec.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "False False"
    for command in ("encode", "decode", "inspect", "list", "doctor"):
        assert command in result.stdout
        assert invoke(command, "--help")[0] == 0


@pytest.mark.parametrize("jobs", [1, 2])
def test_interruption_leaves_nothing_half_written(tmp_path, jobs):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(jobs):
        (folder / f"{i}.png").write_bytes(PHOTO.read_bytes())
    command = [sys.executable, "-c", "from codec.cli.main import run; run()", "encode", "-r", str(folder)]
    process = subprocess.Popen([*command, "-e", "10", "-j", str(jobs), *MODEL], stderr=subprocess.PIPE)
    time.sleep(6)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == exits.INTERRUPTED
    assert b"interrupted" in stderr
    assert sorted(p.name for p in folder.iterdir()) == [f"{i}.png" for i in range(jobs)]


def test_binary_is_not_written_to_a_terminal():
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", "from codec.cli.main import run; run()", "encode", str(PHOTO), "-o", "-", *MODEL]
    result = subprocess.run(command, stdout=follower, stderr=subprocess.PIPE, check=False)
    os.close(follower)
    os.close(leader)
    assert result.returncode == exits.USAGE
    assert b"terminal" in result.stderr


def test_a_progress_bar_on_a_terminal_only(photo_file):
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", "from codec.cli.main import run; run()", "encode", str(photo_file), *MODEL]
    process = subprocess.Popen([*command, "-e", "2"], stdout=subprocess.PIPE, stderr=follower)
    os.close(follower)
    shown = b""
    while True:  # read while it runs: a terminal holds a few kilobytes, then its writer waits
        try:
            part = os.read(leader, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(leader)
    stdout, _ = process.communicate()
    assert process.returncode == 0
    assert stdout == b""
    assert b"\x1b[" in shown
    plain = run("encode", photo_file, *MODEL, "-f")
    assert b"\x1b[" not in plain.stderr
    assert plain.stderr.count(b"\n") == 1
