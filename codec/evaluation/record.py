"""What an evaluation found out about our models, kept in their `model.json` for `codec list models`."""

from __future__ import annotations

from codec import checkpoint
from codec.evaluation.comparison import compare
from codec.evaluation.results import Curve, Evaluation

METRIC = "psnr"


def record(evaluation: Evaluation) -> list[str]:
    """Write rates, PSNR and BD-rates of every model that was measured without options, and return their names.

    Curves of models at other efforts or devices are left out: a model has one set of facts. So are those of models that
    serve a task, which have no PSNR.

    Raises:
        OSError: a model's folder cannot be written.
    """
    written = []
    for curve in evaluation.curves:
        if curve.kind != "model" or ":" in curve.name or METRIC not in curve.points[0].metrics:
            continue
        info = checkpoint.find_model(curve.name)
        checkpoint.annotate(info, {"measured": _measured(evaluation, curve)})
        written.append(info.name)
    return written


def _measured(evaluation: Evaluation, curve: Curve) -> dict:
    deltas = {}
    for anchor in (other for other in evaluation.curves if other.kind == "anchor"):
        found = compare(anchor, curve, METRIC)
        if found.rate is not None:
            deltas[anchor.name] = round(found.rate, 1)
    return {
        "data": f"{', '.join(evaluation.facts['data'])}, {evaluation.facts['files']} files",
        "points": [[p.setting, round(p.rate, 4), round(p.metrics[METRIC], 2)] for p in curve.points],
        "bd_rate": deltas,
    }
