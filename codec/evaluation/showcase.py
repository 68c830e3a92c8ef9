"""What to look at and to listen to: a few files as every codec decodes them, at rates that match."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from codec.evaluation.measure import Job, signal_of
from codec.evaluation.medium import Medium
from codec.evaluation.metrics import compare
from codec.evaluation.report.exhibits import Decoded, Exhibit
from codec.evaluation.results import Row

RATES = 3  # a file and codec is shown at


def choose(jobs: Sequence[Job], rows: Sequence[Row], files: Sequence[str], medium: Medium) -> dict[str, list[Job]]:
    """Return for each file what to show of it, by curve and in rising rate.

    Of every curve, the settings nearest to a few rates spread evenly (in log rate) over the range that all curves
    reach; what is lossless looks like the original and is left out, as are files from which no signal comes back.
    """
    chosen: dict[str, list[Job]] = {}
    for file in files:
        rates: dict[str, list[tuple[float, Job]]] = {}
        for job, row in zip(jobs, rows, strict=True):
            if job.file.name == file and row.error is None and row.metrics.get("psnr") is not None:
                rate = medium.rate_of(row.bytes, row.size)
                rates.setdefault(job.curve.name, []).append((math.log(rate), job))
        targets = _targets([[rate for rate, _ in points] for points in rates.values()])
        chosen[file] = []
        for points in rates.values():
            nearest = [min(points, key=lambda point: abs(point[0] - target)) for target in targets]
            unique = {job.setting: (rate, job) for rate, job in nearest}
            chosen[file] += [job for _, job in sorted(unique.values(), key=lambda point: point[0])]
    return chosen


def _targets(curves: Sequence[Sequence[float]]) -> list[float]:
    if not curves:
        return []
    low, high = max(map(min, curves)), min(map(max, curves))
    return [low + (high - low) * i / (RATES - 1) for i in range(RATES)]


def decode(
    chosen: dict[str, list[Job]],
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
    for file, jobs in chosen.items():
        if not jobs:
            continue
        original = signal_of(medium.name, jobs[0].file.path, jobs[0].source)
        size = medium.size_of(original)
        decoded = []
        for job in jobs:
            codec = job.curve.codec(job.setting)
            path = kept.get(job.key)
            data = path.read_bytes() if path and path.exists() else codec.encode(original)
            signal = codec.decode(data)
            psnr = compare(original, signal, ["psnr"])["psnr"]
            rate = medium.rate_of(len(data), size)
            decoded.append(Decoded(job.curve.name, job.setting, rate, psnr, medium.excerpt(signal)))
            progress(1.0)
        exhibits.append(Exhibit(file, medium.excerpt(original), decoded))
    return exhibits
