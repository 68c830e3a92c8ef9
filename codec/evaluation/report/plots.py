"""Rate-distortion plots for papers: one PNG and one SVG a metric, the same bytes for the same evaluation.

Drawn by matplotlib's objects rather than by pyplot, which would keep every figure and choose a window system.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from codec.atomic import atomic_path
from codec.errors import MissingPackageError
from codec.evaluation.comparison import is_lossless
from codec.evaluation.report.appearance import LIGHT, SHAPES, styles
from codec.evaluation.results import Curve, Evaluation
from codec.evaluation.scales import RATES, Scale, finite, scale_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = dict(zip(SHAPES, "os^Dv", strict=True))
_WIDTHS = {"model": 2.2, "peer": 1.6, "anchor": 1.1, "published": 1.1}
_INCHES = (8.0, 4.4)  # the legend takes the right third: a column and a half of a paper, the width of a README
_DPI = 160
_MARK = "#555555"  # the line of the originals
_SETTINGS = {
    "svg.hashsalt": "codec",  # ids in the SVG come from this and not from chance
    "font.size": 9.5,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def write_plots(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write `rd-METRIC.png` and `rd-METRIC.svg` for every metric; the folder is made where it does not exist.

    Returns:
        The files, in the order of the metrics; metrics that no curve has are left out.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingPackageError("plots need matplotlib; pip install 'codec[eval]'") from exc

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for metric in map(scale_of, evaluation.metrics):
        if not any(_points(curve, metric) for curve in evaluation.curves):
            continue
        with matplotlib.rc_context(_SETTINGS):
            figure = Figure(figsize=_INCHES, dpi=_DPI)
            FigureCanvasAgg(figure)
            _draw(figure.add_subplot(), evaluation, metric)
            written += [_save(figure, folder / f"rd-{metric.name}{suffix}") for suffix in (".png", ".svg")]
    return written


def _save(figure: Figure, path: Path) -> Path:
    kind = path.suffix[1:]
    unsaid = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[kind]
    with atomic_path(path, overwrite=True) as temporary:
        figure.savefig(temporary, format=kind, bbox_inches="tight", pad_inches=0.05, metadata=unsaid)
    return path


def _draw(axes: Axes, evaluation: Evaluation, metric: Scale) -> None:
    rate = RATES[evaluation.media]
    for curve, style in zip(evaluation.curves, styles(evaluation.curves), strict=True):
        if is_lossless(curve):
            # A line at 12 bits per pixel would press everything else together; the legend says where it lies.
            axes.plot([], [], " ", label=_literal(f"{curve.name}: lossless, {curve.points[0].rate:.2f} {rate.unit}"))
        elif points := _points(curve, metric):
            _plot(axes, curve, style, points)
    if metric.name in evaluation.originals:
        _mark(axes, evaluation.originals[metric.name], metric)
    axes.set_xscale("log")
    _name_ticks(axes)
    axes.set_xlabel(f"{rate.label} (size of the file)")
    axes.set_ylabel(metric.title)
    axes.grid(True, which="major", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8.5, handlelength=3.4)


def _plot(axes: Axes, curve: Curve, style: int, points: list[tuple[float, float]]) -> None:
    colour = LIGHT[style % len(LIGHT)]
    published = curve.kind == "published"
    axes.plot(
        *zip(*points, strict=True),
        color=colour,
        linewidth=_WIDTHS.get(curve.kind, 1.1),
        linestyle=(0, (4, 2)) if published else "-",
        marker=_MARKERS[SHAPES[style % len(SHAPES)]],
        markersize=4.5,
        markerfacecolor=colour if curve.kind in ("model", "peer") else "white",
        markeredgecolor=colour,
        label=_literal(f"{curve.name} (published, not run)" if published else curve.name),
    )


def _mark(axes: Axes, value: float, metric: Scale) -> None:
    """Draw what the originals have."""
    label = f"originals, {value:.{metric.digits}f} {metric.unit}"
    axes.axhline(value, color=_MARK, linewidth=1.0, linestyle=(0, (1.5, 2)), label=label)


def _name_ticks(axes: Axes) -> None:
    """Name 1, 2 and 5 of each decade as plain numbers: curves seldom span two powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _points(curve: Curve, metric: Scale) -> list[tuple[float, float]]:
    if is_lossless(curve):
        return []
    pairs = [(point.rate, finite(point.metrics.get(metric.name))) for point in curve.points if point.rate > 0]
    return [(rate, value) for rate, value in pairs if value is not None]


def _literal(text: str) -> str:
    """Return text that matplotlib draws as it stands: a dollar would start a formula, an underscore hides a legend."""
    text = text.replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{text}" if text.startswith("_") else text
