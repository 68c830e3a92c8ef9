"""What a distortion metric is, which of them are measured, and how two signals are compared.

The tables are those of the media: `codec.evaluation.image_metrics` and `codec.evaluation.audio_metrics`. Names are
unique within a medium; `psnr` of sound is another formula than that of pictures. A metric that is not defined for a
signal (too small, silent) is None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from typing import Any

from codec.errors import MediaError, MissingPackageError
from codec.evaluation.medium import Medium, medium_of

Measure = Callable[[Any, Any, str | None], float | None]  # original, decoded, weights file -> value
ALWAYS = ("psnr", "mse")  # of every medium: they cost nothing and every report needs them
_MODULES = {"visqol-python": "visqol", "ai-edge-litert": "ai_edge_litert"}  # where packages and modules differ


@dataclass(frozen=True)
class Metric:
    """One way to compare two signals.

    Attributes:
        name: on the command line and in results; `codec.evaluation.scales` says how it is shown and which way is up.
        measure: the function.
        how: what exactly is computed, for the conventions.
        packages: what to give to `pip install` before it can be computed.
        weights: the user supplies a file with the network.
        decimals: kept of a value: sums in another order differ beyond them.
    """

    name: str
    measure: Measure
    how: str
    packages: tuple[str, ...] = ()
    weights: bool = False
    decimals: int = 6

    def missing(self, weights: Mapping[str, str]) -> str | None:
        """Return what to do before it can be measured, or None."""
        modules = {package: _MODULES.get(package, package.replace("-", "_")) for package in self.packages}
        if absent := [package for package, module in modules.items() if not util.find_spec(module)]:
            return f"{self.name} needs a package; pip install {' '.join(absent)}"
        if self.weights and self.name not in weights:
            return f"{self.name} needs its network; give --weights {self.name}=FILE, see codec eval --help"
        return None


def compare(
    original: Any, decoded: Any, names: Iterable[str], weights: Mapping[str, str] | None = None
) -> dict[str, float | None]:
    """Return metrics of two signals of one kind by name; an infinite PSNR is None.

    Args:
        weights: name of a metric -> TorchScript file, for those that need one.

    Raises:
        MediaError: the signals cannot be compared, for instance because their sizes differ.
        ValueError: there is no such metric.
        MissingPackageError, ModelError: it cannot be computed here.
    """
    medium, other = medium_of(original), medium_of(decoded)
    if medium is not other:
        raise MediaError(f"{medium.thing} and {other.thing} cannot be compared; give two of one kind")
    a, b = medium.alike(original, decoded)
    values = {}
    for name in names:
        metric, file = metric_called(name, medium), (weights or {}).get(name)
        value = metric.measure(a, b, file)
        finite = value is not None and math.isfinite(value)
        values[name] = round(float(value), metric.decimals) if finite else None
    return values


def metric_called(name: str, medium: Medium) -> Metric:
    """Return a metric.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in medium.metrics:
        raise ValueError(f"{medium.things} have no metric {name!r}; choose from {', '.join(medium.metrics)}")
    return medium.metrics[name]


def choose(
    asked: Sequence[str], weights: Mapping[str, str], medium: Medium, sources: Iterable[Any] = ()
) -> tuple[tuple[str, ...], list[str]]:
    """Return the metrics to measure, in the order of the table, and why others are left out.

    Args:
        asked: names; none for all that can be measured here and suit the data.
        sources: the data, as `Medium.unsuited` takes it.

    Raises:
        ValueError: an unknown name.
        MissingPackageError: a metric that was asked for cannot be measured; the message says what to do.
    """
    wanted = {name: metric_called(name, medium) for name in [*asked, *weights]}
    for name, metric in wanted.items():
        if name in weights and not metric.weights:
            those = [name for name, metric in medium.metrics.items() if metric.weights]
            raise ValueError(f"{name} takes no weights; those that do: {', '.join(those) or 'none'}")
        if problem := metric.missing(weights):
            raise MissingPackageError(problem)
    left_out = []
    if not asked:
        unsuited, why = medium.unsuited(sources)
        left_out += [why] if unsuited else []
        for name, metric in medium.metrics.items():
            problem = None if name in unsuited else metric.missing(weights)
            if problem is None and name not in unsuited:
                wanted[name] = metric
            elif problem and not metric.weights:
                left_out.append(problem)
    return tuple(name for name in medium.metrics if name in wanted or name in ALWAYS), left_out


def versions(names: Iterable[str], medium: Medium) -> dict[str, str]:
    """Return the packages some metrics are computed by -> their versions."""
    needed = [package for name in names for package in medium.metrics[name].packages]
    return {package: metadata.version(package) for package in dict.fromkeys(needed)}
