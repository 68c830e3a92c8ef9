"""The iterable data set: every sample once over workers and ranks, order, what it holds."""

from __future__ import annotations

from itertools import chain, pairwise
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import codec
from codec.learning import IterableLatentDataset, collate, streaming
from codec.packing.layout import Entry, read_entries, write_entries
from codec.packing.shards import ShardWriter

from support import SMALL, picture_of

COUNTS = (37, 12, 1)  # samples of the tars


@pytest.fixture(scope="module")
def tars(tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("tars")
    data = codec.encode(picture_of((16, 24, 3)), model=SMALL)
    writer = ShardWriter(root, 0, 1 << 20)
    for number, count in enumerate(COUNTS):
        for i in range(count):
            writer.add(f"{number}-{i:02d}", "", 0, {"lcb": data, "mirror.lcb": data})
        writer.finish()
    return sorted(root.glob("*.tar"))


class Worker:
    """What `get_worker_info` tells a worker."""

    def __init__(self, number: int, workers: int) -> None:
        self.id, self.num_workers = number, workers


def keys_of(monkeypatch, dataset: IterableLatentDataset, rank: int, ranks: int, worker: int, workers: int) -> list[str]:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    monkeypatch.setattr(streaming, "get_worker_info", lambda: Worker(worker, workers))
    return [item["key"] for item in dataset]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("ranks", "workers"), [(1, 1), (2, 3), (3, 2), (4, 1)])
def test_every_sample_once_over_all_consumers(ranks, workers, shuffle, tars, monkeypatch):
    dataset = IterableLatentDataset(tars, mode="bytes", shuffle=shuffle, block=4, buffer=8)
    seen = []
    for rank in range(ranks):
        parts = [keys_of(monkeypatch, dataset, rank, ranks, worker, workers) for worker in range(workers)]
        assert sum(map(len, parts)) == len(dataset)
        seen += chain(*parts)
    assert len(seen) == sum(COUNTS)
    assert len(set(seen)) == sum(COUNTS)
    assert len(dataset) <= sum(COUNTS) // ranks + 4


def test_order_repeats_by_seed_and_epoch(tars):
    def order(seed: int, epoch: int) -> list[str]:
        dataset = IterableLatentDataset(tars, mode="bytes", seed=seed, block=4, buffer=8)
        dataset.set_epoch(epoch)
        return [item["key"] for item in dataset]

    assert order(0, 0) == order(0, 0)
    orders = [order(0, 0), order(0, 1), order(1, 0)]
    assert len(set(map(tuple, orders))) == 3
    assert len({frozenset(keys) for keys in orders}) == 1
    assert [item["key"] for item in IterableLatentDataset(tars, mode="bytes", shuffle=False)] == sorted(orders[0])


def test_neighbours_come_apart(tars):
    """Shuffling goes beyond the order of blocks: hardly any sample is followed by its neighbour."""
    keys = sorted(item["key"] for item in IterableLatentDataset(tars, mode="bytes"))
    order = [keys.index(item["key"]) for item in IterableLatentDataset(tars, mode="bytes", block=16, buffer=32)]
    assert sum(b - a == 1 for a, b in pairwise(order)) < len(keys) / 4


def test_a_block_is_one_read(tars, monkeypatch):
    reads = []
    dataset = IterableLatentDataset(tars[:1], mode="bytes", shuffle=False, block=64)
    files = dataset._reader._files
    original = files.read
    monkeypatch.setattr(files, "read", lambda *args: reads.append(args) or original(*args))
    monkeypatch.setattr(streaming, "_SHARES", 1)
    assert len(list(dataset)) == COUNTS[0]
    assert len(reads) == 1


def test_members_far_apart_are_read_alone(tars, monkeypatch):
    """What lies between two wanted members is not read when it is much."""
    monkeypatch.setattr("codec.learning.dataset._SPARE", 0)
    dataset = IterableLatentDataset(tars[:1], mode="bytes", header=True, shuffle=False)
    original = dataset._reader._files.read
    sizes = []
    monkeypatch.setattr(dataset._reader._files, "read", lambda *args: sizes.append(args[2]) or original(*args))
    items = list(dataset)
    assert sizes == [len(item["bytes"]) for item in items]


def test_two_workers_in_a_loader(tars):
    """Spawned workers share the samples of this process, whose rank they are told."""
    dataset = IterableLatentDataset(tars, crop=2)
    loader = DataLoader(dataset, 8, num_workers=2, multiprocessing_context="spawn", collate_fn=collate)
    batches = list(loader)
    keys = [key for batch in batches for key in batch["key"]]
    assert len(keys) == len(set(keys)) == len(dataset) == sum(COUNTS)
    assert all(batch["latents"].shape[2:] == (2, 2) for batch in batches)


def test_ranks_of_torch_distributed_reach_workers(tars, tmp_path, monkeypatch):
    """A worker process is not initialized, and without the variables of torchrun it must be told."""
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    dataset = IterableLatentDataset(tars)
    assert dataset._rank() == (0, 1)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    state = dataset.__getstate__()
    monkeypatch.undo()
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    worker = IterableLatentDataset.__new__(IterableLatentDataset)
    worker.__dict__.update(state)
    assert worker._rank() == (1, 3)


@pytest.mark.parametrize("options", [{"block": 0}, {"buffer": 0}])
def test_sizes_must_be_positive(options, tars):
    with pytest.raises(ValueError, match="must be positive"):
        IterableLatentDataset(tars, **options)


def test_labels_beyond_the_classes_are_refused(tmp_path, tars):
    tar = tmp_path / "0.tar"
    tar.write_bytes(tars[0].read_bytes())
    write_entries(tar, [Entry(e.key, "", 7, e.members) for e in read_entries(tar)])
    with pytest.raises(ValueError, match="label 7, there are 2 classes"):
        IterableLatentDataset(tar, classes=("cat", "dog"))
