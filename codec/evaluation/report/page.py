"""The report: one HTML file that needs no network and keeps its tables when scripts are off.

The page is a template with three holes for assets (style, script, data) and one for each section. Sections are written
here as plain HTML; the script, when it runs, adds the charts and the viewer and makes the tables sort. Whatever comes
from data is escaped where it enters, and a content security policy allows this page's one script and style by their
digest and nothing else, so that a file name cannot become code even if an escape were forgotten.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from codec.atomic import atomic_path
from codec.evaluation.comparison import LOW_OVERLAP, Comparison, Comparisons, compare_all, is_lossless
from codec.evaluation.report import films, pictures, sounds, tables
from codec.evaluation.report.appearance import DARK, LIGHT, styles
from codec.evaluation.report.asset import asset
from codec.evaluation.report.exhibits import Exhibit
from codec.evaluation.results import Evaluation, Point
from codec.evaluation.scales import RATES, finite, scale_of

_SHOWS = {"image": pictures, "audio": sounds, "video": films}


def write_report(evaluation: Evaluation, exhibits: Sequence[Exhibit], path: Path, *, anchor: str | None = None) -> None:
    """Write an evaluation as one HTML file.

    The same evaluation and exhibits give the same bytes.

    Args:
        exhibits: files to look at or to listen to; may be empty.
        anchor: name of the curve that BD-rates are first shown against; one is chosen without it.

    Raises:
        MediaError: a decoded picture does not have the size of its original.
        RateError: there is no curve called `anchor`.
    """
    page = render(evaluation, exhibits, anchor=anchor).encode()
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_bytes(page)


def render(evaluation: Evaluation, exhibits: Sequence[Exhibit], *, anchor: str | None = None) -> str:
    """Return the page as text; see `write_report`."""
    comparisons = compare_all(evaluation, anchor)
    show = _SHOWS[evaluation.media]
    style = _palette() + asset("report.css")
    script = "\n".join(asset(name) for name in ("chart.js", "tables.js", show.SCRIPT, "report.js"))
    return Template(asset("template.html")).substitute(
        title=escape(tables.title(evaluation)),
        policy=f"default-src 'none'; {show.POLICY}; style-src {_digest(style)}; script-src {_digest(script)}",
        style=style,
        summary=tables.summary(evaluation),
        comparisons=tables.comparisons(evaluation, comparisons),
        points=tables.points(evaluation),
        rate=tables.rate_note(evaluation),
        exhibits=show.section(exhibits),
        conventions=tables.conventions(evaluation),
        data=_json(_data(evaluation, comparisons)),
        script=script,
    )


def _palette() -> str:
    light, dark = (";".join(f"--c{i}:{colour}" for i, colour in enumerate(side)) for side in (LIGHT, DARK))
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(value: Any) -> str:
    """Return JSON that no parser of HTML can mistake for the end of its script element, or for a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(evaluation: Evaluation, comparisons: Comparisons) -> dict[str, Any]:
    """Return what the script draws from."""
    metrics = [scale_of(name) for name in evaluation.metrics]
    curves = [
        {
            "name": curve.name,
            "kind": curve.kind,
            "style": style,
            "lossless": is_lossless(curve),
            "points": [_point(point, evaluation.metrics) for point in curve.points],
        }
        for curve, style in zip(evaluation.curves, styles(evaluation.curves), strict=True)
    ]
    rate = RATES[evaluation.media]
    return {
        "rate": {"label": rate.label, "unit": rate.unit, "digits": rate.digits},
        "metrics": [
            {"label": m.label, "title": m.title, "unit": m.unit, "digits": m.digits, "falling": m.falling}
            | ({"original": _short(evaluation.originals[m.name])} if m.name in evaluation.originals else {})
            for m in metrics
        ],
        "curves": curves,
        "bd": _cells(evaluation, comparisons),
    }


def _point(point: Point, metrics: Sequence[str]) -> dict[str, Any]:
    values = {
        "setting": point.setting,
        "rate": _short(point.rate),
        "values": [_short(point.metrics.get(name)) for name in metrics],
        "encode": _short(point.encode_seconds),
        "decode": _short(point.decode_seconds),
        "encodePeak": point.encode_peak,
        "decodePeak": point.decode_peak,
        "duration": _short(point.duration),
        "frames": _short(point.frames),
    }
    return {name: value for name, value in values.items() if value is not None}


def _cells(evaluation: Evaluation, comparisons: Comparisons) -> dict[str, Any]:
    """Return all comparisons as `cells[metric][anchor][curve]` = [rate, overlap, gain, overlap].

    Where a number cannot be had it is null, and the place of its reason in `reasons` stands for its overlap.
    """
    reasons: dict[str, int] = {}

    def cell(comparison: Comparison) -> list[float | int | None]:
        row: list[float | int | None] = []
        for value, overlap, reason, digits in (
            (comparison.rate, comparison.rate_overlap, comparison.why_no_rate, 2),
            (comparison.gain, comparison.gain_overlap, comparison.why_no_gain, 4),
        ):
            if value is None:
                row += [None, reasons.setdefault(reason, len(reasons))]
            else:
                row += [round(value, digits), round(overlap, 3)]
        return row

    cells = [
        [[cell(comparisons.cells[name, a, c]) for c in range(len(evaluation.curves))] for a in comparisons.anchors]
        for name in evaluation.metrics
    ]
    return {
        "anchors": comparisons.anchors,
        "anchor": comparisons.default,
        "low": LOW_OVERLAP,
        "cells": cells,
        "reasons": list(reasons),
    }


def _short(value: float | None) -> float | None:
    """Return a number at six significant digits, as many as anything here is worth."""
    value = finite(value)
    return None if value is None else float(f"{value:.6g}")
