"""What differs between pictures, sound and video in an evaluation; everything else is written once.

To add a medium, write a module with a `Medium`, enter it in `MEDIA`, and give its rate a scale in
`codec.evaluation.scales`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from codec.evaluation.scales import RATES, Scale
from codec.media.kinds import kind_of

if TYPE_CHECKING:
    from codec.evaluation.metrics import Metric

MEDIA = {  # kind of signal -> where its medium is defined
    "image": "codec.evaluation.pictures:PICTURES",
    "audio": "codec.evaluation.sounds:SOUNDS",
    "video": "codec.evaluation.films:VIDEOS",
}


@dataclass(frozen=True)
class Derived:
    """A mean that is not just that of a metric.

    Attributes:
        of: the metric.
        convert: its mean -> the value, or None.
    """

    of: str
    convert: Callable[[float], float | None]


@dataclass(frozen=True)
class Medium:
    """One kind of signal.

    Attributes:
        name: `image`, `audio` or `video`, as systems and codecs call it.
        thing, things: in messages, `a picture` and `pictures`.
        suffixes: return those of files in a folder that count, with the dot, lower case.
        read: path -> the signal every codec is given. Raises MediaError where it cannot be read or measured.
        size_of: signal -> what rates are worked out from; the keys are fields of a row in `results.jsonl`.
        rate_of: bytes of a file, size of its signal -> rate, in the unit of `rate`.
        duration_of: size -> seconds; None for what has no duration.
        alike: original, decoded -> both in the same form, or MediaError.
        excerpt: signal -> what is held of it for the report, which shows many.
        keeps: coded files stay beside the results: some take hours to make.
        metrics: by name, in order.
        derived: names of further columns -> how they follow from means.
        columns: names in the order they are displayed.
        infinite: metrics of which None is infinity, and so is a mean with it; elsewhere None is "not defined".
        unsuited: paths or signals -> metrics that say nothing about them, and why, in a line.
        published: key in a file of published curves -> metric.
        conventions: heading -> text, of what is this medium's own.
        packages: whose versions are told.
    """

    name: str
    thing: str
    things: str
    suffixes: Callable[[], set[str]]
    read: Callable[[str], Any]
    size_of: Callable[[Any], dict[str, int]]
    rate_of: Callable[[int, Mapping[str, int]], float]
    duration_of: Callable[[Mapping[str, int]], float | None]
    alike: Callable[[Any, Any], tuple[Any, Any]]
    excerpt: Callable[[Any], Any]
    keeps: bool
    metrics: Mapping[str, Metric]
    derived: Mapping[str, Derived]
    columns: tuple[str, ...]
    infinite: tuple[str, ...]
    unsuited: Callable[[Iterable[Any]], tuple[tuple[str, ...], str]]
    published: Mapping[str, str]
    conventions: Mapping[str, str]
    packages: tuple[str, ...]

    @property
    def rate(self) -> Scale:
        """Return how its rates are shown."""
        return RATES[self.name]

    def with_column(self, name: str) -> Medium:
        """Return it with a metric that is not its own, displayed last."""
        return replace(self, columns=(*self.columns, name))


def medium_called(name: str) -> Medium:
    """Return the medium of a kind of signal."""
    module, _, attribute = MEDIA[name].partition(":")
    return getattr(import_module(module), attribute)


def medium_of(signal: Any) -> Medium:
    """Return the medium of a signal."""
    return medium_called(kind_of(signal))
