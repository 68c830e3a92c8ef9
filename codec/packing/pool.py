"""Encoding by this process, or by several on this machine, of which each may die."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack

from codec.errors import CodecError
from codec.packing.encoding import Encoded, Settings, encode_sample
from codec.packing.sources import Sample
from codec.workers import limited_threads, spawned

DIED = "its process died again and again, perhaps for lack of memory"
_AHEAD = 4  # samples a worker that may be under way or wait for an earlier one


def encode_all(samples: Sequence[Sample], settings: Settings, *, workers: int) -> Iterator[tuple[Sample, Encoded]]:
    """Yield each sample with what became of it, in order.

    Args:
        workers: processes of one thread each; 1 works in this process, which dies with a file that kills it.

    Raises:
        ModelError, UnknownSystemError, MissingPackageError: see `encode_sample`.
        CodecError: processes die before they have done anything.
    """
    if workers == 1:
        with limited_threads(1):
            for sample in samples:
                yield sample, encode_sample(sample.path, settings)
        return
    under_way: deque[tuple[Sample, Future[Encoded]]] = deque()
    left = iter(samples)
    with _Pool(min(workers, max(len(samples), 1)), settings) as pool:
        while True:
            while len(under_way) < _AHEAD * workers and (sample := next(left, None)) is not None:
                under_way.append((sample, pool.submit(sample)))
            if not under_way:
                return
            if isinstance(under_way[0][1].exception(), BrokenProcessPool):
                under_way = deque(pool.recover(under_way))
            sample, future = under_way.popleft()
            yield sample, future.result()


class _Pool:
    """Processes that are replaced when one of them has died."""

    def __init__(self, workers: int, settings: Settings) -> None:
        self._workers, self._settings = workers, settings
        self._stack = ExitStack()

    def __enter__(self) -> _Pool:
        self._start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.__exit__(*exc)

    def _start(self) -> None:
        self._pool: ProcessPoolExecutor = self._stack.enter_context(spawned(self._workers, 1))

    def _restart(self) -> None:
        self._stack.close()
        self._start()
        try:
            self._pool.submit(len, ()).result()
        except BrokenProcessPool as exc:
            raise CodecError("processes die as they start; try -j 1 to see why") from exc

    def submit(self, sample: Sample) -> Future[Encoded]:
        """Return what will become of a sample; BrokenProcessPool if a process has died."""
        try:
            return self._pool.submit(encode_sample, sample.path, self._settings)
        except BrokenProcessPool as exc:
            future: Future[Encoded] = Future()
            future.set_exception(exc)
            return future

    def recover(self, under_way: Sequence[tuple[Sample, Future[Encoded]]]) -> Iterator[tuple[Sample, Future[Encoded]]]:
        """Go on after a death: encode what was under way once more, one by one, to find out who causes it."""
        self._restart()
        for sample, future in under_way:
            if not isinstance(future.exception(), BrokenProcessPool):
                yield sample, future
                continue
            yield sample, self._alone(sample)

    def _alone(self, sample: Sample) -> Future[Encoded]:
        for _ in range(2):
            future = self.submit(sample)
            if not isinstance(future.exception(), BrokenProcessPool):
                return future
            self._restart()
        future = Future()
        future.set_result(Encoded(error=DIED))
        return future
