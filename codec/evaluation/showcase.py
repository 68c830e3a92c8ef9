"""Pictures to look at: a few files as every codec decodes them, at rates that match."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from codec.evaluation.measure import Job, pixels_of
from codec.evaluation.metrics import compare
from codec.evaluation.report.pictures import Decoded, Picture
from codec.evaluation.results import Row
from codec.rate import bits_per_pixel

RATES = 3  # a picture and codec is shown at


def choose(jobs: Sequence[Job], rows: Sequence[Row], files: Sequence[str]) -> dict[str, list[Job]]:
    """Return for each file what to show of it, by curve and in rising rate.

    Of every curve, the settings nearest to a few rates spread evenly (in log rate) over the range that all curves
    reach; what is lossless looks like the original and is left out.
    """
    chosen: dict[str, list[Job]] = {}
    for file in files:
        rates: dict[str, list[tuple[float, Job]]] = {}
        for job, row in zip(jobs, rows, strict=True):
            if job.file.name == file and row.error is None and row.metrics["psnr"] is not None:
                rate = bits_per_pixel(row.bytes, row.width, row.height)
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


def decode(chosen: dict[str, list[Job]], progress: Callable[[float], None]) -> list[Picture]:
    """Code and decode again what was chosen.

    Args:
        progress: called with 1 for every picture decoded.
    """
    pictures = []
    for file, jobs in chosen.items():
        if not jobs:
            continue
        original = pixels_of(jobs[0].file.path, jobs[0].source)
        decoded = []
        for job in jobs:
            codec = job.curve.codec(job.setting)
            data = codec.encode(original)
            image = codec.decode(data)
            rate = bits_per_pixel(len(data), original.width, original.height)
            psnr = compare(original, image, ["psnr"])["psnr"]
            decoded.append(Decoded(job.curve.name, job.setting, rate, psnr, image))
            progress(1.0)
        pictures.append(Picture(file, original, decoded))
    return pictures
