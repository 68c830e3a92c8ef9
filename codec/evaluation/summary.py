"""Rows to curves: which rows count, and how they are averaged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from codec.errors import CodecError
from codec.evaluation.metrics import psnr_of_mse, to_db
from codec.evaluation.results import Curve, Point, Row
from codec.evaluation.runner import Prepared
from codec.rate import bits_per_pixel

POINT_METRICS = ("psnr", "psnr-of-mean-mse", "ms-ssim-db", "ms-ssim", "ssimulacra2", "lpips", "dists")  # display order
_DERIVED = {"psnr-of-mean-mse": "mse", "ms-ssim-db": "ms-ssim"}  # what each is computed from
_NO_MEAN = ("psnr", "mse")  # None is infinity here, and so is the mean; elsewhere None is "not defined" and left out


@dataclass(frozen=True)
class Selection:
    """Which rows count.

    Attributes:
        rows: (curve, setting) -> rows of the files that count, in order.
        files: names of these files, the same for every curve and setting.
        left_out: file -> why no mean has it.
        failed: (curve, setting) -> why it has no point.
    """

    rows: dict[tuple[str, str], list[Row]]
    files: list[str]
    left_out: dict[str, str]
    failed: dict[tuple[str, str], str]


def select(rows: Iterable[Row]) -> Selection:
    """Keep the rows that can be averaged so that all means are over the same files.

    A setting that failed for every file that any other setting could code is left out; of the others, only files count
    that all of them could code.

    Raises:
        CodecError: no file is left.
    """
    groups: dict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        groups[row.curve, row.setting][row.file] = row
    failed = {key: next(iter(group.values())).error or "" for key, group in groups.items()
              if all(row.error for row in group.values())}  # fmt: skip
    alive = {key: group for key, group in groups.items() if key not in failed}
    if not alive:
        raise CodecError("nothing could be measured; " + next(iter(failed.values()), "there are no rows"))
    errors: dict[str, str] = {}
    for (curve, setting), group in alive.items():
        for row in group.values():
            if row.error:
                errors.setdefault(row.file, f"{curve} {setting}: {row.error}")
    files = [file for file in next(iter(alive.values())) if file not in errors]
    if not files:
        raise CodecError(f"no file was coded by all codecs; {next(iter(errors.values()))}; evaluate them one by one")
    return Selection({key: [group[file] for file in files] for key, group in alive.items()}, files, errors, failed)


def curves_of(selection: Selection, prepared: Sequence[Prepared]) -> list[Curve]:
    """Return the curves that have points, in the order they were asked for."""
    curves = []
    for curve in prepared:
        name = curve.spec.name
        points = [
            average(setting, selection.rows[name, setting])
            for setting in curve.spec.settings
            if (name, setting) in selection.rows
        ]
        if points:
            points.sort(key=lambda point: point.bpp)
            curves.append(Curve(name, curve.kind, curve.description, tuple(points)))
    return curves


def average(setting: str, rows: Sequence[Row]) -> Point:
    """Return the means of the rows of one setting."""
    means = {name: _mean(name, [row.metrics[name] for row in rows]) for name in rows[0].metrics}
    values: dict[str, float | None] = {}
    for name in POINT_METRICS:
        if _DERIVED.get(name, name) not in means:
            continue
        mean = means[_DERIVED.get(name, name)]
        convert = {"psnr-of-mean-mse": psnr_of_mse, "ms-ssim-db": to_db}.get(name)
        values[name] = mean if convert is None or mean is None else convert(mean)
    return Point(
        setting=setting,
        bpp=fmean(bits_per_pixel(row.bytes, row.width, row.height) for row in rows),
        metrics=values,
        encode_seconds=fmean(row.encode_seconds for row in rows),
        decode_seconds=fmean(row.decode_seconds for row in rows),
        encode_peak=max((row.encode_peak for row in rows if row.encode_peak), default=None),
        decode_peak=max((row.decode_peak for row in rows if row.decode_peak), default=None),
        files=len(rows),
    )


def _mean(name: str, values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if not known or (name in _NO_MEAN and len(known) < len(values)):
        return None
    return fmean(known)


def point_metrics(curves: Iterable[Curve]) -> tuple[str, ...]:
    """Return the metrics that the curves run here have, in display order."""
    points = [point for curve in curves if curve.kind != "published" for point in curve.points]
    return tuple(name for name in POINT_METRICS if any(point.metrics.get(name) is not None for point in points))
