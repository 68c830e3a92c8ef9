"""Rows to curves: which rows count, and how they are averaged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from codec.errors import CodecError
from codec.evaluation.medium import Medium
from codec.evaluation.results import Curve, Point, Row
from codec.evaluation.runner import Prepared
from codec.evaluation.tasks import Task


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


def curves_of(selection: Selection, prepared: Sequence[Prepared], medium: Medium) -> list[Curve]:
    """Return the curves that have points, in the order they were asked for."""
    curves, comparable = [], _where_defined(selection, medium)
    for curve in prepared:
        name = curve.spec.name
        points = [
            average(setting, comparable[name, setting], medium)
            for setting in curve.spec.settings
            if (name, setting) in selection.rows
        ]
        if points:
            points.sort(key=lambda point: point.rate)
            curves.append(Curve(name, curve.kind, curve.description, tuple(points)))
    return curves


def _where_defined(selection: Selection, medium: Medium) -> dict[tuple[str, str], list[Row]]:
    """Return the rows without values of files for which another setting has none: all means are over the same files.

    PESQ, for instance, may find no speech in what one codec made of a file. A setting without any value of a metric
    has no say in it.
    """
    bare: set[tuple[str, str]] = set()  # file and metric
    for rows in selection.rows.values():
        for name in rows[0].metrics:
            absent = {row.file for row in rows if row.metrics.get(name) is None}
            if name not in medium.infinite and len(absent) < len(rows):
                bare |= {(file, name) for file in absent}

    def reduced(row: Row) -> Row:
        values = {name: None if (row.file, name) in bare else value for name, value in row.metrics.items()}
        return replace(row, metrics=values)

    return {key: [reduced(row) for row in rows] for key, rows in selection.rows.items()}


def average(setting: str, rows: Sequence[Row], medium: Medium) -> Point:
    """Return the means of the rows of one setting."""
    everywhere = [name for name in rows[0].metrics if all(name in row.metrics for row in rows)]
    means = {name: _mean([row.metrics[name] for row in rows], infinite=name in medium.infinite) for name in everywhere}
    values: dict[str, float | None] = {}
    for name in medium.columns:
        derived = medium.derived.get(name)
        measured = derived.of if derived else name
        if measured in means:
            mean = means[measured]
            values[name] = derived.convert(mean) if derived and mean is not None else mean
    durations = [medium.duration_of(row.size) for row in rows]
    frames = [row.size["frames"] for row in rows if "frames" in row.size]
    return Point(
        setting=setting,
        rate=fmean(medium.rate_of(row.bytes, row.size) for row in rows),
        metrics=values,
        encode_seconds=fmean(row.encode_seconds for row in rows),
        decode_seconds=fmean(row.decode_seconds for row in rows),
        encode_peak=max((row.encode_peak for row in rows if row.encode_peak), default=None),
        decode_peak=max((row.decode_peak for row in rows if row.decode_peak), default=None),
        files=len(rows),
        duration=None if None in durations else fmean(durations),
        frames=fmean(frames) if frames else None,
    )


def _mean(values: list[float | None], *, infinite: bool) -> float | None:
    """Return the mean of what is known.

    Args:
        infinite: None is infinity, and so is the mean; else it is "not defined" and left out.
    """
    known = [value for value in values if value is not None]
    return None if not known or (infinite and len(known) < len(values)) else fmean(known)


def originals_of(selection: Selection, task: Task | None) -> dict[str, float]:
    """Return the name of a task's metric -> its mean over the originals of the files that count."""
    rows = next(iter(selection.rows.values()))
    return {task.name: fmean(row.original for row in rows)} if task else {}


def point_metrics(curves: Iterable[Curve], medium: Medium) -> tuple[str, ...]:
    """Return the metrics that the curves run here have, in display order."""
    points = [point for curve in curves if curve.kind != "published" for point in curve.points]
    return tuple(name for name in medium.columns if any(point.metrics.get(name) is not None for point in points))
