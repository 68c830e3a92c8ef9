"""Search the quality scale for a target size or distortion. Knows numbers only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from codec.errors import RateError
from codec.params import QUALITY_STEPS, quality_index, quality_of

T = TypeVar("T")


def bits_per_pixel(size: int, width: int, height: int, frames: int = 1) -> float:
    """Return 8 * bytes / pixels of all frames: the rate of a file, header included."""
    return 8 * size / (width * height * frames)


def kilobits_per_second(size: int, seconds: float) -> float:
    """Return 8 * bytes / seconds / 1000: the rate of a file of sound, header included."""
    return 8 * size / seconds / 1000


def largest_below(
    attempt: Callable[[float], T],
    measure: Callable[[T], float],
    target: float,
    what: str,
    *,
    single: bool = False,
    highest: float = 100,
) -> T:
    """Return the attempt of the highest quality whose measure does not exceed `target`.

    Args:
        attempt: quality 0..100 -> anything; the measure of its result grows with quality.
        what: the target in words, for the message.
        single: quality has no effect, so there is one attempt.
        highest: quality to look up to.

    Raises:
        RateError: even quality 0 exceeds it.
    """
    stop = 0 if single else quality_index(highest)
    return _furthest(attempt, lambda value: value <= target, measure, 0, stop, what, single=single)


def smallest_above(
    attempt: Callable[[float], T], measure: Callable[[T], float], target: float, what: str, *, single: bool = False
) -> T:
    """Return the attempt of the lowest quality whose measure reaches `target`; see `largest_below`.

    Raises:
        RateError: even quality 100 does not reach it.
    """
    stop = QUALITY_STEPS if single else 0
    return _furthest(attempt, lambda value: value >= target, measure, QUALITY_STEPS, stop, what, single=single)


def _furthest(attempt, accepts, measure, start: int, stop: int, what: str, *, single: bool):
    """Return the accepted attempt nearest to quality index `stop`, by bisection from `start`."""
    best = attempt(quality_of(start))
    if not accepts(measure(best)):
        cause = "the model has a single rate, which" if single else f"quality {quality_of(start):g}"
        raise RateError(
            f"{what} is out of reach: {cause} gives {measure(best):.6g}; try another target or another model"
        )
    if start == stop:
        return best
    good, bad = start, stop + (1 if stop > start else -1)
    while abs(bad - good) > 1:
        middle = (good + bad) // 2
        result = attempt(quality_of(middle))
        if accepts(measure(result)):
            good, best = middle, result
        else:
            bad = middle
    return best
