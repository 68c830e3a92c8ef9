"""Hugging Face datasets and WebDataset read packed files."""

from __future__ import annotations

import builtins
import importlib
import sys

import pytest
import torch

import codec
from codec.errors import MissingPackageError
from codec.learning import webdataset as plugin
from codec.packing.shards import ShardWriter

from support import SMALL, picture_of


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [codec.encode(picture_of((24, 40, 3)), model=SMALL, quality=q) for q in (20, 60)]


def test_handler_leaves_others_alone(files):
    latents = codec.open(files[0]).latents()
    for key in (".lcb", ".mirror.lcb"):
        assert torch.equal(plugin.handler()(key, files[0]), latents)
        assert torch.equal(plugin.handler("symbols")(key, files[0])["y"], codec.open(files[0]).symbols()["y"])
    assert plugin.handler()(".cls", b"1") is None
    assert plugin.handler("symbols")(".jpg", b"1") is None
    with pytest.raises(ValueError, match="neither latents nor symbols"):
        plugin.handler("bytes")


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # it leaves tars open
def test_webdataset_round_trip(files, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    writer = ShardWriter(tmp_path, 0, 1 << 20)
    for i, data in enumerate(files):
        writer.add(str(i), "", i, {"lcb": data, "mirror.lcb": files[0]})
    source = webdataset.WebDataset(str(tmp_path / writer.finish().name), shardshuffle=False)
    found = list(source.decode(plugin.handler()).to_tuple("lcb", "mirror.lcb", "cls"))
    assert [label for *_, label in found] == [0, 1]
    for (latents, mirrored, _), data in zip(found, files, strict=True):
        assert torch.equal(latents, codec.open(data).latents())
        assert torch.equal(mirrored, codec.open(files[0]).latents())


def test_hugging_face_round_trip(files, tmp_path):
    datasets = pytest.importorskip("datasets")
    from codec.learning.hugging_face import Latents

    (tmp_path / "b.lcb").write_bytes(files[1])
    features = datasets.Features({"picture": Latents(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    table = {"picture": [files[0], str(tmp_path / "b.lcb")], "label": [0, 1]}
    datasets.Dataset.from_dict(table, features=features).save_to_disk(tmp_path / "saved")
    dataset = datasets.load_from_disk(tmp_path / "saved")
    assert dataset.features == features
    for i, data in enumerate(files):
        assert torch.equal(dataset[i]["picture"], codec.open(data).latents())
    raw = dataset.cast_column("picture", Latents(decode=False))
    assert [row["picture"] for row in raw] == files
    symbols = dataset.cast_column("picture", Latents(mode="symbols"))
    assert torch.equal(symbols[1]["picture"]["y"], codec.open(files[1]).symbols()["y"])
    plain = datasets.Dataset.from_dict({"picture": [{"bytes": files[0], "path": None}]})
    assert torch.equal(plain.cast_column("picture", Latents())[0]["picture"], codec.open(files[0]).latents())
    with pytest.raises(ValueError, match="decode=False"):
        Latents(mode="bytes")


def test_without_datasets_the_command_is_named(monkeypatch):
    name = "codec.learning.hugging_face"
    monkeypatch.delitem(sys.modules, name, raising=False)
    original = builtins.__import__

    def refuse(wanted: str, *args, **options):
        if wanted.split(".")[0] in ("datasets", "pyarrow"):
            raise ImportError(f"No module named {wanted!r}")
        return original(wanted, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingPackageError, match="pip install datasets"):
        importlib.import_module(name)
