"""A folder that keeps what a long encode has found, so that an interruption loses little of it.

    OUT.lcb.fit/fit.json            what is being encoded, and how
    OUT.lcb.fit/000000.group        a finished group: symbol check 2 | length varint | times | payload
    OUT.lcb.fit/000001.safetensors  what the system saved last of the group being fitted
    OUT.lcb.fit/stream              the file as far as it goes; the output once it is complete

Every file appears whole or not at all, so a process may be killed at any moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codec.atomic import atomic_path
from codec.container import Unit
from codec.errors import CodecError, ExistsError, FormatError
from codec.fields import get_varint, put_varint

if TYPE_CHECKING:
    from torch import Tensor

_HEAD = 1 << 20  # bytes of the source that are hashed


def fingerprint(source: Path) -> dict[str, Any]:
    """Return what tells a file from others without reading all of it."""
    facts = source.stat()
    with source.open("rb") as file:
        digest = hashlib.sha256(file.read(_HEAD)).hexdigest()
    return {"size": facts.st_size, "mtime": facts.st_mtime_ns, "sha256": digest}


def folder_of(target: Path) -> Path:
    """Return the folder of the fit that makes a file."""
    return target.with_name(target.name + ".fit")


class Journal:
    """What has been found of one file so far.

    Args:
        target: the file that is being made.
        identity: JSON values that say what is encoded and how; a fit is resumed only by the same.
        resume: go on with what is there, if anything.
        force: throw away what is there unless resuming.

    Raises:
        ExistsError: there is a fit of this file, and neither `resume` nor `force`.
        CodecError: what is there was begun with another source or other settings.
    """

    def __init__(self, target: Path, identity: Mapping[str, Any], *, resume: bool = False, force: bool = False) -> None:
        self.folder = folder_of(target)
        self._identity = json.loads(json.dumps(identity))
        if self.folder.exists() and not resume:
            if not force:
                raise ExistsError(f"{self.folder} holds an unfinished encode; --resume continues it, -f starts again")
            shutil.rmtree(self.folder)
        if (self.folder / "fit.json").exists():
            self._compare(self._read(), self._identity)
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write(self._identity)

    @property
    def stream(self) -> Path:
        """Where the file may be written until it is complete."""
        return self.folder / "stream"

    @property
    def empty(self) -> bool:
        """Whether nothing would be lost with the folder."""
        return not any(path.suffix in (".group", ".safetensors") for path in self.folder.iterdir())

    def bind(self, header: bytes) -> None:
        """Note the packed parameters of the stream, or hold them to those noted.

        Raises:
            CodecError: they differ.
        """
        wanted = {"header": header.hex()}
        self._compare(wanted | self._read(), wanted)
        self._write(self._identity | wanted)

    def finished(self, number: int) -> Unit | None:
        """Return a group that is finished, or None.

        Raises:
            CodecError: its file is not what was written.
        """
        path = self.folder / f"{number:06}.group"
        if not path.exists():
            return None
        data = path.read_bytes()
        try:
            size, start = get_varint(data, 2)
        except FormatError as exc:
            raise CodecError(f"{path} is damaged; remove it and --resume") from exc
        return Unit(data[start + size :], int.from_bytes(data[:2], "little"), times=data[start : start + size])

    def finish(self, number: int, unit: Unit) -> None:
        """Keep a finished group, and forget what was saved while it was fitted."""
        data = unit.check.to_bytes(2, "little") + put_varint(len(unit.times)) + unit.times + unit.payload
        with atomic_path(self.folder / f"{number:06}.group", overwrite=True) as temporary:
            temporary.write_bytes(data)
        self._tensors(number).unlink(missing_ok=True)

    def store(self, number: int) -> TensorFile:
        """Return where the fit of a group is kept."""
        return TensorFile(self._tensors(number))

    def remove(self) -> None:
        """Forget everything."""
        shutil.rmtree(self.folder)

    def _tensors(self, number: int) -> Path:
        return self.folder / f"{number:06}.safetensors"

    def _read(self) -> dict[str, Any]:
        path = self.folder / "fit.json"
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as exc:
            raise CodecError(f"{path} cannot be read; remove {self.folder} or use -f") from exc
        if not isinstance(found, dict):
            raise CodecError(f"{path} is not what it should be; remove {self.folder} or use -f")
        return found

    def _write(self, values: Mapping[str, Any]) -> None:
        with atomic_path(self.folder / "fit.json", overwrite=True) as temporary:
            temporary.write_text(json.dumps(values, indent=1) + "\n")

    def _compare(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        other = [name for name, value in wanted.items() if found.get(name) != value]
        if other:
            raise CodecError(
                f"{self.folder} was begun with another {other[0]} ({found.get(other[0])!r}, not {wanted[other[0]]!r}); "
                "give what it was begun with, or start again with -f instead of --resume"
            )


class TensorFile:
    """A `codec.video_system.Store` in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> dict[str, Tensor] | None:
        """See `Store.load`.

        Raises:
            CodecError: the file is damaged.
        """
        import safetensors.torch

        if not self._path.exists():
            return None
        try:
            return safetensors.torch.load(self._path.read_bytes())
        except safetensors.SafetensorError as exc:
            raise CodecError(f"{self._path} is damaged; remove it and --resume") from exc

    def save(self, tensors: dict[str, Tensor]) -> None:
        """See `Store.save`."""
        import safetensors.torch

        data = safetensors.torch.save({name: value.detach().cpu().clone() for name, value in tensors.items()})
        with atomic_path(self._path, overwrite=True) as temporary, temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # hours may be in it
