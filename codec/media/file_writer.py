"""What writers of sound and video have in common: complete files, or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Protocol, Self

import av

from codec.errors import MediaError
from codec.media.sink import Sink


class Output(Protocol):
    """What turns samples or frames into bytes in a `Sink`."""

    def finish(self) -> None:
        """Write what is left."""

    def release(self) -> None:
        """Let go of what is held, without writing."""


class FileWriter:
    """Base of writers; a context manager that completes the file unless there was an exception.

    Class attributes:
        what: it writes, in messages.
        refusals: exceptions that mean the format cannot hold what was given.

    Instance attributes a subclass sets:
        _sink, _output: where to, and by what; there may be no output yet.
    """

    what: ClassVar[str]
    refusals: ClassVar[tuple[type[Exception], ...]] = (av.FFmpegError, ValueError)
    _sink: Sink
    _output: Output | None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def close(self) -> None:
        """Complete the file. Nothing happens after a failure or a second time."""
        if not self._sink.closed:
            with self._undone():
                self._finish()
                self._sink.close()

    def abort(self) -> None:
        """Give up: leave no file that looks complete."""
        self._sink.discard()
        if self._output is not None:
            self._output.release()

    def _finish(self) -> None:
        self._output.finish()

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Give up on any exception; turn PyAV's into MediaError."""
        try:
            yield
        except BaseException as exc:
            self.abort()
            if self._sink.error is not None:
                raise self._sink.error from None
            if isinstance(exc, self.refusals):
                raise MediaError(f"writing {self.what}: {exc}") from exc
            raise
