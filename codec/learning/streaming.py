"""A data set of compressed files read from front to back, divided among workers and ranks."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from codec.errors import CodecError, CorruptError, FormatError, TruncatedError
from codec.learning import sources
from codec.learning.dataset import Sampler
from codec.learning.sources import Source
from codec.learning.views import Item, Transform, View

_log = logging.getLogger(__name__)
_TOGETHER, _TOGETHER_BYTES = 64, 1 << 20  # files decoded at once, and their bytes, at most
_SHARES = 32  # blocks a rank has at least, for its workers to divide
_DAMAGE = (CorruptError, TruncatedError)


class _Read(NamedTuple):
    """A file that was read, or why it was not, and the chance that is left for its crop."""

    index: int
    data: bytes | CodecError
    rng: np.random.Generator | None


class IterableLatentDataset(IterableDataset):
    """Samples of compressed files, each once an epoch over all workers of all ranks, read from front to back.

    Blocks of consecutive samples are put into a random order and dealt to the ranks and then to their workers; inside a
    worker, samples pass through a buffer of undecoded files, from which they are taken at random. Ranks are those of
    `torch.distributed` or, before it is initialized, of the variables RANK and WORLD_SIZE. Their numbers of samples may
    differ by a block: `len` is that of this rank.

    Args:
        source, mode, header, crop, centre, flip, classes, transform, seed: see `LatentDataset`.
        shuffle: False: the order of the source.
        block: samples read in one go.
        buffer: undecoded files that are held to choose from.
        skip_damaged: leave out files that are damaged, with a warning of this module's logger, instead of raising.

    Raises:
        MediaError, CorruptError, ValueError: see `LatentDataset`.
    """

    def __init__(
        self,
        source: Source,
        *,
        mode: str = "latents",
        header: bool = False,
        crop: int | tuple[int, ...] | None = None,
        centre: bool = False,
        flip: bool = False,
        classes: Sequence[str] | None = None,
        transform: Transform | None = None,
        seed: int = 0,
        shuffle: bool = True,
        block: int = 64,
        buffer: int = 1024,
        skip_damaged: bool = False,
    ) -> None:
        if block < 1 or buffer < 1:
            raise ValueError(f"{block = } and {buffer = } must be positive")
        view = View(mode, header, crop, centre, flip, transform)
        self._samples = sources.find(source, classes)
        view.check(self._samples)
        self._reader = Sampler(self._samples, view, seed)
        self._shuffle, self._block, self._buffer, self._skip = shuffle, block, buffer, skip_damaged
        self._place: tuple[int, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_place": self._rank()}  # a worker process is not initialized

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a label is a position in them."""
        return self._samples.classes

    def set_epoch(self, epoch: int) -> None:
        """Draw order, crops and flips anew; call before each epoch. Reaches running workers."""
        self._reader.set_epoch(epoch)

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self._blocks())

    def __iter__(self) -> Iterator[Item]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        rank, _ = self._rank()
        files = self._files(self._blocks()[worker::workers])
        if self._shuffle:
            files = self._mixed(files, self._reader.rng(rank, worker))
        for chunk in _chunks(files):
            yield from self._show(chunk)

    def _rank(self) -> tuple[int, int]:
        """Return the rank of this process and the number of ranks."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
            return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        return self._place or (0, 1)

    def _blocks(self) -> list[tuple[int, int]]:
        """Return the blocks (first sample, end) of this rank in their order: no block spans two tars."""
        rank, ranks = self._rank()
        samples = self._samples
        size = min(self._block, max(len(samples) // (ranks * _SHARES), 1))
        tar = np.where(samples.packed, samples.file, -1)
        edges = [0, *(np.flatnonzero(np.diff(tar)) + 1).tolist(), len(samples)]
        blocks = [(i, min(i + size, b)) for a, b in pairwise(edges) for i in range(a, b, size)]
        if self._shuffle:
            blocks = [blocks[i] for i in self._reader.rng().permutation(len(blocks))]
        return blocks[rank::ranks]

    def _files(self, blocks: Iterable[tuple[int, int]]) -> Iterator[_Read]:
        for start, stop in blocks:
            indices = range(start, stop)
            draws = [self._reader.draw(i) for i in indices]
            data = self._reader.read_block(indices, [flipped for flipped, _ in draws])
            for i, part, (_, rng) in zip(indices, data, draws, strict=True):
                yield _Read(i, part, rng)

    def _mixed(self, files: Iterable[_Read], rng: np.random.Generator) -> Iterator[_Read]:
        """Yield files in another order, holding some of them."""
        held: list[_Read] = []
        for file in files:
            held.append(file)
            if len(held) > self._buffer:
                i = int(rng.integers(len(held)))
                held[i], held[-1] = held[-1], held[i]
                yield held.pop()
        yield from (held[i] for i in rng.permutation(len(held)))

    def _show(self, files: list[_Read]) -> Iterator[Item]:
        for item in self._reader.items(*map(list, zip(*files, strict=True))):
            if isinstance(item, CodecError):
                if not (self._skip and (isinstance(item, _DAMAGE) or type(item) is FormatError)):
                    raise item
                _log.warning("left out: %s", item)
            else:
                yield item


def _chunks(files: Iterable[_Read]) -> Iterator[list[_Read]]:
    """Yield files in lists to be decoded together."""
    chunk, size = [], 0
    for file in files:
        chunk.append(file)
        size += len(file.data) if isinstance(file.data, bytes) else 0
        if len(chunk) == _TOGETHER or size > _TOGETHER_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
