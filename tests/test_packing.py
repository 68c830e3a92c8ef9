"""What `codec pack` is made of: names and labels, shards that survive their writer, processes that die."""

from __future__ import annotations

import os
import random
import signal
import tarfile
from pathlib import Path

import pytest

from codec import checkpoint
from codec.errors import CodecError, MediaError, ModelMismatchError
from codec.packing import pool
from codec.packing.encoding import Encoded, Settings, encode_sample
from codec.packing.layout import read_entries, scan
from codec.packing.shards import ShardWriter, member
from codec.packing.sources import Sample, classes_of, find_sources, folder_labels, keys_of, read_labels

from support import DATA

SETTINGS = Settings("walloc-12", checkpoint.find_model("walloc-12").digest, 60.0)


def test_keys_are_unique_and_have_no_dots():
    sources = ["__x__/a.jpg", "a.jpg", "a.png", "a_png.jpg", "b/v1.2/c.d.webp", "b/v1.2/c_d.webp", "é.png"]
    keys = keys_of(sources, {})
    assert list(keys.values()) == ["_x__/a", "a", "a_png", "a_png_jpg", "b/v1.2/c_d", "b/v1.2/c_d_webp", "é"]
    for source in sources:  # whichever of them are packed first
        assert keys_of(sources, {source: keys[source]}) == keys
    assert keys_of(["a.jpg", "a.png"], {"a.png": "a"}) == {"a.png": "a", "a.jpg": "a_jpg"}
    assert keys_of(["a.b.jpg", "a_b.jpg", "a_b_jpg.png", "a_b_jpg.jpg"], {})["a_b_jpg.jpg"] == "a_b_jpg_jpg"


def test_classes_keep_their_numbers():
    assert classes_of(["dog", "cat"], ()) == ("cat", "dog")
    assert classes_of(["dog", "ape"], ("cat", "dog")) == ("cat", "dog", "ape")
    assert classes_of(["10", "9"], ()) == ("9", "10")
    assert classes_of(["10", "9", "x"], ()) == ("10", "9", "x")


def test_labels_of_folders():
    assert folder_labels(["a/b/c.png", "d/e.png", "f.png"]) == {"a/b/c.png": "a", "d/e.png": "d"}


def test_labels_of_a_file(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text('path,label\n./a.png,"cat, black"\nb/c.png,dog\nelsewhere.png,cow\n\n')
    assert read_labels(file, ["a.png", "b/c.png"]) == {"a.png": "cat, black", "b/c.png": "dog"}
    with pytest.raises(MediaError, match=r"no label for 1 of 2 files, such as d\.png"):
        read_labels(file, ["a.png", "d.png"])
    file.write_text("a.png\n")
    with pytest.raises(MediaError, match="not path,label"):
        read_labels(file, ["a.png"])
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MediaError, match="path,label"):
        read_labels(file, ["a.png"])


def test_sources_are_what_can_be_encoded(tmp_path):
    for name in ("b/x.PNG", "a.flac", "c.mp4", "notes.txt", "old.lcb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert find_sources(tmp_path) == ["a.flac", "b/x.PNG", "c.mp4"]
    with pytest.raises(MediaError, match="no pictures"):
        find_sources(tmp_path / "nothing")


def samples_of(count: int) -> list[tuple[str, str, int | None, dict[str, bytes]]]:
    rng = random.Random(3)
    long = "f" * 120 + "/é"  # needs an extended header
    return [
        (f"{long}{i}", f"{long}{i}.png", i % 3 or None, {"lcb": rng.randbytes(rng.randrange(2000)), "mirror.lcb": b"m"})
        for i in range(count)
    ]


def write(folder: Path, samples, number: int = 0, limit: int = 20_000) -> list[str]:
    folder.mkdir(exist_ok=True)
    writer = ShardWriter(folder, number, limit)
    shards = [writer.add(*sample) for sample in samples] + [writer.finish()]
    return [shard.name for shard in shards if shard]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_are_tars_as_the_list_beside_them_says(tmp_path):
    samples = samples_of(20)
    names = write(tmp_path, samples)
    assert sorted(contents(tmp_path)) == sorted([*names, *(name.replace(".tar", ".jsonl") for name in names)])
    assert len(names) > 2
    found = []
    for name in names:
        tar = tmp_path / name
        assert tar.stat().st_size <= 20_000
        entries = read_entries(tar)
        assert [(e.key, e.label, e.members) for e in entries] == [(e.key, e.label, e.members) for e in scan(tar)]
        data = tar.read_bytes()
        for entry in entries:
            assert (entry.source, entry.label) == (entry.key + ".png", entry.label)
            read = {suffix: data[start : start + size] for suffix, (start, size) in entry.members.items()}
            read.pop("cls", None)
            found.append((entry.key, entry.source, entry.label, read))
        with tarfile.open(tar) as archive:
            assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in archive} == {(0, 0, 0, 0o644, "")}
    assert found == samples


def test_webdataset_finds_every_sample(tmp_path):
    iterators = pytest.importorskip("webdataset.tariterators")
    sources = ["__x__/a.jpg", "b/v1.2/c.d.webp", "é.png", ".hidden.png"]
    keys = list(keys_of(sources, {}).values())
    (name,) = write(tmp_path, [(key, source, 7, {"lcb": b"x"}) for key, source in zip(keys, sources, strict=True)])
    with (tmp_path / name).open("rb") as stream:
        found = list(iterators.group_by_keys(iterators.tar_file_expander([{"url": name, "stream": stream}])))
    assert [(sample["__key__"], sample["lcb"], sample["cls"]) for sample in found] == [(k, b"x", b"7") for k in keys]


def test_a_single_sample_may_exceed_the_limit(tmp_path):
    big = [(f"k{i}", f"k{i}.png", None, {"lcb": bytes(3000)}) for i in range(2)]
    assert len(write(tmp_path, big, limit=1000)) == 2


def test_members_with_data_in_whole_blocks():
    assert len(member("a.lcb", bytes(512))) == 1024
    assert len(member("a.lcb", b"")) == 512


def test_a_writer_goes_on_wherever_another_stopped(tmp_path):
    samples = samples_of(6)
    write(tmp_path / "whole", samples, limit=10**6)
    rng = random.Random(5)
    for trial in range(25):
        folder = tmp_path / str(trial)
        folder.mkdir()
        writer = ShardWriter(folder, 0, 10**6)
        for sample in samples[: rng.randrange(1, 6)]:
            writer.add(*sample)
        writer.close()
        part, lines = folder / ".shard-000000.tar.part", folder / ".shard-000000.jsonl.part"
        for path in (part, lines)[trial % 3 :]:
            os.truncate(path, rng.randrange(path.stat().st_size + 1))
        if trial % 5 == 0 and part.stat().st_size:
            damaged = bytearray(part.read_bytes())
            damaged[rng.randrange(len(damaged))] ^= 1
            part.write_bytes(damaged)
        kept = len(ShardWriter(folder, 0, 10**6).entries)
        write(folder, samples[kept:], limit=10**6)
        assert contents(folder) == contents(tmp_path / "whole")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_shard_may_be_left_at_any_step_of_its_completion(tmp_path, monkeypatch, step):
    samples = samples_of(3)
    write(tmp_path / "whole", samples)
    replace = Path.replace

    def stop(path: Path | int, *to: Path) -> None:
        if step == "replace" and path.suffix != ".part":  # the list may appear, the tar may not
            replace(path, *to)
            return
        raise KeyboardInterrupt

    folder = tmp_path / "left"
    with monkeypatch.context() as patch:
        patch.setattr(os if step == "fsync" else Path, step, stop)
        with pytest.raises(KeyboardInterrupt):
            write(folder, samples)
    assert (folder / "shard-000000.jsonl").exists() == (step == "replace")
    assert write(folder, []) == ["shard-000000.tar"]
    assert contents(folder) == contents(tmp_path / "whole")


def dying(path: str, settings: Settings) -> Encoded:
    """Stand in for `encode_sample`: what is called `killer` takes its process along, `once` the first time only."""
    marker = Path(path + ".seen")
    if "killer" in path or ("once" in path and not marker.exists()):
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return Encoded({"lcb": path.encode()})


def broken(path: str, settings: Settings) -> Encoded:
    return encode_sample(path, Settings("walloc-12", "0" * 64, 60.0))


def light_start(threads: int) -> None:
    """Stand in for the start of a process that will not need torch."""


def pooled(names: list[str], tmp_path: Path) -> dict[str, Encoded]:
    samples = [Sample(name, str(tmp_path / name), name, None) for name in names]
    results = list(pool.encode_all(samples, SETTINGS, workers=2))
    assert [sample for sample, _ in results] == samples
    return {sample.source: encoded for sample, encoded in results}


def test_a_file_that_kills_its_process_again_and_again_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr("codec.workers._start", light_start)
    monkeypatch.setattr(pool, "encode_sample", dying)
    names = [f"{i:02}" for i in range(20)]
    names[3:3], names[9:9] = ["killer"], ["once"]
    results = pooled(names, tmp_path)
    assert results.pop("killer") == Encoded(error=pool.DIED)
    assert {encoded.error for encoded in results.values()} == {""}


def test_a_wrong_model_is_no_fault_of_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "encode_sample", broken)
    monkeypatch.setattr("codec.workers._start", light_start)
    with pytest.raises(ModelMismatchError, match="install the same one"):
        pooled(["a", "b"], tmp_path)


def test_processes_that_cannot_start_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "encode_sample", dying)
    monkeypatch.setattr("codec.workers._start", dying_start)
    with pytest.raises(CodecError, match="as they start"):
        pooled(["a"], tmp_path)


def dying_start(threads: int) -> None:
    os._exit(3)


def test_reasons_do_not_depend_on_the_place(tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    assert encode_sample(str(bad), SETTINGS).error.startswith("cannot be read")
    assert encode_sample(str(tmp_path / "absent.png"), SETTINGS).error
    assert str(tmp_path) not in encode_sample(str(tmp_path / "absent.png"), SETTINGS).error
    cramped = Settings(SETTINGS.model, SETTINGS.digest, 60.0, max_pixels=10)
    assert "exceeds 10 pixels" in encode_sample(str(DATA / "gray.png"), cramped).error
