"""The parts of the report that are plain HTML: heading, tables, captions, conventions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from codec.evaluation.comparison import LOW_OVERLAP, Comparison, Comparisons, is_lossless
from codec.evaluation.report.appearance import KINDS, TIMES, mebibytes, number, seconds
from codec.evaluation.results import Curve, Evaluation, Point
from codec.evaluation.scales import RATES, Scale, finite, scale_of

Pace = Callable[[Point, float | None], float | None]  # of a point, seconds -> how much is done in one
_PACES = {  # kind of signal -> what its speed is told in
    "audio": (f"{TIMES} real time", Point.times_real_time),
    "video": ("frames/s", Point.frames_a_second),
}
_TAGS = {"model": "model", "peer": "peer", "anchor": "anchor", "published": "published, not run"}


def fact(evaluation: Evaluation, label: str) -> Any:
    """Return the fact of that label in any case, or None."""
    return next((value for name, value in evaluation.facts.items() if name.lower() == label), None)


def title(evaluation: Evaluation) -> str:
    """Return the data set and how many files it has: `kodak, 24 files`."""
    data = fact(evaluation, "data")
    places = list(map(str, data)) if isinstance(data, list | tuple) else [str(data)] * bool(data)
    if len(places) > 3:
        places[2:] = [f"{len(places) - 2} more"]
    names = ", ".join(places) or "Rate and distortion"
    count = _files(evaluation)
    return f"{names}, {count} file{'s' * (count != 1)}" if count else names


def summary(evaluation: Evaluation) -> str:
    """Return one sentence on what is in the report."""
    kinds = Counter(curve.kind for curve in evaluation.curves)
    parts = [f"{kinds[kind]} {_plural(kind, kinds[kind])}" for kind in KINDS if kinds[kind]]
    metrics = ", ".join(scale_of(name).title for name in evaluation.metrics)
    failed = fact(evaluation, "failures")
    for name, value in evaluation.originals.items():
        metrics += f"; {name} of the originals {number(value, scale_of(name).digits)} %"
    note = ' <a class="bad" href="#facts">Not everything could be measured.</a>' if failed else ""
    return f"<p>{escape(', '.join(parts) or 'No curves')}. Metrics: {escape(metrics) or 'none'}.{note}</p>"


def comparisons(evaluation: Evaluation, found: Comparisons) -> str:
    """Return the BD table against the default anchor in the first metric."""
    if found.default is None:
        reasons = sorted({c.why_no_rate for c in found.cells.values() if c.why_no_rate})
        return f"<p>No two curves can be compared. {escape('; '.join(reasons))}</p>"
    name, anchor = evaluation.metrics[0], evaluation.curves[found.default]
    metric = scale_of(name)
    rows = [(curve, found.cells[name, found.default, i]) for i, curve in enumerate(evaluation.curves)]
    rows.sort(key=lambda row: (row[1].rate is None, row[1].rate or 0.0))
    body = "".join(_comparison(curve, cell, metric, curve is anchor) for curve, cell in rows)
    head = _head(("Codec", ""), ("Kind", ""), ("BD-rate %", "n"), (gain_label(metric), "n"), ("Overlap %", "n"))
    return (
        f'<div class="wide"><table id="bd"><caption>Against <b id="bd-anchor">{escape(anchor.name)}</b> at equal '
        f'<span id="bd-metric">{escape(metric.title)}</span></caption>{head}<tbody>{body}</tbody></table></div>\n'
        f'<p class="note" id="bd-missing">{escape(missing(cell for _, cell in rows))}</p>'
    )


def missing(cells: Iterable[Comparison]) -> str:
    """Return why there are numbers missing, each reason once."""
    reasons = dict.fromkeys(why for cell in cells for why in (cell.why_no_rate, cell.why_no_gain) if why)
    return f"n/a: {'; '.join(reasons)}." if reasons else ""


def gain_label(metric: Scale) -> str:
    """Return the heading of the mean difference at equal rate: `BD-PSNR dB`."""
    return f"BD-{metric.label} {metric.unit}".strip()


def points(evaluation: Evaluation) -> str:
    """Return one folded table for each curve."""
    return "\n".join(_curve(curve, evaluation.metrics, evaluation.media) for curve in evaluation.curves)


def rate_note(evaluation: Evaluation) -> str:
    """Return what the rate axis is, in a sentence."""
    formulas = {
        "image": "Bits per pixel are 8 * file size / pixels.",
        "audio": "Kilobits per second are 8 * file size / duration / 1000.",
        "video": "Bits per pixel are 8 * file size / pixels of all frames.",
    }
    return formulas[evaluation.media].replace("*", TIMES)


def conventions(evaluation: Evaluation) -> str:
    """Return how every number was obtained, the command line, and the facts."""
    notes = "".join(f"<dt>{escape(head)}</dt><dd>{escape(text)}</dd>" for head, text in evaluation.conventions.items())
    facts = "".join(f"<dt>{escape(head)}</dt><dd>{escape(_text(v))}</dd>" for head, v in evaluation.facts.items())
    return (
        f'<dl class="notes">{notes}</dl>\n<h3>Repeat it</h3><pre class="command">{escape(evaluation.command)}</pre>\n'
        f'<h3 id="facts">This run</h3><dl class="facts">{facts}</dl>'
    )


def _comparison(curve: Curve, cell: Comparison, metric: Scale, is_anchor: bool) -> str:
    low = cell.rate is not None and cell.rate_overlap < LOW_OVERLAP
    classes = " ".join(name for name, on in (("low", low), ("anchor", is_anchor)) if on)
    overlap = "" if cell.rate is None else f"{100 * cell.rate_overlap:.0f}{' low' * low}"
    return (
        f"<tr{_class(classes)}>"
        f'<th scope="row">{escape(curve.name)}</th><td>{escape(_TAGS[curve.kind])}</td>'
        f"{_delta(cell.rate, 1, cell.why_no_rate)}{_delta(cell.gain, metric.digits, cell.why_no_gain)}"
        f'<td class="n">{overlap}</td></tr>'
    )


def _delta(value: float | None, digits: int, reason: str) -> str:
    if value is None:
        return f'<td class="n"><abbr title="{escape(reason)}">n/a</abbr></td>'
    return f'<td class="n">{number(value, digits, sign=True)}</td>'


def _curve(curve: Curve, metrics: Sequence[str], media: str) -> str:
    rate, (unit, pace) = RATES[media], _PACES.get(media, ("", None))
    if not any(point.duration for point in curve.points):
        pace = None
    heads = [rate.unit, *(scale_of(name).title for name in metrics), "Encode s", "Decode s"]
    heads += [f"Encode {unit}", f"Decode {unit}"] if pace else []
    columns = [("Setting", ""), *((head, "n") for head in (*heads, "Encode MiB", "Decode MiB", "Files"))]
    body = "".join(_point(point, metrics, rate, is_lossless(curve), pace) for point in curve.points)
    kind = f"{_TAGS[curve.kind]}, {len(curve.points)} point{'s' * (len(curve.points) != 1)}"
    return (
        f"<details><summary><b>{escape(curve.name)}</b> <span>{escape(kind)}</span></summary>"
        f"<p>{escape(curve.description)}</p>"
        f'<div class="wide"><table class="points">{_head(*columns)}<tbody>{body}</tbody></table></div></details>'
    )


def _point(point: Point, metrics: Sequence[str], rate: Scale, lossless: bool, pace: Pace | None) -> str:
    values, times = [number(point.rate, rate.digits)], (point.encode_seconds, point.decode_seconds)
    for name in metrics:
        value = finite(point.metrics.get(name))
        values.append("lossless" if value is None and lossless else number(value, scale_of(name).digits))
    values += map(seconds, times)
    values += [seconds(pace(point, time)) for time in times] if pace else []
    values += [mebibytes(point.encode_peak), mebibytes(point.decode_peak), str(point.files or "n/a")]
    cells = "".join(f"<td>{value}</td>" for value in values)  # the style sheet knows that they are numbers
    return f'<tr><th scope="row">{escape(point.setting)}</th>{cells}</tr>'


def _head(*columns: tuple[str, str]) -> str:
    cells = "".join(f'<th scope="col"{_class(kind)}>{escape(label)}</th>' for label, kind in columns)
    return f"<thead><tr>{cells}</tr></thead>"


def _class(names: str) -> str:
    return f' class="{names}"' if names else ""


def _files(evaluation: Evaluation) -> int:
    stated = fact(evaluation, "files")
    if isinstance(stated, int):
        return stated
    return max((p.files for c in evaluation.curves if c.kind != "published" for p in c.points), default=0)


def _plural(kind: str, count: int) -> str:
    if kind == "published":
        return "published curve" + "s" * (count != 1)
    return {"peer": "learned peer"}.get(kind, kind) + "s" * (count != 1)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_text(inner)}" for name, inner in value.items())
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)
