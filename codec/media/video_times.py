"""When frames are shown: the rounded times of a container back to multiples of the frame rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

_FASTEST = 1000  # frames a second above which a "rate" is only the container's clock
_FINER = 4  # ticks of the container a frame has at least where its times are rounded
_SPARSE = 100  # there are more gaps than frames: a clock, not a rate
_DEFAULT = Fraction(25)  # frames a second where nothing says it


@dataclass(frozen=True)
class Timing:
    """How times of a container become ticks of `VideoFormat.time_base`.

    Attributes:
        rate: nominal frames a second.
        time_base: seconds a tick.
        snap: multiply times since the first by this and round.
        start: the container's time of the first frame, in its ticks.
    """

    rate: Fraction
    time_base: Fraction
    snap: Fraction
    start: int

    def ticks(self, time: int) -> int:
        """Return a time of the container in ticks since the first frame."""
        scaled = (time - self.start) * self.snap
        return (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)


def timing(times: Sequence[int] | np.ndarray, tick: Fraction, rates: Sequence[Fraction | None]) -> Timing:
    """Find the rate that times are multiples of.

    Containers round times to their clock (Matroska: milliseconds). Where every time lies within a tick of a multiple
    of 1 / rate, that is what was meant, and frames may be missing in between; else the container's times are kept.

    Args:
        times: of all frames in presentation order, rising, in ticks of the container.
        tick: seconds.
        rates: frames a second that the container or FFmpeg suggest, the best first.
    """
    start, since = int(times[0]), np.asarray(times, np.int64) - int(times[0])
    candidates = [Fraction(rate) for rate in rates if rate and 0 < rate <= _FASTEST]
    for rate in candidates:
        if _is_grid(since, tick, rate):
            return Timing(rate, 1 / rate, tick * rate, start)
    span = int(since[-1]) * tick
    average = ((len(since) - 1) / span).limit_denominator(100_000) if span else Fraction(0)
    rate = average or next(iter(candidates), _DEFAULT)
    return Timing(rate, tick, Fraction(1), start)


def _is_grid(since: np.ndarray, tick: Fraction, rate: Fraction) -> bool:
    """Tell whether all times are multiples of 1 / rate, up to the rounding to ticks."""
    per = tick * rate  # frames a tick
    steps = np.rint(since * float(per)).astype(np.int64)
    if (np.diff(steps) < 1).any() or steps[-1] > _SPARSE * len(steps):
        return False
    # |since - steps / per| <= 1 tick in integers: since * num and steps * den stay below 2**63 for a year of 90 kHz.
    error = np.abs(since * per.numerator - steps * per.denominator)
    exact = not error.any()
    return exact or (per * _FINER <= 1 and bool((error <= per.numerator).all()))
