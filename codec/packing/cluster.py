"""Encoding on a Ray cluster, whose machines may go away while they work.

A model of one forward pass is held by actors, which Ray Data maps over the files. Where every file takes a long fit,
each is a task of Ray Core, tried again where its machine was lost.

Ray Data by itself starts a lost actor again wherever there is room, and hands it the same blocks for ever: with as many
actors as processors there is no room until the others are done, and a file that kills its process is never done. So
actors are not started again here: the map is ended, the next few files are done as tasks, which says which one is to
blame, and a new map over what is left uses the machines there are now.
"""

from __future__ import annotations

import inspect
import logging
import os
import pickle
import signal
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from codec.checkpoint import PATH_VARIABLE
from codec.errors import CodecError, MissingPackageError
from codec.packing.encoding import Encoded, Settings, encode_sample
from codec.packing.pool import DIED
from codec.packing.sources import Sample

RETRIES = 3  # of a task whose process or machine is lost
_BLOCK = 8  # files that an actor is given at once
_SUSPECTS = 32  # files that are done as tasks after an actor was lost
_AHEAD = 4  # tasks a processor that may be under way or wait for an earlier one


def find_ray() -> Any:
    """Import Ray with its data library.

    Raises:
        MissingPackageError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as exc:
        raise MissingPackageError(f"--ray needs Ray ({exc}); pip install 'codec[ray]'") from exc
    return ray


def encode_all(samples: Sequence[Sample], settings: Settings, *, address: str) -> Iterator[tuple[Sample, Encoded]]:
    """Yield each sample with what became of it, in order.

    Args:
        address: of a cluster, `auto` for the one this machine is in, `local` for one of this machine alone.

    Raises:
        MissingPackageError: Ray is not installed.
        ModelError, UnknownSystemError: see `encode_sample`; machines have another model, for instance.
        CodecError: there is no cluster, or it cannot work.
    """
    ray = find_ray()
    if not samples:
        return
    with _connected(ray, address):
        if _fits(settings):
            yield from _by_tasks(ray, samples, settings)
            return
        while samples:
            done = 0
            try:
                for result in _by_actors(ray, samples, settings):
                    yield result
                    done += 1
            except ray.exceptions.RayError as exc:
                _raise_own(exc)
            samples = samples[done:]
            yield from _by_tasks(ray, samples[:_SUSPECTS], settings)
            samples = samples[_SUSPECTS:]


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """Join a cluster, unless this process is in one already; quietly, for stdout may be somebody's data."""
    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # whose errors are reported here
    options = {"include_dashboard": False} if address == "local" else {}
    on_termination = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True, **options)
    except (ConnectionError, ValueError, RuntimeError, OSError) as exc:
        reason = " ".join(str(exc).split())
        raise CodecError(f"no Ray cluster at {address} ({reason}); start one with `ray start --head`") from exc
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_termination)  # Ray's would end this process without a word
    try:
        yield
    finally:
        ray.shutdown()


def _fits(settings: Settings) -> bool:
    """Tell whether the model is fitted to every file."""
    from codec import checkpoint

    system = checkpoint.find_model(settings.model).system
    return getattr(checkpoint.system_class(system), "fits", False)


def _raise_own(error: BaseException) -> None:
    """Raise what a worker raised on purpose, if this is what an error of Ray's is about."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CodecError):
            raise cause from None
        cause = getattr(cause, "cause", None) or cause.__cause__


def _resources(ray: Any, settings: Settings) -> tuple[int, dict[str, int]]:
    """Return how many can work at once, and what one of them takes."""
    kind = "GPU" if settings.device == "cuda" else "CPU"
    count = int(ray.cluster_resources().get(kind, 0))
    if count == 0:
        raise CodecError(f"the Ray cluster has no {kind}; add machines, or choose another --device")
    return count, {"num_cpus": 1, "num_gpus": int(kind == "GPU")}


def _prepare(models: str | None) -> None:
    """Make a process of a cluster encode as this one would: with its models, and one thread.

    (Ray could set the variable, but only by an agent that not every installation has.)
    """
    import torch

    if models is not None:
        os.environ[PATH_VARIABLE] = models
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="PIL")  # as in `codec.cli.main`


class Encoder:
    """What an actor is: it holds the model, and encodes the file a row names."""

    def __init__(self, settings: Settings, models: str | None) -> None:
        self._settings = settings
        _prepare(models)

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        return {"result": pickle.dumps(encode_sample(os.fsdecode(row["path"]), self._settings))}


def _by_actors(ray: Any, samples: Sequence[Sample], settings: Settings) -> Iterator[tuple[Sample, Encoded]]:
    """Yield what becomes of samples, by a map of Ray Data.

    Raises:
        RayError: an actor was lost, or raised something.
    """
    count, takes = _resources(ray, settings)
    block = max(min(len(samples) // (4 * count), _BLOCK), 1)
    rows = [{"path": os.fsencode(sample.path)} for sample in samples]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, of what is to change in it
        files = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // block))
        files.context.enable_progress_bars = False
        files.context.execution_options.preserve_order = True
        accepts = inspect.signature(files.map).parameters.values()
        once = {"max_restarts": 0} if any(p.kind is p.VAR_KEYWORD for p in accepts) else {}  # not from 2.64 on
        mapped = files.map(
            Encoder, fn_constructor_args=(settings, os.environ.get(PATH_VARIABLE)), concurrency=count, **takes, **once
        )
        results = iter(mapped.iter_rows())
    for sample in samples:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            row = next(results)
        yield sample, pickle.loads(row["result"])


def _by_tasks(ray: Any, samples: Sequence[Sample], settings: Settings) -> Iterator[tuple[Sample, Encoded]]:
    """Yield what becomes of samples, each a task of Ray Core."""
    count, takes = _resources(ray, settings)
    task = ray.remote(_encode).options(max_retries=RETRIES, **takes)
    models = os.environ.get(PATH_VARIABLE)
    under_way: deque[tuple[Sample, Any]] = deque()
    left = iter(samples)
    while True:
        while len(under_way) < _AHEAD * count and (sample := next(left, None)) is not None:
            under_way.append((sample, task.remote(sample.path, settings, models)))
        if not under_way:
            return
        sample, result = under_way.popleft()
        try:
            yield sample, ray.get(result)
        except ray.exceptions.RayTaskError as exc:
            _raise_own(exc)
            raise CodecError(f"{sample.source}: {' '.join(str(exc).split())[-300:]}") from exc
        except ray.exceptions.RayError:
            yield sample, Encoded(error=DIED)


def _encode(path: str, settings: Settings, models: str | None) -> Encoded:
    _prepare(models)
    return encode_sample(path, settings)
