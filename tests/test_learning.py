"""Data sets of compressed files: every mode and source, crops, flips, batches, damage."""

from __future__ import annotations

import io
import logging
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import codec
from codec.errors import CorruptError, FormatError, MediaError, TruncatedError
from codec.learning import BYTE_PADDING, IterableLatentDataset, LatentDataset, collate
from codec.packing.layout import Index, Shard, read_entries, write_index
from codec.packing.shards import ShardWriter

from support import SMALL, picture_of, sound_of

CLASSES = ("cat", "dog", "eel")
SIZES = [(40, 56), (56, 40), (40, 56), (72, 48)]  # latent grids of 5x7, 7x5 and 9x6


@pytest.fixture(scope="module")
def streams() -> dict[str, tuple[int, bytes, bytes]]:
    """Key -> label, file, file of the mirrored picture."""
    made = {}
    for i in range(9):
        picture = np.roll(picture_of((*SIZES[i % len(SIZES)], 3)), 5 * i, 0)
        files = [codec.encode(p, model=SMALL, quality=30 + 5 * i) for p in (picture, picture[:, ::-1].copy())]
        made[f"{CLASSES[i % 3]}/{i:03d}"] = (i % 3, *files)
    return made


@pytest.fixture(scope="module")
def latents(streams) -> dict[str, list[torch.Tensor]]:
    """Key -> latents of the picture and of its mirror image."""
    return {key: [codec.open(data).latents() for data in files] for key, (_, *files) in streams.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, streams) -> Path:
    root = tmp_path_factory.mktemp("folder")
    for key, (_, data, mirrored) in streams.items():
        (root / key).parent.mkdir(exist_ok=True)
        (root / f"{key}.lcb").write_bytes(data)
        (root / f"{key}.mirror.lcb").write_bytes(mirrored)
    return root


@pytest.fixture(scope="module")
def shards(tmp_path_factory, streams) -> Path:
    """Two tars with their lists and index."""
    root = tmp_path_factory.mktemp("shards")
    items = list(streams.items())
    made = write_shards(root, items[:5], items[5:])
    write_index(root, Index({}, CLASSES, tuple(made)))
    return root


def write_shards(root: Path, *parts: list) -> list[Shard]:
    writer = ShardWriter(root, 0, 1 << 20)
    made = []
    for part in parts:
        for key, (label, data, mirrored) in part:
            writer.add(key, "", label, {"lcb": data, "mirror.lcb": mirrored})
        made.append(writer.finish())
    return made


def make(cls: type, source, **options):
    """An iterable data set that keeps the order, to compare it with the other kind."""
    return cls(source, **({"shuffle": False} if cls is IterableLatentDataset else {}) | options)


both = pytest.mark.parametrize("cls", [LatentDataset, IterableLatentDataset])


# --- sources -------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("kind", ["folder", "shards", "tars", "one tar"])
def test_every_source_gives_the_same_samples(cls, kind, folder, shards, streams, latents):
    tars = sorted(shards.glob("*.tar"))
    dataset = make(cls, {"folder": folder, "shards": str(shards), "tars": tars, "one tar": tars[0]}[kind])
    wanted = list(streams)[:5] if kind == "one tar" else list(streams)
    assert len(dataset) == len(wanted)
    assert dataset.classes == CLASSES
    found = (
        {item["key"]: item for item in (dataset[i] for i in range(len(dataset)))}
        if cls is LatentDataset
        else {item["key"]: item for item in dataset}
    )
    assert set(found) == set(wanted)
    for key in wanted:
        assert found[key]["label"] == streams[key][0]
        assert torch.equal(found[key]["latents"], latents[key][0])


def test_a_list_has_no_labels_unless_classes_are_named(folder, streams):
    paths = [folder / f"{key}.lcb" for key in streams]
    plain = LatentDataset(paths)
    assert plain.classes == ()
    assert plain.labels.tolist() == [-1] * len(paths)
    named = LatentDataset(paths, classes=("eel", "dog", "cat"))
    assert named.labels.tolist() == [{"eel": 0, "dog": 1, "cat": 2}[p.parent.name] for p in paths]
    assert len(LatentDataset(paths[0])) == 1


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_labels_follow_given_classes(kind, folder, shards):
    source = {"folder": folder, "shards": shards}[kind]
    dataset = LatentDataset(source, classes=("fox", *CLASSES))
    assert dataset.classes == ("fox", *CLASSES)
    assert [dataset.classes[label] for label in dataset.labels] == [key.split("/")[0] for key in dataset.keys]
    with pytest.raises(ValueError, match="is none of cat, dog"):
        LatentDataset(source, classes=("cat", "dog"))


def test_tars_of_others_are_scanned(tmp_path, streams):
    """Without list and index: labels are digits, members that are no .lcb are left alone."""
    write_shards(tmp_path, list(streams.items())[:4])
    (tmp_path / "shard-000000.jsonl").unlink()
    with tarfile.open(tmp_path / "shard-000000.tar", "a") as tar:
        member = tarfile.TarInfo("other.txt")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    dataset = LatentDataset(tmp_path)
    assert dataset.classes == ("0", "1", "2")
    assert dataset.labels.tolist() == [0, 1, 2, 0]
    assert dataset.keys == tuple(streams)[:4]


def test_what_is_not_there_is_said(tmp_path, folder):
    for source in (tmp_path, [], tmp_path / "a.lcb", [tmp_path / "a.tar"]):
        with pytest.raises(MediaError):
            LatentDataset(source)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(MediaError, match=r"neither a tar nor a \.lcb file"):
        LatentDataset([tmp_path / "a.txt"])
    dataset = LatentDataset(folder)
    assert torch.equal(dataset[-1]["latents"], dataset[len(dataset) - 1]["latents"])
    with pytest.raises(IndexError):
        dataset[len(dataset)]


# --- modes ---------------------------------------------------------------------------------------------------


@both
def test_symbols_are_those_of_the_stream(cls, shards, streams):
    for item in make(cls, shards, mode="symbols"):
        wanted = codec.open(streams[item["key"]][1]).symbols()
        assert item["symbols"].keys() == wanted.keys()
        for name, values in item["symbols"].items():
            assert values.dtype == torch.int32
            assert torch.equal(values, wanted[name])


@both
def test_bytes_are_the_payload_or_the_file(cls, shards, streams):
    for item in make(cls, shards, mode="bytes", header=True):
        assert bytes(item["bytes"].tolist()) == streams[item["key"]][1]
    for item in make(cls, shards, mode="bytes"):
        data = streams[item["key"]][1]
        payload = bytes(item["bytes"].tolist())
        assert len(payload) == codec.open(data).info.payload_bytes > 0
        assert data[:-6].endswith(payload)  # before check and checksum


def test_items_can_be_changed(folder):
    dataset = LatentDataset(folder, transform=double)
    plain = LatentDataset(folder)
    assert torch.equal(dataset[3]["latents"], 2 * plain[3]["latents"])
    assert collate([dataset[0], dataset[2]])["weight"].tolist() == [0.5, 0.5]


def double(item: dict) -> dict:
    return item | {"latents": 2 * item["latents"], "weight": 0.5}


@pytest.mark.parametrize("model", ["walloc-audio", "rvq-speech"])
def test_sound_in_every_mode(model, tmp_path):
    rate, channels = (44_100, 2) if model == "walloc-audio" else (16_000, 1)
    for i, length in enumerate((9_000, 12_345)):
        sound = sound_of(length, channels, rate)
        (tmp_path / f"{i}.lcb").write_bytes(codec.encode(sound, model=model))
    latents = [codec.open(tmp_path / f"{i}.lcb").latents() for i in range(2)]
    dataset = LatentDataset(tmp_path)
    assert all(torch.equal(dataset[i]["latents"], latents[i]) for i in range(2))
    batch = collate([dataset[0], dataset[1]])
    frames = [value.shape[1] for value in latents]
    assert batch["latents"].shape == (2, latents[0].shape[0], max(frames))
    assert batch["mask"].sum(1).tolist() == frames
    assert batch["sizes"].tolist() == [[n] for n in frames]
    middle = LatentDataset(tmp_path, crop=4, centre=True)[1]["latents"]
    start = (frames[1] - 4) // 2
    assert torch.equal(middle, latents[1][:, start : start + 4])
    symbols = LatentDataset(tmp_path, mode="symbols", crop=(4,))[1]["symbols"]
    assert all(values.shape[1] == 4 for values in symbols.values())
    assert LatentDataset(tmp_path, mode="bytes")[0]["bytes"].numel() > 0
    with pytest.raises(ValueError, match="2 sizes"):
        LatentDataset(tmp_path, crop=(4, 4))[0]


# --- crops and flips -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("crop", [3, (4, 5), (12, 5), 16])
def test_crops_lie_inside(crop, folder):
    dataset = LatentDataset(folder, crop=crop)
    rows, cols = (crop, crop) if isinstance(crop, int) else crop
    whole = LatentDataset(folder)
    places = set()
    for epoch in range(3):
        dataset.set_epoch(epoch)
        for i in range(len(dataset)):
            part, full = dataset[i]["latents"], whole[i]["latents"]
            assert part.shape == (full.shape[0], rows, cols)
            places.add((i, place_of(part, full)))
    assert len(places) > len(dataset)  # chance moves them


def place_of(part: torch.Tensor, full: torch.Tensor) -> tuple[int, int]:
    """Where a crop lies in the whole, or the whole in it, all else being zeros."""
    (r, c), (h, w) = part.shape[1:], full.shape[1:]
    for top in range(min(h - r, 0), max(h - r, 0) + 1):
        for left in range(min(w - c, 0), max(w - c, 0) + 1):
            wanted = torch.zeros_like(part)
            a, b = min(r, h), min(c, w)
            y, x = max(-top, 0), max(-left, 0)
            wanted[:, y : y + a, x : x + b] = full[:, max(top, 0) :, max(left, 0) :][:, :a, :b]
            if torch.equal(wanted, part):
                return top, left
    raise AssertionError("the crop is no part of the latents")


def test_the_centre_is_the_middle(folder):
    dataset, whole = LatentDataset(folder, crop=(3, 8), centre=True), LatentDataset(folder)
    for i in range(len(dataset)):
        h, w = whole[i]["latents"].shape[1:]
        assert place_of(dataset[i]["latents"], whole[i]["latents"]) == ((h - 3) // 2, (w - 8) // 2)


def test_symbols_are_cropped_alike(folder):
    parts, whole = LatentDataset(folder, mode="symbols", crop=3), LatentDataset(folder, mode="symbols")
    latents = LatentDataset(folder, crop=3)
    for i in range(len(parts)):
        part, full = parts[i]["symbols"]["y"], whole[i]["symbols"]["y"]
        top, left = place_of(part.permute(2, 0, 1), full.permute(2, 0, 1))
        full_latents = LatentDataset(folder)[i]["latents"]
        assert torch.equal(latents[i]["latents"], full_latents[:, top : top + 3, left : left + 3])


@both
@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_flips_are_encodings_of_the_mirror_image(cls, kind, folder, shards, latents):
    dataset = make(cls, {"folder": folder, "shards": shards}[kind], flip=True)
    seen = set()
    for epoch in range(4):
        dataset.set_epoch(epoch)
        for item in (dataset[i] for i in range(len(dataset))) if cls is LatentDataset else dataset:
            matches = [torch.equal(item["latents"], wanted) for wanted in latents[item["key"]]]
            assert sum(matches) == 1
            seen.add((item["key"], matches[1]))
    assert len({flipped for _, flipped in seen}) == 2
    assert len(seen) > len(latents)


def test_flips_need_the_mirror_images(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "dog" / "004.mirror.lcb").unlink()
    with pytest.raises(ValueError, match=r"dog/004 lacks.*codec pack --mirrored"):
        LatentDataset(tmp_path / "copy", flip=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "pixels"}, "none of latents, symbols, bytes"),
        ({"mode": "bytes", "crop": 4}, "bytes cannot be cropped"),
        ({"header": True}, "for mode 'bytes'"),
        ({"crop": 0}, "positive"),
        ({"crop": (1, 2, 3)}, "positive"),
    ],
)
@both
def test_options_that_do_not_go_together(cls, options, message, folder):
    with pytest.raises(ValueError, match=message):
        cls(folder, **options)


def test_chance_depends_on_seed_and_epoch_alone(folder):
    def draw(seed: int, epoch: int, order: list[int]) -> dict[int, torch.Tensor]:
        dataset = LatentDataset(folder, crop=3, flip=True, seed=seed)
        dataset.set_epoch(epoch)
        return {i: dataset[i]["latents"] for i in order}

    order = list(range(9))
    first = draw(1, 0, order)
    again = draw(1, 0, order[::-1])
    assert all(torch.equal(first[i], again[i]) for i in order)
    for other in (draw(1, 1, order), draw(2, 0, order)):
        assert any(not torch.equal(first[i], other[i]) for i in order)


# --- batches -------------------------------------------------------------------------------------------------


def test_latents_are_padded_and_masked(folder):
    items = [LatentDataset(folder)[i] for i in range(4)]
    batch = collate(items)
    shapes = [item["latents"].shape for item in items]
    largest = [max(shape[a] for shape in shapes) for a in range(3)]
    assert batch["latents"].shape == (4, *largest)
    assert batch["mask"].shape == (4, *largest[1:])
    assert batch["sizes"].tolist() == [list(shape[1:]) for shape in shapes]
    assert batch["label"].dtype == torch.int64
    assert batch["label"].tolist() == [item["label"] for item in items]
    assert batch["key"] == [item["key"] for item in items]
    for i, (_, h, w) in enumerate(shapes):
        assert torch.equal(batch["latents"][i, :, :h, :w], items[i]["latents"])
        assert not batch["latents"][i][:, ~batch["mask"][i]].any()
        assert batch["mask"][i, :h, :w].all()
        assert batch["mask"][i].sum() == h * w


def test_symbols_and_bytes_are_padded(folder):
    items = [LatentDataset(folder, mode="symbols")[i] for i in range(4)]
    batch = collate(items)
    for i, item in enumerate(items):
        h, w, _ = batch["sizes"]["y"][i].tolist()
        assert torch.equal(batch["symbols"]["y"][i, :h, :w], item["symbols"]["y"])
    items = [LatentDataset(folder, mode="bytes")[i] for i in range(4)]
    batch = collate(items)
    assert batch["bytes"].dtype == torch.int64
    assert batch["bytes"].shape == (4, max(batch["lengths"]))
    for i, item in enumerate(items):
        n = batch["lengths"][i]
        assert batch["bytes"][i, :n].tolist() == item["bytes"].tolist()
        assert (batch["bytes"][i, n:] == BYTE_PADDING).all()


def test_channels_must_agree():
    item = {"label": 0, "key": "a"}
    with pytest.raises(ValueError, match=r"latents of \[2, 4\] channels"):
        collate([item | {"latents": torch.zeros(2, 3, 3)}, item | {"latents": torch.zeros(4, 3, 3)}])


def test_video_is_padded_in_time_and_space():
    parts = [torch.ones(2, 3, 4, 5), torch.ones(1, 3, 6, 2)]
    batch = collate([{"latents": part, "label": -1, "key": "a"} for part in parts])
    assert batch["latents"].shape == (2, 2, 3, 6, 5)
    assert batch["sizes"].tolist() == [[2, 4, 5], [1, 6, 2]]
    assert torch.equal(batch["mask"], batch["latents"].amax(2) > 0)


# --- processes and damage ------------------------------------------------------------------------------------


@both
def test_a_data_set_survives_pickling(cls, shards):
    dataset = make(cls, shards, crop=3, flip=True)
    dataset.set_epoch(3)
    first = list(dataset) if cls is IterableLatentDataset else [dataset[i] for i in range(9)]
    copy = pickle.loads(pickle.dumps(dataset))  # with its files open
    again = list(copy) if cls is IterableLatentDataset else [copy[i] for i in range(9)]
    assert all(torch.equal(a["latents"], b["latents"]) for a, b in zip(first, again, strict=True))


def test_workers_follow_the_epoch(shards):
    """Two spawned workers that live on give what one process gives, in each epoch."""
    dataset = LatentDataset(shards, crop=3)
    options = {"batch_size": 4, "collate_fn": collate}
    loader = DataLoader(dataset, **options, num_workers=2, multiprocessing_context="spawn", persistent_workers=True)
    found = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        alone, spawned = list(DataLoader(dataset, **options)), list(loader)
        assert [b["key"] for b in alone] == [b["key"] for b in spawned]
        assert all(torch.equal(a["latents"], b["latents"]) for a, b in zip(alone, spawned, strict=True))
        found.append(torch.cat([b["latents"] for b in alone]))
    assert not torch.equal(*found)


@pytest.mark.parametrize("kind", ["folder", "shards"])
@both
def test_damage_is_named(cls, kind, tmp_path, folder, shards, streams, caplog):
    """A flipped bit in one file: its error says which; the iterable data set can leave it out."""
    victim = list(streams)[2]
    root = shutil.copytree({"folder": folder, "shards": shards}[kind], tmp_path / "copy")
    path = root / (f"{victim}.lcb" if kind == "folder" else "shard-000000.tar")
    whole = bytearray(path.read_bytes())
    data = streams[victim][1]
    whole[whole.index(data) + len(data) - 10] ^= 4
    path.write_bytes(whole)
    dataset = make(cls, root)
    with pytest.raises(CorruptError, match=f"{victim} in .*{path.name}: checksum"):
        list(dataset)
    if cls is IterableLatentDataset:
        with caplog.at_level(logging.WARNING, "codec.learning.streaming"):
            rest = [item["key"] for item in make(cls, root, skip_damaged=True)]
        assert sorted(rest) == sorted(key for key in streams if key != victim)
        assert victim in caplog.text


@both
def test_a_tar_that_was_cut_off(cls, tmp_path, shards):
    root = shutil.copytree(shards, tmp_path / "copy")
    tar = root / "shard-000001.tar"
    entry = read_entries(tar)[2]
    offset, size = entry.members["lcb"]
    tar.write_bytes(tar.read_bytes()[: offset + size - 1])
    with pytest.raises(TruncatedError, match=f"{entry.key}.*shard-000001.tar"):
        list(make(cls, root))
    tar.unlink()
    with pytest.raises(MediaError, match="is not there"):
        make(cls, root)


@pytest.mark.parametrize(
    "line", ['{"cls": [512, 1]}', '{"lcb": [-5, 10]}', '{"lcb": [0, -1]}', '{"lcb": [1, "a"]}', '{"lcb": [1]}']
)
def test_a_list_that_is_wrong(line, tmp_path, shards):
    root = shutil.copytree(shards, tmp_path / "copy")
    entry = f'{{"key": "a", "source": "", "label": 0, "members": {line}}}\n'
    (root / "shard-000000.jsonl").write_text(entry)
    with pytest.raises(CorruptError, match=r"shard-000000.*remove it to scan"):
        LatentDataset(root)


def test_a_list_that_claims_too_much(tmp_path, shards):
    """No memory is taken for what is not there."""
    root = shutil.copytree(shards, tmp_path / "copy")
    members = f'{{"lcb": [512, {1 << 50}]}}'
    (root / "shard-000000.jsonl").write_text(f'{{"key": "a", "source": "", "label": 0, "members": {members}}}\n')
    with pytest.raises(TruncatedError, match=r"a: .*shard-000000\.tar ends inside it"):
        LatentDataset(root)[0]


def test_other_errors_are_never_skipped(tmp_path, folder):
    """A model that is not installed is no damage: all files would be left out."""
    root = shutil.copytree(folder, tmp_path / "copy")
    for path in root.rglob("*.lcb"):
        parsed = codec.container.parse(path.read_bytes())
        object.__setattr__(parsed, "digest", b"none")
        path.write_bytes(parsed.pack())
    with pytest.raises(codec.errors.MissingModelError, match="cat/000 in"):
        list(make(IterableLatentDataset, root, skip_damaged=True))
    (root / "cat" / "000.lcb").write_bytes(b"no such file")
    with pytest.raises(FormatError, match="cat/000"):
        LatentDataset(root)[0]
