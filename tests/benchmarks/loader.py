"""Benchmark of data loading: packed latents against JPEG and WebP files of the same bytes, with the same workers.

    python tests/benchmarks/loader.py PHOTO_FOLDER --models walloc-12 waveprior --workers 2

Every loader is a DataLoader that lives on between epochs, gives batches padded to the largest, and reads one file a
sample from a tar; the JPEG and WebP loaders decode by Pillow to a float tensor. Rows marked `whole` decode our files to
pixels. An epoch of each is timed in turn, after a warm-up; only ratios between rows of one run mean anything.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import codec
from codec.learning import LatentDataset, collate
from codec.packing.layout import CODED, read_entries
from codec.packing.shards import ShardWriter

from timing import interleaved


class PixelDataset(Dataset):
    """Pictures in a tar, each decoded to float32 [3, H, W] in -0.5 ... 0.5."""

    def __init__(self, tar: Path, decode: Callable[[bytes], np.ndarray]) -> None:
        self._path, self._decode, self._file = tar, decode, None
        self._places = [entry.members[CODED] for entry in read_entries(tar)]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict:
        if self._file is None:
            self._file = self._path.open("rb")
        offset, size = self._places[index]
        self._file.seek(offset)
        samples = self._decode(self._file.read(size))
        values = torch.from_numpy(samples.transpose(2, 0, 1).copy()).float().div_(255).sub_(0.5)
        return {"latents": values, "label": 0, "key": str(index)}


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def by_codec(data: bytes) -> np.ndarray:
    return codec.decode(data, device="cpu").samples


def pack(folder: Path, files: list[bytes]) -> Path:
    """Write files as a tar in a folder of its own."""
    folder.mkdir()
    writer = ShardWriter(folder, 0, 1 << 40)
    for i, data in enumerate(files):
        writer.add(f"{i:06d}", "", 0, {CODED: data})
    return folder / writer.finish().name


def saved(picture: Image.Image, kind: str, quality: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, quality=quality, **({"method": 4} if kind == "WEBP" else {"optimize": True}))
    return out.getvalue()


def of_same_bytes(pictures: list[Image.Image], kind: str, wanted: int) -> list[bytes]:
    """Return pictures at the quality whose total comes nearest to a number of bytes."""
    low, high = 1, 100
    while low < high:  # the lowest quality that needs as many
        middle = (low + high) // 2
        if sum(len(saved(p, kind, middle)) for p in pictures) < wanted:
            low = middle + 1
        else:
            high = middle
    tried = [[saved(p, kind, q) for p in pictures] for q in {max(low - 1, 1), low}]
    return min(tried, key=lambda files: abs(sum(map(len, files)) - wanted))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", default=["walloc-12", "waveprior"])
    parser.add_argument("--quality", type=int, default=50)
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(p for p in args.folder.rglob("*") if p.suffix.lower() in {".png", ".jpg", ".webp"})
    paths = paths[:: max(len(paths) // args.pictures, 1)][: args.pictures] or sys.exit(f"no images in {args.folder}")
    pictures = [Image.open(path).convert("RGB") for path in paths]
    with tempfile.TemporaryDirectory() as temporary:
        measure(pictures, Path(temporary), args)


def measure(pictures: list[Image.Image], root: Path, args: argparse.Namespace) -> None:
    options = {"batch_size": args.batch, "num_workers": args.workers, "collate_fn": collate}
    options |= {"shuffle": True, "persistent_workers": args.workers > 0}
    loaders, sizes = {}, {}
    for model in args.models:
        coded = [codec.encode(picture, model=model, quality=args.quality) for picture in pictures]
        total = sum(map(len, coded))
        for name, files in (
            (model, coded),
            (f"jpeg, bytes of {model}", of_same_bytes(pictures, "JPEG", total)),
            (f"webp, bytes of {model}", of_same_bytes(pictures, "WEBP", total)),
        ):
            tar = pack(root / name, files)
            dataset = LatentDataset(tar) if name == model else PixelDataset(tar, by_pillow)
            loaders[name] = DataLoader(dataset, **options)
            sizes[name] = sum(map(len, files)) / len(files)
        name = f"{model}, whole"
        loaders[name] = DataLoader(PixelDataset(root / model / "shard-000000.tar", by_codec), **options)
        sizes[name] = sizes[model]
    jobs = {
        name: lambda loader=loader: [batch["latents"].shape for batch in loader] for name, loader in loaders.items()
    }
    times = interleaved(jobs, args.rounds)
    base = times[f"jpeg, bytes of {args.models[0]}"]
    print("| loader | bytes a sample | samples a second | times the first JPEG |\n| --- | --- | --- | --- |")
    for name, seconds in times.items():
        print(f"| {name} | {sizes[name]:.0f} | {len(pictures) / seconds:.0f} | {base / seconds:.2f} |")


if __name__ == "__main__":
    main()
