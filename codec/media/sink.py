"""Where FFmpeg's muxers write to: a path or a Python file, whose errors are kept and which can be thrown away."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


class Sink:
    """A path or Python file as it is written, from its current position on; once closed it takes nothing more.

    FFmpeg's muxer writes a trailer whatever happened; after `discard` it goes nowhere.
    """

    def __init__(self, file: BinaryIO | str | os.PathLike) -> None:
        self.error: BaseException | None = None
        self.closed = False
        self._path = Path(file) if isinstance(file, str | os.PathLike) else None
        self._file = self._path.open("wb") if self._path else file
        self._seekable = bool(self._file.seekable()) if hasattr(self._file, "seekable") else False
        self._start = self._file.tell() if self._seekable else 0

    def seekable(self) -> bool:
        return self._seekable

    def write(self, data: bytes) -> int:
        with self._kept():
            rest = b"" if self.closed else data
            while rest:  # unbuffered files may take less than they are given
                taken = self._file.write(rest)
                if taken == 0:
                    raise OSError("the file takes no more")
                rest = b"" if taken is None else rest[taken:]
            return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        with self._kept():
            if self.closed:
                return 0
            return self._file.seek(offset + (self._start if whence == 0 else 0), whence) - self._start

    def tell(self) -> int:
        with self._kept():
            return 0 if self.closed else self._file.tell() - self._start

    def close(self) -> None:
        if hasattr(self._file, "flush"):
            self._file.flush()
        self.closed = True
        if self._path:
            self._file.close()

    def discard(self) -> None:
        if self.closed:
            return
        self.closed = True
        quiet = suppress(OSError, ValueError)  # people should be told what went wrong before this
        with quiet:
            if self._seekable:
                self._file.seek(self._start)
                self._file.truncate()
        if self._path:
            with quiet:
                self._file.close()
            with quiet:
                if self._path.is_file():  # a named pipe stays
                    self._path.unlink()

    @contextmanager
    def _kept(self):
        """Keep an exception, Ctrl-C included, which FFmpeg would lose."""
        try:
            yield
        except BaseException as exc:
            self.error = exc
            raise OSError(f"{type(exc).__name__}: {exc}") from exc
