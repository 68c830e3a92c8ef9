"""Bjontegaard deltas: the mean difference between two rate-distortion curves over their common range.

Bjontegaard, "Calculation of average PSNR differences between RD-curves" (VCEG-M33, 2001), with piecewise cubic
Hermite interpolation over the logarithm of the rate (as in JCT-VC's spreadsheet and the `bjontegaard` package), which,
unlike the cubic fit of 2001, neither overshoots nor depends on the number of points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codec.errors import RateError

MIN_POINTS = 4


@dataclass(frozen=True)
class Delta:
    """Result of a comparison.

    Attributes:
        value: BD-rate in percent (negative: fewer bits than the anchor) or BD-PSNR in dB (positive: better).
        overlap: share of the anchor's range that both curves cover, 0..1. Below about 0.5 the value says little.
    """

    value: float
    overlap: float


def bd_rate(
    anchor_rate: Sequence[float], anchor_quality: Sequence[float], rate: Sequence[float], quality: Sequence[float]
) -> Delta:
    """Return how many percent more bits a codec needs than the anchor at equal quality, on average.

    Args:
        rates: bits per pixel, or any other positive unit; qualities: dB.

    Raises:
        RateError: fewer than four points, no common range, or a curve that is not monotonous.
    """
    a, b = _curve(anchor_quality, np.log(anchor_rate)), _curve(quality, np.log(rate))
    mean, overlap = _mean_difference(a, b)
    return Delta(100 * (float(np.exp(mean)) - 1), overlap)


def bd_psnr(
    anchor_rate: Sequence[float], anchor_quality: Sequence[float], rate: Sequence[float], quality: Sequence[float]
) -> Delta:
    """Return how many dB better a codec is than the anchor at equal rate, on average; see `bd_rate`."""
    mean, overlap = _mean_difference(_curve(np.log(anchor_rate), anchor_quality), _curve(np.log(rate), quality))
    return Delta(mean, overlap)


def rate_at(rate: Sequence[float], quality: Sequence[float], target: float) -> float:
    """Return the rate of a curve at a quality, interpolated in the same way.

    Raises:
        RateError: as for `bd_rate`, or the target lies outside the curve.
    """
    x, y = _curve(quality, np.log(rate))
    if not x[0] <= target <= x[-1]:
        raise RateError(f"{target:g} dB lies outside the curve's {x[0]:.2f}..{x[-1]:.2f} dB")
    return float(np.exp(_evaluate(x, y, _slopes(x, y), np.array([target]))[0]))


def _curve(x: Sequence[float], y: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(x)
    xs, ys = np.asarray(x, float)[order], np.asarray(y, float)[order]
    if len(xs) < MIN_POINTS:
        raise RateError(f"a curve needs at least {MIN_POINTS} points, this one has {len(xs)}; add qualities")
    if not (np.isfinite(xs).all() and np.isfinite(ys).all()) or (np.diff(xs) <= 0).any() or (np.diff(ys) <= 0).any():
        raise RateError("a curve must rise in rate and quality together; leave points out where it does not")
    return xs, ys


def _mean_difference(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    low, high = max(a[0][0], b[0][0]), min(a[0][-1], b[0][-1])
    if not low < high:
        raise RateError("the curves have no common range; choose qualities that overlap")
    mean = (_integral(*b, low, high) - _integral(*a, low, high)) / (high - low)
    return mean, (high - low) / (a[0][-1] - a[0][0])


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return monotone derivatives at the knots (Fritsch & Butland 1984, as in PCHIM)."""
    h, delta = np.diff(x), np.diff(y) / np.diff(x)
    slopes = np.empty_like(y)
    w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    slopes[1:-1] = (w1 + w2) / (w1 / delta[:-1] + w2 / delta[1:])
    for end, h0, h1, d0, d1 in ((0, h[0], h[1], delta[0], delta[1]), (-1, h[-1], h[-2], delta[-1], delta[-2])):
        slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
        slopes[end] = min(max(slope, 0.0), 3 * d0)
    return slopes


def _evaluate(x: np.ndarray, y: np.ndarray, slopes: np.ndarray, at: np.ndarray) -> np.ndarray:
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    h = x[i + 1] - x[i]
    s = (at - x[i]) / h
    return (
        (1 + 2 * s) * (1 - s) ** 2 * y[i]
        + s * (1 - s) ** 2 * h * slopes[i]
        + s**2 * (3 - 2 * s) * y[i + 1]
        + s**2 * (s - 1) * h * slopes[i + 1]
    )


def _integral(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    """Integrate the interpolant exactly: three-point Gauss quadrature on every piece is exact for cubics."""
    slopes = _slopes(x, y)
    knots = np.concatenate([[low], x[(x > low) & (x < high)], [high]])
    middle, half = (knots[1:] + knots[:-1]) / 2, (knots[1:] - knots[:-1]) / 2
    nodes, weights = np.array([-np.sqrt(0.6), 0.0, np.sqrt(0.6)]), np.array([5, 8, 5]) / 9
    return float(
        sum(w * (half * _evaluate(x, y, slopes, middle + half * n)).sum() for n, w in zip(nodes, weights, strict=True))
    )
