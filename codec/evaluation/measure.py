"""One file at one setting: coded, decoded, compared and timed."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from codec.atomic import atomic_path
from codec.errors import MediaError
from codec.evaluation.codecs import Codec
from codec.evaluation.medium import medium_called
from codec.evaluation.metrics import compare
from codec.evaluation.results import Row
from codec.evaluation.sources import SourceFile
from codec.evaluation.spec import CurveSpec
from codec.evaluation.tasks import Task

_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_RESET_PEAK = "5"  # proc(5): reset the peak resident set size
_warmed: set[str] = set()  # curves this process has run


@dataclass(frozen=True)
class Job:
    """What one row is measured from.

    Attributes:
        source: SHA-256 of the file.
    """

    file: SourceFile
    source: str
    curve: CurveSpec
    setting: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells its row from the others of an evaluation."""
        return self.file.name, self.curve.name, self.setting


@dataclass(frozen=True)
class How:
    """How rows are measured.

    Attributes:
        media: kind of signal.
        metrics: names.
        weights: metric -> TorchScript file.
        repeat: timed runs; the median counts.
        keep: folder for coded files, under the digests that rows have; empty: they are not kept.
        task: what is done to decoded signals, as one more metric.
    """

    media: str
    metrics: tuple[str, ...]
    weights: dict[str, str] = field(default_factory=dict)
    repeat: int = 3
    keep: str = ""
    task: Task | None = None


def measure(job: Job, how: How) -> Row:
    """Return the row of a job. Whatever goes wrong is in the row: foreign codecs raise anything."""
    version, options = "", {}
    try:
        codec = job.curve.codec(job.setting)
        version, options = codec.version, dict(codec.options)
        return _measure(job, how, codec)
    except Exception as exc:
        reason = " ".join(str(exc).split()) or type(exc).__name__
        return Row(job.file.name, job.source, job.curve.name, job.setting, version, options, error=reason)


def _measure(job: Job, how: How, codec: Codec) -> Row:
    signal = signal_of(how.media, job.file.path, job.source)
    cold = job.curve.name not in _warmed
    if cold and not codec.fits:
        codec.decode(codec.encode(signal))
    data, encode_seconds, encode_peak = _timed(lambda: codec.encode(signal), 1 if codec.fits else how.repeat)
    coded = hashlib.sha256(data).hexdigest()
    if how.keep:
        _keep(data, Path(how.keep) / coded)
    if cold and codec.fits:
        codec.decode(data)
    _warmed.add(job.curve.name)
    decoded, decode_seconds, decode_peak = _timed(lambda: codec.decode(data), how.repeat)
    values = {} if codec.predicts else compare(signal, decoded, how.metrics, how.weights)
    if how.task:
        prediction = decoded if codec.predicts else how.task.predict(decoded)
        values[how.task.name] = how.task.score(prediction, job.file.path)
    return Row(
        file=job.file.name,
        source=job.source,
        curve=job.curve.name,
        setting=job.setting,
        version=codec.version,
        options=dict(codec.options),
        size=medium_called(how.media).size_of(signal),
        bytes=len(data),
        coded=coded,
        metrics=values,
        estimated_bytes=round(codec.estimate(data), 1) if codec.estimate else None,
        encode_seconds=round(encode_seconds, 6),
        decode_seconds=round(decode_seconds, 6),
        encode_peak=encode_peak,
        decode_peak=decode_peak,
        task=how.task.digest if how.task else "",
        original=_score_of_original(how.task, how.media, job.file.path, job.source) if how.task else None,
    )


@lru_cache(maxsize=1)
def _score_of_original(task: Task, media: str, path: str, digest: str) -> float:
    """Return the score of a file before it is coded, for all jobs of that file in turn."""
    return task.score(task.predict(signal_of(media, path, digest)), path)


def _keep(data: bytes, path: Path) -> None:
    """Write a coded file at once, even if another process writes the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_bytes(data)


@lru_cache(maxsize=1)
def signal_of(media: str, path: str, digest: str) -> Any:
    """Return the picture, sound or video every codec is given, without metadata.

    Args:
        digest: tells versions of the file apart.

    Raises:
        MediaError: it cannot be read.
    """
    if not digest:
        raise MediaError(f"{path}: cannot be opened")
    return medium_called(media).read(path)


def _timed(function: Callable[[], Any], repeat: int) -> tuple[Any, float, int | None]:
    """Return a function's last result, the median of its seconds, and the largest peak of resident bytes."""
    seconds, peaks = [], []
    result = None
    for _ in range(repeat):
        result = None  # before the peak is reset: the result of the run before does not count
        counting = _reset_peak()
        started = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - started)
        if counting:
            peaks.append(_peak())
    return result, statistics.median(seconds), max(peaks, default=None)


def _reset_peak() -> bool:
    """Make the peak the present; say whether this system can."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _peak() -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024  # the kernel writes kB and means KiB
