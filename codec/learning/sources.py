"""Where the samples of a data set lie: in .lcb files or in tars of them, with their labels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codec.errors import CorruptError, MediaError
from codec.packing.layout import CODED, MIRRORED, Entry, Index, read_entries, read_index

Source = str | os.PathLike | Iterable[str | os.PathLike]
NO_LABEL = -1


@dataclass(frozen=True)
class Samples:
    """The samples of a data set, in arrays, so that millions of them fit into every worker.

    Attributes:
        files: paths of .lcb files or tars.
        keys: name of each sample.
        file: [n] int32, position in `files`.
        labels: [n] int64, position in `classes`, or -1.
        spans: [n, 2, 2] int64, (offset, bytes) of the encoding and of that of the mirrored picture; offset -1 where
            there is none. In a tar both lie in `files[file]`; otherwise the second is `mirror_of` the first.
        packed: [n] bool, whether the file is a tar.
        classes: names.
    """

    files: list[str]
    keys: list[str]
    file: np.ndarray
    labels: np.ndarray
    spans: np.ndarray
    packed: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

    def place(self, i: int, *, mirrored: bool = False) -> tuple[str, int, int]:
        """Return path, offset and size of a sample, or of its mirror image."""
        path = self.files[self.file[i]]
        if mirrored and not self.packed[i]:
            path = mirror_of(path)
        offset, size = self.spans[i, int(mirrored)].tolist()
        return path, offset, size

    def unmirrored(self) -> str | None:
        """Return the key of the first sample without a mirror image, if there is one."""
        missing = np.flatnonzero(self.spans[:, 1, 0] < 0)
        return self.keys[missing[0]] if len(missing) else None


def mirror_of(path: str) -> str:
    """Return where the encoding of the mirrored picture lies beside a .lcb file."""
    return path.removesuffix(CODED) + MIRRORED


def find(source: Source, classes: Sequence[str] | None = None) -> Samples:
    """Return the samples of a source.

    Args:
        source: a folder of tars; a folder of .lcb files, at any depth; a tar; a .lcb file; several tars and .lcb files.
        classes: names whose positions the labels shall be, e.g. those of the training set. None: of tars, those of
            their index, or else the digits; of a folder, its subfolders in order of name; single files have no label.
            With names, the class of a single file is that of the folder it lies in.

    Raises:
        MediaError: there is nothing, or something else.
        CorruptError: a tar or the index of tars cannot be read.
        ValueError: a class is not among `classes`.
    """
    rows = _Rows(classes)
    if isinstance(source, str | os.PathLike):
        root = Path(source)
        if root.is_dir():
            _add_folder(rows, root)
        else:
            _add_files(rows, [root])
    else:
        _add_files(rows, [Path(path) for path in source])
    if not rows.keys:
        raise MediaError(f"there are no .lcb files in {source}; make some by `codec pack`")
    return rows.samples()


class _Rows:
    """Samples while they are being found."""

    def __init__(self, classes: Sequence[str] | None) -> None:
        self.given = None if classes is None else tuple(classes)
        self.classes: dict[str, int] = {name: i for i, name in enumerate(classes or ())}
        self.files: list[str] = []
        self.keys: list[str] = []
        self.file: list[int] = []
        self.labels: list[int] = []
        self.spans: list[tuple[tuple[int, int], tuple[int, int]]] = []
        self.packed: list[bool] = []

    def label(self, name: str, where: Path) -> int:
        """Return the label of a class, which is new unless classes were given."""
        if name not in self.classes:
            if self.given is not None:
                raise ValueError(f"{where}: class {name!r} is none of {', '.join(self.given)}")
            self.classes[name] = len(self.classes)
        return self.classes[name]

    def add_file(self, path: Path, key: str, label: int) -> None:
        mirror = Path(mirror_of(str(path)))
        spans = (0, path.stat().st_size), (0, mirror.stat().st_size) if mirror.exists() else (-1, 0)
        self._add(key, label, spans, packed=False, file=len(self.files))
        self.files.append(str(path))

    def add_tar(self, tar: Path, index: Index | None) -> None:
        entries = read_entries(tar)
        names = index.classes if index and index.classes else None
        if names is None:  # numbers are all that is known
            highest = max((e.label for e in entries if e.label is not None), default=-1)
            names = self.given or tuple(map(str, range(highest + 1)))
        labels = [self.label(name, tar) for name in names]
        for entry in entries:
            if entry.label is not None and not 0 <= entry.label < len(labels):
                raise ValueError(f"{tar}: {entry.key} has label {entry.label}, there are {len(labels)} classes")
            label = NO_LABEL if entry.label is None else labels[entry.label]
            self._add(entry.key, label, _spans(tar, entry), packed=True, file=len(self.files))
        self.files.append(str(tar))

    def _add(self, key: str, label: int, spans: tuple, *, packed: bool, file: int) -> None:
        self.keys.append(key)
        self.labels.append(label)
        self.spans.append(spans)
        self.packed.append(packed)
        self.file.append(file)

    def samples(self) -> Samples:
        return Samples(
            self.files,
            self.keys,
            np.array(self.file, np.int32),
            np.array(self.labels, np.int64),
            np.array(self.spans, np.int64),
            np.array(self.packed),
            tuple(self.classes),
        )


def _spans(tar: Path, entry: Entry) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return where the two encodings of a sample lie, as its list says.

    Raises:
        CorruptError: that is no place.
    """
    spans = entry.members.get(CODED), entry.members.get(MIRRORED, (0, 0))
    for span in spans:
        if span is None or len(span) != 2 or not all(isinstance(n, int) and n >= 0 for n in span):
            beside = tar.with_suffix(".jsonl")
            raise CorruptError(f"{beside} does not say where {entry.key} lies; remove it to scan {tar.name}")
    return spans if MIRRORED in entry.members else (spans[0], (-1, 0))


def _add_folder(rows: _Rows, root: Path) -> None:
    index = read_index(root)
    tars = [root / shard.name for shard in index.shards] if index else sorted(root.glob("*.tar"))
    if index or tars:
        for tar in tars:
            rows.add_tar(_existing(tar), index)
        return
    paths = sorted(p for p in root.rglob(f"*.{CODED}") if not p.name.endswith(f".{MIRRORED}"))
    for path in paths:
        inner = path.relative_to(root)
        label = rows.label(inner.parts[0], path) if len(inner.parts) > 1 else NO_LABEL
        rows.add_file(path, inner.with_suffix("").as_posix(), label)


def _add_files(rows: _Rows, paths: list[Path]) -> None:
    indices: dict[Path, Index | None] = {}
    for path in paths:
        if path.suffix not in (".tar", f".{CODED}"):
            raise MediaError(f"{path} is neither a tar nor a .lcb file")
        _existing(path)
        if path.suffix == ".tar":
            if path.parent not in indices:
                indices[path.parent] = read_index(path.parent)
            rows.add_tar(path, _index_of(path, indices[path.parent]))
        else:
            label = NO_LABEL if rows.given is None else rows.label(path.resolve().parent.name, path)
            rows.add_file(path, path.with_suffix("").as_posix(), label)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise MediaError(f"{path} is not there")
    return path


def _index_of(tar: Path, index: Index | None) -> Index | None:
    """Return the index of a tar's folder if it speaks of this tar."""
    return index if index and tar.name in {shard.name for shard in index.shards} else None
