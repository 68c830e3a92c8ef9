"""What to look at and to listen to: a few files as every codec decodes them, at rates that match."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codec.evaluation.measure import Job, signal_of
from codec.evaluation.medium import Medium
from codec.evaluation.report.exhibits import Decoded, Exhibit
from codec.evaluation.results import Row

RATES = 3  # a file and codec is shown at


@dataclass(frozen=True)
class Choice:
    """What is shown, and what was measured of it."""

    job: Job
    row: Row


def choose(jobs: Sequence[Job], rows: Sequence[Row], files: Sequence[str], medium: Medium) -> dict[str, list[Choice]]:
    """Return for each file what to show of it, by curve and in rising rate.

    Of every curve, the settings nearest to a few rates, see `_targets`; what is lossless looks like the original and is
    left out, as are files from which no signal comes back.
    """
    chosen: dict[str, list[Choice]] = {}
    for file in files:
        rates: dict[str, list[tuple[float, Choice]]] = {}
        for job, row in zip(jobs, rows, strict=True):
            if job.file.name == file and row.error is None and row.metrics.get("psnr") is not None:
                rate = medium.rate_of(row.bytes, row.size)
                rates.setdefault(job.curve.name, []).append((math.log(rate), Choice(job, row)))
        targets = _targets([[rate for rate, _ in points] for points in rates.values()])
        chosen[file] = []
        for points in rates.values():
            nearest = [min(points, key=lambda point: abs(point[0] - target)) for target in targets]
            unique = {choice.job.setting: (rate, choice) for rate, choice in nearest}
            chosen[file] += [choice for _, choice in sorted(unique.values(), key=lambda point: point[0])]
    return chosen


def _targets(curves: Sequence[Sequence[float]]) -> list[float]:
    """Return a few log rates, spread evenly over the range that all curves reach.

    Where there is none, because one curve ends before another begins, over what lies below the end of the first that
    ends: those that begin above it are then shown at the lowest rate they have.
    """
    if not curves:
        return []
    low, high = max(map(min, curves)), min(map(max, curves))
    if low > high:
        low = min(map(min, curves))
    return [low + (high - low) * i / (RATES - 1) for i in range(RATES)]


def decode(
    chosen: dict[str, list[Choice]],
    medium: Medium,
    progress: Callable[[float], None],
    kept: Mapping[tuple[str, str, str], Path],
) -> list[Exhibit]:
    """Decode again what was chosen, and code again what was not kept.

    Args:
        progress: called with 1 for every file decoded.
        kept: `Job.key` -> the coded file, if it exists.
    """
    exhibits = []
    for file, choices in chosen.items():
        if not choices:
            continue
        first = choices[0].job
        original = signal_of(medium.name, first.file.path, first.source)
        decoded = []
        for job, row in ((choice.job, choice.row) for choice in choices):
            codec = job.curve.codec(job.setting)
            path = kept.get(job.key)
            data = path.read_bytes() if path and path.exists() else codec.encode(original)
            signal = medium.excerpt(codec.decode(data))
            rate = medium.rate_of(row.bytes, row.size)
            metrics = row.metrics
            decoded.append(Decoded(job.curve.name, job.setting, rate, metrics["psnr"], signal, row.bytes, metrics))
            progress(1.0)
        exhibits.append(Exhibit(file, medium.excerpt(original), decoded))
    return exhibits
