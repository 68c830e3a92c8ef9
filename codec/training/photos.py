"""Photographs for training: kept compressed in memory, decoded when wanted, cropped at random, never upscaled.

What a step sees depends only on the seed and the number of the step: a resumed run sees what an uninterrupted one would
have seen, and N processes see N different parts of one larger batch.
"""

from __future__ import annotations

import io
import tarfile
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from codec.errors import MediaError

SUFFIXES = {".avif", ".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"}
_AHEAD = 3  # batches prepared while the model works


class Photos:
    """Compressed photographs of some folders and WebDataset tars, with a bounded cache of decoded ones.

    Args:
        sources: folders (searched recursively), image files or `.tar` files.
        smallest: photographs with a side of fewer pixels are left out.
        cache: bytes of decoded samples to keep.

    Raises:
        MediaError: no photograph is large enough.
    """

    def __init__(self, sources: list[Path], *, smallest: int, cache: int = 4 << 30) -> None:
        self.names: list[str] = []
        self._files: list[bytes] = []
        self._room, self._cache, self._lock = cache, OrderedDict(), Lock()
        for name, data in _files(sources):
            with PIL.Image.open(io.BytesIO(data)) as image:
                if min(image.size) >= smallest:
                    self.names.append(name)
                    self._files.append(data)
        if not self.names:
            raise MediaError(f"no photographs of {smallest} pixels a side or more in {', '.join(map(str, sources))}")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return the samples of a photograph, [H, W, 3] uint8."""
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
        with PIL.Image.open(io.BytesIO(self._files[index])) as image:
            samples = np.asarray(image.convert("RGB"))
        with self._lock:
            if index not in self._cache:
                self._cache[index] = samples
                self._room -= samples.nbytes
            while self._room < 0 and len(self._cache) > 1:
                self._room += self._cache.popitem(last=False)[1].nbytes
        return samples

    def crops(self, seed: list[int], count: int, size: int, indices: list[int]) -> Tensor:
        """Return random crops, mirrored and transposed at random, [count, 3, size, size] uint8.

        Args:
            seed: what the crops depend on.
            indices: photographs to draw from.
        """
        rng = np.random.default_rng(seed)
        crops = []
        for _ in range(count):
            image = self[indices[rng.integers(len(indices))]]
            row, col = (rng.integers(n - size + 1) for n in image.shape[:2])
            crop = image[row : row + size, col : col + size]
            if rng.random() < 0.5:
                crop = crop[:, ::-1]
            if rng.random() < 0.25:
                crop = crop.transpose(1, 0, 2)
            crops.append(np.ascontiguousarray(crop.transpose(2, 0, 1)))
        return torch.from_numpy(np.stack(crops))


def samples_of(crops: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Return crops [B, 3, H, W] uint8 as float32 in -0.5..0.5 on a device."""
    return crops.to(device, non_blocking=True).float().div_(255).sub_(0.5)


def prefetched(make: Callable[[int], Tensor], start: int, stop: int, workers: int) -> Iterator[Tensor]:
    """Yield make(step) for start <= step < stop in order, made ahead by `workers` threads."""
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        pending: deque = deque()
        step = start
        try:
            while step < stop or pending:
                while step < stop and len(pending) < _AHEAD + workers:
                    pending.append(pool.submit(make, step))
                    step += 1
                yield pending.popleft().result()
        finally:
            for job in pending:
                job.cancel()


def _files(sources: list[Path]) -> Iterator[tuple[str, bytes]]:
    for source in sources:
        if source.suffix == ".tar":
            with tarfile.open(source) as archive:
                for member in archive:
                    if member.isfile() and Path(member.name).suffix.lower() in SUFFIXES:
                        yield member.name, archive.extractfile(member).read()
        elif source.is_dir():
            for path in sorted(source.rglob("*")):
                if path.suffix.lower() in SUFFIXES and path.is_file():
                    yield str(path.relative_to(source)), path.read_bytes()
        else:
            yield source.name, source.read_bytes()
