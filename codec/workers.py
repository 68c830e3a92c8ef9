"""Processes that work beside this one, and how many threads torch, and all who ask it, use for a while."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Let torch, and all who ask it, use so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def spawned(workers: int, threads: int) -> Iterator[ProcessPoolExecutor]:
    """Yield processes of so many torch threads each; where the block raises they end at once.

    They leave Ctrl-C, which reaches all processes, to this one, and do not outlive it.
    """
    context = multiprocessing.get_context("spawn")  # a forked torch deadlocks
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, _start, (threads,))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    pool.shutdown()


def _start(threads: int) -> None:
    import torch

    threading.Thread(target=_follow_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.filterwarnings("ignore", module="PIL")  # as in `codec.cli.main`
    torch.set_num_threads(threads)


def _follow_parent() -> None:
    """End with the process that started this one, whose death would otherwise leave it waiting for work."""
    multiprocessing.parent_process().join()
    os._exit(1)
