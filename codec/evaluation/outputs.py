"""What an evaluation leaves in its folder beside `results.jsonl`, and the table at its end.

results.csv           one row a file and setting, as in results.jsonl, for spreadsheets
curves.csv            one row a point: the means that curves consist of; rates are `bpp`, of sound `kbps`
summary/<curve>.json  one curve in CompressAI's schema: `{"name", "description", "results": {"bpp": [...],
                      "psnr-rgb": [...], "ms-ssim-rgb": [...], "encoding_time": [...], "decoding_time": [...]}}`,
                      what `python -m compressai.utils.plot -f summary/*.json` and similar scripts read. Metrics it
                      does not know have our names. A metric that some point lacks is left out. Of sound, `kbps` and
                      `psnr` stand for the first two, and durations let times become times real time; of video,
                      `frames` let them become frames a second.
summary.json          all of these curves, what a task scores for the originals, the BD table (every curve against
                      the anchor), conventions, facts and the command line
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codec.atomic import atomic_path
from codec.evaluation.comparison import compare, compare_all
from codec.evaluation.medium import medium_called
from codec.evaluation.results import Curve, Evaluation, Row
from codec.evaluation.rows import fields_of
from codec.evaluation.scales import RATES, scale_of

_OF_COLOUR = {"psnr": "psnr-rgb", "ms-ssim": "ms-ssim-rgb"}
_COMPRESSAI = {"image": _OF_COLOUR, "video": _OF_COLOUR}  # its names for ours
_TABLE_LEAVES_OUT = (
    "ms-ssim",
    "psnr-of-mean-mse",
    "psnr-y",
    "snr",
    "si-sdr",
    "stft",
)  # near duplicates, see summary.json


def write_outputs(folder: Path, evaluation: Evaluation, rows: Sequence[Row], anchor: str | None) -> dict[str, Any]:
    """Write all of the files above and return what is in summary.json.

    Args:
        anchor: name of the curve that BD-rates are against, see `default_anchor`.
    """
    document = summarize(evaluation, anchor)
    curves = folder / "summary"
    curves.mkdir(parents=True, exist_ok=True)
    names = {f"{re.sub(r'[^A-Za-z0-9_.,=-]+', '_', curve['name'])}.json": curve for curve in document["curves"]}
    for path in curves.glob("*.json"):
        if path.name not in names:
            path.unlink()  # of an earlier run with other codecs
    for name, curve in names.items():
        _write(curves / name, _json({key: curve[key] for key in ("name", "description", "results")}))
    _write(folder / "summary.json", _json(document))
    _write(folder / "results.csv", _rows_csv(rows, evaluation.media))
    _write(folder / "curves.csv", _curves_csv(evaluation))
    return document


def default_anchor(evaluation: Evaluation) -> str | None:
    """Return the anchor with which most curves can be compared; None when no two can be."""
    chosen = compare_all(evaluation).default
    return None if chosen is None else evaluation.curves[chosen].name


def summarize(evaluation: Evaluation, anchor: str | None) -> dict[str, Any]:
    """Return what `summary.json` holds."""
    return {
        "command": evaluation.command,
        "anchor": anchor,
        "metrics": list(evaluation.metrics),
        "originals": evaluation.originals,
        "curves": [_compressai(curve, evaluation.media) for curve in evaluation.curves],
        "bd": [_delta(evaluation, anchor, curve, metric) for curve in evaluation.curves if anchor
               and curve.name != anchor for metric in evaluation.metrics],
        "conventions": evaluation.conventions,
        "facts": evaluation.facts,
    }  # fmt: skip


def _compressai(curve: Curve, media: str) -> dict[str, Any]:
    columns: dict[str, list[float | None]] = {RATES[media].name: [point.rate for point in curve.points]}
    for name in curve.points[0].metrics:
        columns[_COMPRESSAI.get(media, {}).get(name, name)] = [point.metrics.get(name) for point in curve.points]
    columns["encoding_time"] = [point.encode_seconds for point in curve.points]
    columns["decoding_time"] = [point.decode_seconds for point in curve.points]
    columns["duration"] = [point.duration for point in curve.points]
    columns["frames"] = [point.frames for point in curve.points]
    return {
        "name": curve.name,
        "description": curve.description,
        "kind": curve.kind,
        "settings": [point.setting for point in curve.points],
        "results": {name: values for name, values in columns.items() if None not in values},
    }


def _delta(evaluation: Evaluation, anchor: str, curve: Curve, metric: str) -> dict[str, Any]:
    found = compare(_named(evaluation, anchor), curve, metric)
    return {"curve": curve.name, "anchor": anchor, "metric": metric} | asdict(found)


def _named(evaluation: Evaluation, name: str) -> Curve:
    return next(curve for curve in evaluation.curves if curve.name == name)


def table(evaluation: Evaluation, anchor: str | None) -> str:
    """Return the result for people: rates, and BD-rate and gain against the anchor with their overlap.

    The scores of a task seldom rise with every point; of them the values at the lowest and the highest rate are told.
    """
    metrics = [name for name in evaluation.metrics if name not in _TABLE_LEAVES_OUT]
    reasons: dict[str, int] = {}
    unit = RATES[evaluation.media]
    lines = [["curve", "kind", unit.name, *(_heading(evaluation, name) for name in metrics)]]
    for curve in evaluation.curves:
        low, high = (f"{curve.points[end].rate:.{unit.digits - 1}f}" for end in (0, -1))
        cells = [curve.name, curve.kind, low if len(curve.points) == 1 else f"{low}..{high}"]
        for metric in metrics:
            if metric in evaluation.originals:
                cells.append(_ends(curve, metric))
            elif anchor:
                cells.append("anchor" if curve.name == anchor else _cell(evaluation, anchor, curve, metric, reasons))
            else:
                cells.append("")
        lines.append(cells)
    head = f"BD-rate and gain at equal rate against {anchor} [share of its range that both cover]" if anchor else ""
    notes = [f"({number}) {reason}" for reason, number in reasons.items()]
    return "\n".join([line for line in (head, *_aligned(lines), *notes) if line])


def _heading(evaluation: Evaluation, metric: str) -> str:
    shown, original = scale_of(metric), evaluation.originals.get(metric)
    return shown.title if original is None else f"{shown.title}, originals {original:.{shown.digits}f}"


def _ends(curve: Curve, metric: str) -> str:
    values = [point.metrics.get(metric) for point in curve.points]
    known = [f"{value:.{scale_of(metric).digits}f}" for value in values if value is not None]
    return known[0] if len(known) == 1 else f"{known[0]}..{known[-1]}" if known else ""


def _cell(evaluation: Evaluation, anchor: str, curve: Curve, metric: str, reasons: dict[str, int]) -> str:
    found, shown = compare(_named(evaluation, anchor), curve, metric), scale_of(metric)
    if found.rate is None:
        reason = found.why_no_rate.removeprefix(curve.name).lstrip(": ")  # one note for all curves of that fault
        return f"n/a ({reasons.setdefault(reason, len(reasons) + 1)})"
    gain = "" if found.gain is None else f" {found.gain:+.{shown.digits}f} {shown.unit}".rstrip()
    return f"{found.rate:+.1f} %{gain} [{100 * found.rate_overlap:.0f} %]"


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[i]) for line in lines if i < len(line)) for i in range(len(lines[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip() for line in lines]


def _rows_csv(rows: Iterable[Row], media: str) -> str:
    flat, medium = [], medium_called(media)
    for row in rows:
        fields = fields_of(row)
        measured = fields.pop("metrics")
        fields["options"] = " ".join(f"{key}={value}" for key, value in row.options.items())
        rate = None if row.error else medium.rate_of(row.bytes, row.size)
        flat.append(fields | {medium.rate.name: rate} | measured)
    return _csv(flat)


def _curves_csv(evaluation: Evaluation) -> str:
    flat = []
    for curve in evaluation.curves:
        for point in curve.points:
            fields = asdict(point)
            measured, rate = fields.pop("metrics"), fields.pop("rate")
            for name in ("duration", "frames"):
                if fields[name] is None:
                    del fields[name]
            head = {"curve": curve.name, "kind": curve.kind, "setting": fields.pop("setting")}
            flat.append(
                head | {RATES[evaluation.media].name: rate} | fields | measured | {"description": curve.description}
            )
    return _csv(flat)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def _write(path: Path, text: str) -> None:
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
