"""A data set of compressed files, any sample at any time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from codec.errors import CodecError, TruncatedError
from codec.learning import sources
from codec.learning.files import Files
from codec.learning.sources import Samples, Source
from codec.learning.views import Item, Transform, View

_SPARE = 1 << 20  # bytes that are read in vain rather than by another call


class LatentDataset(Dataset):
    """Latents, symbols or bytes of compressed files; nothing is decoded to pixels or samples.

    An item is a dict of the value (named like the mode), `label` (-1 without one) and `key`. Values are, by mode,

        latents   float32 [C, h, w] of a picture, [C, frames] of sound, [T, C, h, w] of the first clip of a video
        symbols   dict of int32 tensors
        bytes     uint8 [n]

    Bytes are the entropy-coded payload alone: what surrounds it is alike in all files (signature, model), chance
    (checksums), or gives away what a network should not be told, such as the shape of the photograph. Learning from the
    bytes of files is after Horton et al., "Bytes Are All You Need" (2023, arXiv 2306.00238).

    Whatever is left to chance depends on (seed, epoch, index) alone, not on workers. Files are decoded on the CPU; a
    DataLoader asks for a batch at a time, and pictures of one size in it are decoded together.

    Args:
        source: a folder of tars (`codec pack`), a folder of .lcb files in subfolders for classes, a tar, or a list of
            tars and .lcb files.
        mode: `latents`, `symbols` or `bytes`.
        header: of bytes, the whole file.
        crop: rows and columns, or frames, of the latent grid; one number for all. Smaller ones lie among zeros.
        centre: crop the middle, for evaluation, instead of a random part.
        flip: show mirror images, of half the samples at random; needs what `codec pack --mirrored` writes beside each,
            because latents of a mirrored picture are not mirrored latents.
        classes: names to number labels by, e.g. those of the training set.
        transform: called with each item at last; returns what takes its place.
        seed: of all chance.

    Raises:
        MediaError: there are no samples.
        CorruptError: a tar or the index of tars cannot be read.
        ValueError: options do not go together, or not with the source.

    Asking for a sample that is damaged raises the error `codec.open` would, with its key and file.
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
    ) -> None:
        self._view = View(mode, header, crop, centre, flip, transform)
        self._samples = sources.find(source, classes)
        self._view.check(self._samples)
        self._reader = Sampler(self._samples, self._view, seed)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a label is a position in them."""
        return self._samples.classes

    @property
    def keys(self) -> tuple[str, ...]:
        """Name of each sample."""
        return tuple(self._samples.keys)

    @property
    def labels(self) -> torch.Tensor:
        """Label of each sample, int64 [n], -1 without one."""
        return torch.from_numpy(self._samples.labels.copy())

    def set_epoch(self, epoch: int) -> None:
        """Draw crops and flips anew; call before each epoch, as with a DistributedSampler. Reaches running workers."""
        self._reader.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """Return the items of a batch; what a DataLoader calls."""
        size = len(self)
        for index in indices:
            if not -size <= index < size:
                raise IndexError(f"sample {index} of {size}")
        numbers = [int(index) % size for index in indices]
        draws = [self._reader.draw(i) for i in numbers]
        data = [self._reader.read(i, flipped) for i, (flipped, _) in zip(numbers, draws, strict=True)]
        items = self._reader.items(numbers, data, [rng for _, rng in draws])
        for item in items:
            if isinstance(item, CodecError):
                raise item
        return items


class Sampler:
    """Reads and shows samples; what the two kinds of data set share."""

    def __init__(self, samples: Samples, view: View, seed: int) -> None:
        self._samples, self._view, self._seed = samples, view, seed
        self._files = Files()
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # so that running workers see it change

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def rng(self, *numbers: int) -> np.random.Generator:
        """Return a source of chance of this epoch, another one for other numbers."""
        return np.random.default_rng((self._seed, self.epoch, len(numbers), *numbers))

    def draw(self, index: int) -> tuple[bool, np.random.Generator | None]:
        """Return whether a sample is flipped, and the chance that is left for the rest."""
        rng = self.rng(index) if self._view.random else None
        flipped = self._view.flips(rng)
        return flipped, None if self._view.centre else rng

    def read(self, index: int, flipped: bool) -> bytes | CodecError:
        """Return the file of a sample, or why it is not there: what it lies in ends before it.

        Raises:
            MediaError: what it lies in cannot be read.
        """
        path, offset, size = self._samples.place(index, mirrored=flipped)
        if not self._samples.packed[index]:
            return self._files.read_whole(path)
        return self._whole(index, path, self._files.read(path, offset, size), size)

    def read_block(self, indices: Sequence[int], flipped: Sequence[bool]) -> list[bytes | CodecError]:
        """Return the files of neighbours, in one read if they lie in a tar and that reads little else; see `read`."""
        places = [self._samples.place(i, mirrored=f) for i, f in zip(indices, flipped, strict=True)]
        path = places[0][0]
        start, stop = min(offset for _, offset, _ in places), max(offset + size for _, offset, size in places)
        if not self._samples.packed[indices[0]] or stop - start > _SPARE + 2 * sum(size for *_, size in places):
            return [self.read(i, f) for i, f in zip(indices, flipped, strict=True)]
        data = self._files.read(path, start, stop - start)
        parts = [(data[offset - start : offset - start + size], size) for _, offset, size in places]
        return [self._whole(i, path, part, size) for i, (part, size) in zip(indices, parts, strict=True)]

    def _whole(self, index: int, path: str, data: bytes, size: int) -> bytes | CodecError:
        if len(data) == size:
            return data
        return TruncatedError(f"{self._samples.keys[index]}: {path} ends inside it; fetch the tar again")

    def items(
        self,
        indices: Sequence[int],
        data: Sequence[bytes | CodecError],
        rngs: Sequence[np.random.Generator | None],
    ) -> list[Item | CodecError]:
        """Return items of the files that were read, or why there are none."""
        samples = self._samples
        names = [f"{samples.keys[i]} in {samples.files[samples.file[i]]}" for i in indices]
        items = self._view.items(data, rngs, names)
        for i, item in zip(indices, items, strict=True):
            if not isinstance(item, CodecError):
                item |= {"label": int(samples.labels[i]), "key": samples.keys[i]}
        if self._view.transform is None:
            return items
        return [item if isinstance(item, CodecError) else self._view.transform(item) for item in items]
