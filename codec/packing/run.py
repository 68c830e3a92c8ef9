"""Packing a folder: what is left to do, done by whoever encodes, written in order by one.

Every step may be the last one: what is in the folder then is what the next run goes on from, and where there is nothing
to do, nothing is touched.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codec import checkpoint
from codec.errors import CodecError, ExistsError, MediaError
from codec.limits import MAX_PIXELS
from codec.media.kinds import kind_of
from codec.packing.encoding import Encode, Encoded, Settings
from codec.packing.layout import Entry, Index, Shard, read_entries, read_index, write_index
from codec.packing.shards import ShardWriter, list_of, shard_name
from codec.packing.sources import Sample, classes_of, find_sources, folder_labels, keys_of, read_labels

FOLDERS, NONE, FILE = "folders", "none", "file"  # where labels come from
SHARD_SIZE = 256_000_000  # bytes


@dataclass(frozen=True)
class Options:
    """What is asked for, see `Settings` for the rest.

    Attributes:
        model: name or folder; None for the one used before, or else the default for the first file.
        labels: `folders`, `none`, or a file of path,label.
        shuffle: order samples by a hash of their path, so that every shard has samples of all classes.
        shard_size: bytes a tar may have, unless a single sample has more.
    """

    model: str | None = None
    quality: float = 60.0
    effort: int = 1
    strip: bool = False
    mirrored: bool = False
    labels: str = FOLDERS
    shuffle: bool = False
    shard_size: int = SHARD_SIZE
    device: str = "auto"
    max_pixels: int = MAX_PIXELS


@dataclass
class Packing:
    """A folder that is being packed into another; see `opened`.

    Attributes:
        settings: how files are encoded.
        index: what is in the folder, up to the last shard that is complete, and what has failed.
        todo: samples that are not in it yet, in the order in which they will be.
        writer: of the shards that follow.
        failed: source -> why, as of now.
    """

    output: Path
    settings: Settings
    index: Index
    todo: list[Sample]
    writer: ShardWriter
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """Number of samples in the folder, those of the shard that is being written included."""
        return self.index.samples + len(self.writer.entries)

    def run(self, encode: Encode, report: Callable[[Sample, Encoded], None]) -> None:
        """Pack what is left to do.

        Args:
            encode: does the work, here or elsewhere; the bytes that are written do not depend on it.
            report: called with each sample once it is in the folder, or has failed.

        Raises:
            ModelError, UnknownSystemError, MissingPackageError: the model cannot be used.
            OSError: the folder cannot be written.
        """
        try:
            self._save()
            with closing(encode(self.todo, self.settings)) as results:
                for sample, encoded in results:
                    self._take(sample, encoded)
                    report(sample, encoded)
            self._closed(self.writer.finish())
        finally:
            self._save()

    def _take(self, sample: Sample, encoded: Encoded) -> None:
        if encoded.error:
            self.failed[sample.source] = encoded.error
            return
        self.failed.pop(sample.source, None)
        self._closed(self.writer.add(sample.key, sample.source, sample.label, encoded.members))

    def _closed(self, shard: Shard | None) -> None:
        if shard is not None:
            self.index = replace(self.index, shards=(*self.index.shards, shard))
            self._save()

    def _save(self) -> None:
        """Write the index unless it is there."""
        self.index = replace(self.index, failed=dict(sorted(self.failed.items())))
        if read_index(self.output) != self.index:
            write_index(self.output, self.index)


@contextmanager
def opened(folder: Path, output: Path, options: Options) -> Iterator[Packing]:
    """Yield what is to be done to pack a folder into another, which no other process may do meanwhile.

    Raises:
        MediaError: there is nothing to pack, or the labels are not what they should be.
        ExistsError: what is in `output` was packed otherwise.
        CodecError: another process is at it.
        ModelError, ValueError: the model cannot be used.
        CorruptError: the index in `output` is not one.
    """
    sources = find_sources(folder)
    names = _labels(options.labels, sources)
    settings = _settings(options, read_index(output), folder, sources)
    output.mkdir(parents=True, exist_ok=True)
    with _locked(output):
        for pattern in (".index.json.*.tmp", ".shard-*.jsonl.*.tmp"):  # of a process that was killed
            for left in output.glob(pattern):
                left.unlink()
        index = _adopt(output, read_index(output))
        writer = ShardWriter(output, len(index.shards) if index else 0, options.shard_size)
        try:
            shards = index.shards if index else ()
            entries = [entry for shard in shards for entry in read_entries(output / shard.name)] + writer.entries
            kind = options.labels if options.labels in (FOLDERS, NONE) else FILE
            index = _begin(output, index, settings.identity() | {"labels": kind}, empty=not entries)
            index = replace(index, classes=classes_of(names.values(), index.classes))
            numbers = {name: number for number, name in enumerate(index.classes)}
            labels = {source: numbers[name] for source, name in names.items()}
            todo = _todo(folder, sources, labels, entries, output)
            if options.shuffle:
                todo.sort(key=lambda sample: hashlib.sha256(os.fsencode(sample.source)).digest())
            left = {sample.source for sample in todo}
            failed = {source: reason for source, reason in index.failed.items() if source in left}
            yield Packing(output, settings, index, todo, writer, failed)
        finally:
            with suppress(OSError):  # of a full disk, which has been told already
                writer.close()


def _labels(labels: str, sources: Sequence[str]) -> dict[str, str]:
    if labels == NONE:
        return {}
    return folder_labels(sources) if labels == FOLDERS else read_labels(Path(labels), sources)


def _adopt(output: Path, index: Index | None) -> Index | None:
    """Return the index with shards that were completed after it was written.

    Raises:
        ExistsError: there are shards, and no index.
    """
    if index is None:
        if any(output.glob("shard-*.tar")):
            raise ExistsError(f"{output} holds shards but no index.json, so they cannot be added to; choose another -o")
        return None
    while (tar := output / shard_name(len(index.shards))).exists():
        shard = Shard(tar.name, len(read_entries(tar)), tar.stat().st_size)
        list_of(tar).unlink(missing_ok=True)
        index = replace(index, shards=(*index.shards, shard))
    return index


def _settings(options: Options, index: Index | None, folder: Path, sources: Sequence[str]) -> Settings:
    name = options.model or (index and index.settings.get("model")) or _default_model(folder, sources)
    info = checkpoint.find_model(name)
    if options.mirrored and info.media != "image":
        raise ValueError(f"--mirrored is for pictures, and the model {info.name} is for {info.media}")
    return Settings(
        str(info.folder) if os.sep in name else info.name, info.digest, float(options.quality), options.effort,
        options.strip, options.mirrored, options.device, options.max_pixels,
    )  # fmt: skip


def _default_model(folder: Path, sources: Sequence[str]) -> str:
    """Return the default model for the first file that can be read."""
    import codec

    for source in sources:
        path = folder / source
        with suppress(CodecError, OSError):
            return codec.default_model(codec.read(path) if kind_of(path) == "audio" else path)
    raise MediaError(f"{folder}: none of its files can be read, so name a model with -m")


def _begin(output: Path, index: Index | None, settings: dict[str, Any], *, empty: bool) -> Index:
    """Return the index to go on with.

    Raises:
        ExistsError: there are samples that were encoded otherwise.
    """
    if index is None or (empty and index.settings != settings):
        return Index(settings)
    for name, value in settings.items():
        before = index.settings.get(name)
        if before != value:
            raise ExistsError(
                f"{output} was packed with {name} {before}, not {value}; go on with the options of then, "
                "or choose another -o"
            )
    return index


def _todo(
    folder: Path, sources: Sequence[str], labels: Mapping[str, int], entries: Sequence[Entry], output: Path
) -> list[Sample]:
    """Return what is not packed yet.

    Raises:
        ExistsError: something is, but with another label.
    """
    present, packed = set(sources), {entry.source: entry for entry in entries}
    for source in present & packed.keys():
        if packed[source].label != labels.get(source):
            raise ExistsError(f"{output}: {source} was packed with another label; choose another -o for the new labels")
    keys = keys_of(sources, {source: entry.key for source, entry in packed.items()})
    root = folder.absolute()
    return [
        Sample(source, str(root / source), keys[source], labels.get(source))
        for source in sources
        if source not in packed
    ]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to a folder, where the system can.

    Raises:
        CodecError: one is writing to it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(handle)
        raise CodecError(f"another process is packing into {folder}; wait for it or choose another -o") from exc
    except OSError:  # a file system that locks no folders
        pass
    try:
        yield
    finally:
        os.close(handle)
