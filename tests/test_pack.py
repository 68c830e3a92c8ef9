"""`codec pack` as a user meets it: shards, labels, and runs that are stopped, repeated and continued."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import codec
from codec.cli import exits
from codec.packing import pool
from codec.packing.encoding import Encoded, Settings, encode_sample
from codec.packing.layout import Entry, read_entries, read_index, write_index
from codec.workers import limited_threads

from commandline import invoke
from support import picture_of, sound_of

MODEL = ("-m", "walloc-12")
CLASSES = ("cat", "dog")


def picture(path: Path, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (32 + number % 3 * 4, 40 + number % 2 * 8, 3)
    PIL.Image.fromarray(np.roll(picture_of(shape), number, 1)).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Ten pictures of two classes, of which nothing is changed."""
    root = tmp_path_factory.mktemp("data")
    for number in range(10):
        picture(root / CLASSES[number // 5] / f"{number}.png", number)
    return root


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory) -> dict[str, bytes]:
    """What packing the folder gives, in two shards."""
    out = tmp_path_factory.mktemp("packed")
    assert pack(folder, out)[0] == 0
    return contents(out)


def pack(folder: Path, out: Path, *options: object) -> tuple[int, str, str]:
    return invoke("pack", folder, "-o", out, *MODEL, "--shard-size", "16k", *options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def samples_of(out: Path) -> dict[str, tuple[Entry, dict[str, bytes]]]:
    found = {}
    for shard in read_index(out).shards:
        data = (out / shard.name).read_bytes()
        assert len(data) == shard.bytes
        for entry in read_entries(out / shard.name):
            found[entry.key] = entry, {s: data[start : start + size] for s, (start, size) in entry.members.items()}
    return found


def test_samples_have_keys_labels_and_the_bytes_of_encode(folder, tmp_path):
    code, stdout, _ = pack(folder, tmp_path, "-q", 30, "--json")
    assert code == 0
    index, samples = read_index(tmp_path), samples_of(tmp_path)
    assert index.classes == CLASSES
    assert (index.settings["model"], index.settings["quality"]) == ("walloc-12", 30)
    assert index.settings["digest"] == codec.find_model("walloc-12").digest
    assert list(samples) == [f"{CLASSES[number // 5]}/{number}" for number in range(10)]
    for number, (entry, members) in enumerate(samples.values()):
        assert (entry.source, entry.label) == (f"{CLASSES[number // 5]}/{number}.png", number // 5)
        assert members["cls"] == b"%d" % (number // 5)
        with limited_threads(1):
            assert members["lcb"] == codec.encode(folder / entry.source, model="walloc-12", quality=30)
    report = json.loads(stdout)
    assert (report["samples"], report["added"], report["failed"], report["shards"]) == (10, 10, 0, len(index.shards))
    assert report["bytes"] == sum(path.stat().st_size for path in tmp_path.glob("*.tar"))
    assert report["source_bytes"] == sum(path.stat().st_size for path in folder.rglob("*.png"))
    assert report["coded_bytes"] == sum(len(members["lcb"]) for _, members in samples.values())


def test_shards_have_at_most_the_size_asked_for(packed):
    tars = {name: data for name, data in packed.items() if name.endswith(".tar")}
    assert sorted(packed) == ["index.json", *sorted([*tars, *(name.replace(".tar", ".jsonl") for name in tars)])]
    assert len(tars) == 2
    assert max(map(len, tars.values())) <= 16_000


def test_what_is_written_does_not_depend_on_the_number_of_processes(folder, packed, tmp_path):
    assert pack(folder, tmp_path, "-j", 2)[0] == 0
    assert contents(tmp_path) == packed


def test_mirrored_pictures(folder, tmp_path):
    assert pack(folder, tmp_path, "--mirrored")[0] == 0
    entry, members = samples_of(tmp_path)["cat/3"]
    mirror = codec.read(folder / entry.source).samples[:, ::-1]
    with limited_threads(1):
        assert members["mirror.lcb"] == codec.encode(np.ascontiguousarray(mirror), model="walloc-12")
    assert set(members) == {"lcb", "mirror.lcb", "cls"}
    code, _, stderr = invoke("pack", folder, "-o", tmp_path / "other", "-m", "walloc-audio", "--mirrored")
    assert (code, (tmp_path / "other").exists()) == (exits.FAILURE, False)
    assert "for pictures" in stderr


def test_labels_from_a_file_or_none(folder, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("path,label\n" + "".join(f"{CLASSES[n // 5]}/{n}.png,{10 - n}\n" for n in range(10)))
    assert pack(folder, tmp_path / "file", "--labels", file)[0] == 0
    assert read_index(tmp_path / "file").classes == tuple(map(str, range(1, 11)))
    assert [members["cls"] for _, members in samples_of(tmp_path / "file").values()] == [
        b"%d" % (9 - n) for n in range(10)
    ]
    file.write_text(file.read_text().replace("0.png,10", "0.png,1"))
    code, _, stderr = pack(folder, tmp_path / "file", "--labels", file)
    assert (code, "another label" in stderr) == (exits.FAILURE, True)
    assert pack(folder, tmp_path / "none", "--labels", "none")[0] == 0
    assert {entry.label for entry, _ in samples_of(tmp_path / "none").values()} == {None}
    assert read_index(tmp_path / "none").classes == ()
    assert pack(folder, tmp_path / "x", "--labels", "absent.csv")[0] == exits.USAGE


def test_shuffled_shards_hold_the_same_samples(folder, tmp_path):
    assert pack(folder, tmp_path / "a")[0] == 0
    assert pack(folder, tmp_path / "b", "--shuffle")[0] == 0
    one, other = samples_of(tmp_path / "a"), samples_of(tmp_path / "b")
    assert list(one) != list(other)
    assert {k: m for k, (_, m) in one.items()} == {k: m for k, (_, m) in other.items()}
    first = read_entries(tmp_path / "b" / "shard-000000.tar")
    assert {entry.label for entry in first} == {0, 1}


def test_sound_takes_the_model_for_sound(tmp_path):
    for name in ("a/one.wav", "b/two.flac"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            codec.write(sound_of(4000), file, path.suffix[1:])
    assert invoke("pack", tmp_path / "in", "-o", tmp_path / "out")[0] == 0
    samples = samples_of(tmp_path / "out")
    assert read_index(tmp_path / "out").settings["model"] == "walloc-audio"
    assert codec.open(samples["a/one"][1]["lcb"]).decode().samples.shape == (2, 4000)
    assert [entry.label for entry, _ in samples.values()] == [0, 1]


def test_a_bad_file_is_reported_and_tried_again(folder, tmp_path):
    data, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(folder, data)
    bad = data / "cat" / "22.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    code, _, stderr = pack(data, out)
    assert code == exits.PARTIAL
    assert "cat/22.png: cannot be read (" in stderr
    assert list(read_index(out).failed) == ["cat/22.png"]
    before = contents(out)
    assert pack(data, out)[0] == exits.PARTIAL
    assert contents(out) == before
    picture(bad, 22)
    code, _, stderr = pack(data, out)
    assert code == 0, stderr
    index = read_index(out)
    assert index.failed == {}
    assert [shard.samples for shard in index.shards][2:] == [1]
    assert samples_of(out)["cat/22"][0].label == 0


def test_running_again_touches_nothing(folder, tmp_path):
    assert pack(folder, tmp_path)[0] == 0
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in tmp_path.iterdir()}
    code, stdout, _ = pack(folder, tmp_path, "--json", "-j", 2)
    assert (code, json.loads(stdout)["added"]) == (0, 0)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in tmp_path.iterdir()} == before


def test_new_files_go_into_new_shards(folder, packed, tmp_path):
    data, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(folder, data)
    assert pack(data, out)[0] == 0
    picture(data / "ape" / "1.png")  # a class that would come first
    picture(data / "cat" / "0.jpg")  # beside 0.png
    assert pack(data, out)[0] == 0
    index, samples = read_index(out), samples_of(out)
    assert index.classes == (*CLASSES, "ape")
    assert samples["ape/1"][0].label == 2
    assert samples["cat/0"][0].source == "cat/0.png"
    assert samples["cat/0_jpg"][0].source == "cat/0.jpg"
    tars = {name: data for name, data in packed.items() if name.endswith((".tar", ".jsonl"))}
    assert tars.items() <= contents(out).items()
    assert len(index.shards) == 3


@pytest.mark.parametrize(
    ("options", "named"),
    [(["-q", 31], "quality 60.0, not 31.0"), (["-e", 2], "effort 1, not 2"), (["--strip"], "strip"),
     (["--mirrored"], "mirrored"), (["--labels", "none"], "labels folders, not none"), (["-m", "walloc-48"], "not w")],
)  # fmt: skip
def test_other_settings_are_refused(folder, packed, tmp_path, options, named):
    for name, data in packed.items():
        (tmp_path / name).write_bytes(data)
    code, _, stderr = pack(folder, tmp_path, *options)
    assert code == exits.FAILURE
    assert named in stderr
    assert "choose another -o" in stderr
    assert contents(tmp_path) == packed


def test_shards_without_an_index_are_refused(folder, packed, tmp_path):
    (tmp_path / "shard-000000.tar").write_bytes(packed["shard-000000.tar"])
    code, _, stderr = pack(folder, tmp_path)
    assert (code, "no index.json" in stderr) == (exits.FAILURE, True)


def test_a_shard_the_index_does_not_know_yet_is_taken(folder, packed, tmp_path):
    for name, data in packed.items():
        (tmp_path / name).write_bytes(data)
    index = read_index(tmp_path)
    write_index(tmp_path, type(index)(index.settings, index.classes, index.shards[:-1]))
    (tmp_path / f".{index.shards[-1].name.replace('.tar', '.jsonl.part')}").write_text("left\n")
    assert pack(folder, tmp_path)[0] == 0
    assert contents(tmp_path) == packed


def test_two_cannot_write_at_once(folder, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    code, _, stderr = pack(folder, tmp_path)
    os.close(handle)
    assert (code, "another process" in stderr) == (exits.FAILURE, True)
    assert contents(tmp_path) == {}


def slow(path: str, settings: Settings) -> Encoded:
    """Stand in for `encode_sample`: one that takes its time, so that there is a middle to be stopped in."""
    time.sleep(0.1)
    return encode_sample(path, settings)


def start(folder: Path, out: Path, *options: str) -> subprocess.Popen:
    code = (
        "from codec.packing import pool; import test_pack; pool.encode_sample = test_pack.slow; "
        "from codec.cli.main import run; run()"
    )
    command = [sys.executable, "-c", code, "pack", str(folder), "-o", str(out), *MODEL, "--shard-size", "16k", *options]
    where = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": where})


def wait_for(out: Path, samples: int) -> None:
    """Wait until so many samples have been written."""
    while sum(path.read_bytes().count(b"\n") for path in out.glob("*.jsonl*")) < samples:
        time.sleep(0.01)


def children_of(process: subprocess.Popen) -> list[Path]:
    stats = (path / "stat" for path in Path("/proc").iterdir() if path.name.isdigit())
    found = []
    for stat in stats:
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == process.pid:
                found.append(stat.parent)
        except OSError:
            continue
    return found


def test_a_run_that_is_interrupted_and_killed_ends_as_if_it_had_not_been(folder, packed, tmp_path):
    process = start(folder, tmp_path)
    wait_for(tmp_path, 3)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == exits.INTERRUPTED, stderr
    assert b"the same command goes on from there" in stderr
    assert not list(tmp_path.glob("*.tar"))
    process = start(folder, tmp_path, "-j", "2")
    wait_for(tmp_path, 7)
    workers = children_of(process)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert read_index(tmp_path).samples < 10
    assert pack(folder, tmp_path)[0] == 0
    assert contents(tmp_path) == packed
    deadline = time.monotonic() + 60
    while any(worker.exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) >= 2
    assert not any(worker.exists() for worker in workers)  # they do not outlive who started them


def killing(path: str, settings: Settings) -> Encoded:
    """Stand in for `encode_sample`: one picture takes its process along."""
    if "killer" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    return Encoded({"lcb": path.encode()}, 1)


def light_start(threads: int) -> None:
    """Stand in for the start of a process that will not need torch."""


def test_a_file_that_kills_its_process_does_not_stop_the_others(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "encode_sample", killing)
    monkeypatch.setattr("codec.workers._start", light_start)
    data, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(folder, data)
    picture(data / "cat" / "3-killer.png")
    code, _, stderr = pack(data, out, "-j", 2)
    assert code == exits.PARTIAL
    assert f"cat/3-killer.png: {pool.DIED}" in stderr
    assert read_index(out).failed == {"cat/3-killer.png": pool.DIED}
    assert list(samples_of(out)) == [f"{CLASSES[number // 5]}/{number}" for number in range(10)]


def test_wrong_usage(folder, tmp_path):
    assert pack(folder, tmp_path / "x", "-j", 2, "--ray", "auto")[0] == exits.USAGE
    assert pack(folder, tmp_path / "x", "-m", "nothing")[0] == exits.UNKNOWN
    assert pack(folder, tmp_path / "x", "--shard-size", "many")[0] == exits.USAGE
    assert not (tmp_path / "x").exists()
    code, _, stderr = pack(tmp_path, tmp_path / "x")
    assert (code, "no pictures" in stderr) == (exits.FAILURE, True)


def test_ray_that_is_missing_is_told_with_the_command(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, stderr = pack(folder, tmp_path / "x", "--ray", "auto")
    assert code == exits.FAILURE
    assert "pip install 'codec[ray]'" in stderr


def test_help_needs_neither_torch_nor_ray():
    script = (
        "import sys\nfrom codec.cli.main import main\n"
        "try:\n    main(['pack', '--help'])\nexcept SystemExit:\n    pass\n"
        "print([name in sys.modules for name in ('torch', 'numpy', 'ray')])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "--shard-size" in result.stdout
    assert result.stdout.splitlines()[-1] == "[False, False, False]"
