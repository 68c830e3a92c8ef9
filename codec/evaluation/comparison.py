"""Every curve against every anchor: what summary.json, the table on the terminal and the report show.

All pairs are computed here, by `codec.evaluation.bd`; the report's page holds them all, so that the anchor can be
changed while reading and no second implementation has to agree with the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codec.errors import RateError
from codec.evaluation.bd import MIN_POINTS, bd_psnr, bd_rate
from codec.evaluation.results import Curve, Evaluation
from codec.evaluation.scales import finite, scale_of

LOW_OVERLAP = 0.5  # below it a mean difference says little about the curves
_MAX_CELLS = 3000  # of about 25 bytes each in the page, which has to stay small
_ANCHOR_ORDER = ("anchor", "published", "peer", "model")


@dataclass(frozen=True)
class Comparison:
    """A curve against an anchor in one metric.

    Attributes:
        rate: BD-rate in percent, negative for fewer bits; None when it cannot be had.
        rate_overlap: share of the anchor's range of quality that both cover, 0..1.
        gain: mean difference in the metric at equal rate, positive for better; None when it cannot be had.
        gain_overlap: share of the anchor's range of log rate that both cover, 0..1.
        why_no_rate, why_no_gain: reasons for a None, else empty.
    """

    rate: float | None = None
    rate_overlap: float = 0.0
    gain: float | None = None
    gain_overlap: float = 0.0
    why_no_rate: str = ""
    why_no_gain: str = ""


@dataclass(frozen=True)
class Comparisons:
    """All pairs.

    Attributes:
        anchors: places of the curves that can be chosen as anchor.
        default: the one shown first, or None when no two curves can be compared.
        cells: (metric, place of the anchor, place of the curve) -> Comparison.
    """

    anchors: tuple[int, ...]
    default: int | None
    cells: dict[tuple[str, int, int], Comparison]


@dataclass(frozen=True)
class _Series:
    """A curve in one metric: its rates, its qualities (rising), and why it compares with no other, or nothing."""

    rates: list[float]
    qualities: list[float]
    fault: str


def compare_all(evaluation: Evaluation, anchor: str | None = None) -> Comparisons:
    """Compare all curves.

    Args:
        anchor: name of the curve to show first; without one, the anchor with which most curves can be compared.

    Raises:
        RateError: there is no curve of that name.
    """
    curves, metrics = evaluation.curves, evaluation.metrics
    names = [curve.name for curve in curves]
    if anchor is not None and anchor not in names:
        raise RateError(f"no curve is called {anchor}; the anchor is one of {', '.join(names)}")
    series = {metric: [_series(curve, metric) for curve in curves] for metric in metrics}
    usable = [i for i in range(len(curves)) if any(not series[metric][i].fault for metric in metrics)]
    usable.sort(key=lambda i: (names[i] != anchor, _ANCHOR_ORDER.index(curves[i].kind)))
    chosen = usable[: max(1, _MAX_CELLS // max(1, len(curves) * len(metrics)))]
    cells = {
        (metric, a, c): _compare(series[metric][a], series[metric][c])
        for metric in metrics
        for a in chosen
        for c in range(len(curves))
    }
    if anchor is not None and names.index(anchor) in chosen:
        return Comparisons(tuple(chosen), names.index(anchor), cells)
    return Comparisons(tuple(chosen), _most_comparable(chosen, curves, metrics, cells), cells)


def compare(anchor: Curve, curve: Curve, metric: str) -> Comparison:
    """Compare a curve with an anchor in one metric."""
    return _compare(_series(anchor, metric), _series(curve, metric))


def _compare(anchor: _Series, curve: _Series) -> Comparison:
    if fault := anchor.fault or curve.fault:
        return Comparison(why_no_rate=fault, why_no_gain=fault)
    pair = (anchor.rates, anchor.qualities, curve.rates, curve.qualities)
    rate, rate_overlap, why_no_rate = _try(bd_rate, pair)
    gain, gain_overlap, why_no_gain = _try(bd_psnr, pair)
    return Comparison(rate, rate_overlap, gain, gain_overlap, why_no_rate, why_no_gain)


def _try(function, pair) -> tuple[float | None, float, str]:
    try:
        delta = function(*pair)
    except RateError as exc:
        return None, 0.0, str(exc)
    return float(delta.value), float(delta.overlap), ""


def _series(curve: Curve, metric: str) -> _Series:
    sign = -1 if scale_of(metric).falling else 1
    points = [(p.rate, finite(p.metrics.get(metric))) for p in curve.points]
    pairs = [(rate, sign * value) for rate, value in points if value is not None and rate > 0]
    rates, qualities = [rate for rate, _ in pairs], [value for _, value in pairs]
    return _Series(rates, qualities, _fault(curve, metric, rates, qualities))


def _fault(curve: Curve, metric: str, rates: list[float], qualities: list[float]) -> str:
    if is_lossless(curve):
        return f"{curve.name} is lossless: a point, not a curve"
    if not rates:
        return f"{curve.name} has no {scale_of(metric).title}"
    if len(rates) < MIN_POINTS:
        count = f"{len(rates)} point{'s' * (len(rates) != 1)}"
        return f"{curve.name} has {count}; a curve needs at least {MIN_POINTS}, add qualities"
    return f"{curve.name}: {why}" if (why := _try(bd_rate, (rates, qualities) * 2)[2]) else ""


def _most_comparable(chosen: Sequence[int], curves, metrics, cells) -> int | None:
    if not chosen:
        return None
    counts = {a: sum(cells[metrics[0], a, c].rate is not None for c in range(len(curves))) for a in chosen}
    return max(chosen, key=lambda a: (curves[a].kind == "anchor", counts[a], -chosen.index(a)))


def is_lossless(curve: Curve) -> bool:
    """Say whether a curve is a single point without distortion."""
    if len(curve.points) != 1 or "psnr" not in curve.points[0].metrics:
        return False
    return finite(curve.points[0].metrics["psnr"]) is None
