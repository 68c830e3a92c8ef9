"""Training files, kept compressed in memory and decoded when wanted.

What a step sees depends only on the seed and the number of the step: a resumed run sees what an uninterrupted one would
have seen, and N processes see N different parts of one larger batch.
"""

from __future__ import annotations

import tarfile
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from codec.errors import MediaError

_AHEAD = 3  # batches prepared while the model works


class Dataset(ABC):
    """Compressed files of some folders and WebDataset tars, with a bounded cache of decoded ones.

    Args:
        sources: folders (searched recursively), files or `.tar` files.
        smallest: files too small for a crop of this size are left out.
        cache: bytes of decoded samples to keep.

    Raises:
        MediaError: no file is large enough.
    """

    suffixes: ClassVar[frozenset[str]]
    what: ClassVar[str]  # plural, for messages

    def __init__(self, sources: list[Path], *, smallest: int, cache: int = 4 << 30) -> None:
        self.names: list[str] = []
        self._files: list[bytes] = []
        self._room, self._cache, self._lock = cache, OrderedDict(), Lock()
        for name, data in _files(sources, self.suffixes):
            if self._fits(data, smallest):
                self.names.append(name)
                self._files.append(data)
        if not self.names:
            raise MediaError(f"no {self.what} large enough for {smallest} in {', '.join(map(str, sources))}")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return the samples of a file."""
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
        samples = self._decode(self._files[index])
        with self._lock:
            if index not in self._cache:
                self._cache[index] = samples
                self._room -= samples.nbytes
            while self._room < 0 and len(self._cache) > 1:
                self._room += self._cache.popitem(last=False)[1].nbytes
        return samples

    @abstractmethod
    def crops(self, seed: list[int], count: int, size: int, indices: list[int]) -> Tensor:
        """Return random crops of some of the files, [count, ...], in a compact type.

        Args:
            seed: what the crops depend on.
            size: of a crop, in pixels a side or samples.
        """

    @abstractmethod
    def centres(self, indices: list[int]) -> Tensor:
        """Return one fixed crop of each of some files, for validation."""

    @abstractmethod
    def signal(self, crops: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """Return crops as the float32 signal that systems are trained on, on a device."""

    @abstractmethod
    def _fits(self, data: bytes, smallest: int) -> bool:
        """Tell whether a file is large enough, without decoding all of it."""

    @abstractmethod
    def _decode(self, data: bytes) -> np.ndarray:
        """Return the samples of a file."""


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


def _files(sources: list[Path], suffixes: frozenset[str]) -> Iterator[tuple[str, bytes]]:
    for source in sources:
        if source.suffix == ".tar":
            with tarfile.open(source) as archive:
                for member in archive:
                    if member.isfile() and Path(member.name).suffix.lower() in suffixes:
                        yield member.name, archive.extractfile(member).read()
        elif source.is_dir():
            for path in sorted(source.rglob("*")):
                if path.suffix.lower() in suffixes and path.is_file():
                    yield str(path.relative_to(source)), path.read_bytes()
        else:
            yield source.name, source.read_bytes()
