"""Parts of files read at their offsets, by as many processes as there are."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codec.errors import MediaError

_OPEN = 32  # files kept open
_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends


class Files:
    """Reads parts of files, which are opened when first read and then kept open, a few at a time.

    May be sent to other processes; each opens the files itself. Reads do not move a position that forked processes
    share, where the system can do that (`os.pread`).
    """

    def __init__(self) -> None:
        self._open: OrderedDict[str, int] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # `os` may be gone when the interpreter ends
        for descriptor in self._open.values():
            close(descriptor)

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on, fewer where the file ends.

        Raises:
            MediaError: the file cannot be read.
        """
        try:
            descriptor = self._descriptor(path)
            size = min(size, os.fstat(descriptor).st_size - offset)  # whatever a list claims
            pieces = []
            while size > 0 and (piece := _read(descriptor, offset, size)):  # the system may return less than asked for
                pieces.append(piece)
                offset, size = offset + len(piece), size - len(piece)
            return b"".join(pieces)
        except OSError as exc:
            raise _unreadable(path, exc) from exc

    def read_whole(self, path: str) -> bytes:
        """Return a file, which is not kept open.

        Raises:
            MediaError: it cannot be read.
        """
        try:
            return Path(path).read_bytes()
        except OSError as exc:
            raise _unreadable(path, exc) from exc

    def _descriptor(self, path: str) -> int:
        descriptor = self._open.get(path)
        if descriptor is None:
            descriptor = self._open[path] = os.open(path, os.O_RDONLY | _BINARY)
            if len(self._open) > _OPEN:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(path)
        return descriptor


def _read(descriptor: int, offset: int, size: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, size)


def _unreadable(path: str, exc: OSError) -> MediaError:
    return MediaError(f"{path} cannot be read ({exc.strerror}); is it still where it was?")
