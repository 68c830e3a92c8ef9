"""How far two signals are apart sample by sample, and the checks that all metrics for sound share.

Signals are float arrays [channels, samples], full scale -1..1, of the same shape and aligned in time. A metric that is
not defined for a signal (silence, too short) is None; a perfect ratio in dB is infinite. Every metric raises ValueError
for signals of different shapes and for samples that are not finite numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from codec.distortion import squared_error

BLOCK = 1 << 20  # samples of each channel that are looked at together: bounds the memory of float64 copies


def mse(reference: np.ndarray, decoded: np.ndarray) -> float:
    """Return the mean squared error over all channels, of signals with full scale -1..1; smaller is better."""
    check(reference, decoded)
    return squared_error(reference, decoded) / max(reference.size, 1)


def psnr(reference: np.ndarray, decoded: np.ndarray) -> float | None:
    """Return the PSNR in dB, greater is better, infinite for no error; None where the original is constant.

    The original's mean over all channels is taken off and the peak is 2 max |x| of what remains. That is WaLLoC's
    convention (Jacobellis and Yadwadkar 2024; LCCL, RD/opus.ipynb): a signal is divided by 2 max |x|, which puts it
    into -0.5..0.5, and the peak is 1. Means over files are means of dB. So values stand beside the published ones:
    33.3 dB for WaLLoC 20x and 39.0 dB for WaLLoC 5x. The level of a recording does not matter.
    """
    check(reference, decoded)
    if constant(reference):
        return None
    peak = 2 * float(np.abs(np.array([reference.min(), reference.max()], np.float64) - _mean(reference)).max())
    return _decibels(peak**2 * reference.size, squared_error(reference, decoded))


def snr(reference: np.ndarray, decoded: np.ndarray) -> float | None:
    """Return the signal-to-noise ratio in dB, 10 log10(sum x^2 / sum (x - y)^2) over all channels; greater is better.

    None where the original is silent, infinite for no error.
    """
    check(reference, decoded)
    energy = sum(float(np.vdot(x, x)) for (x,) in _blocks(reference))
    return _decibels(energy, squared_error(reference, decoded)) if energy else None


def si_sdr(reference: np.ndarray, decoded: np.ndarray) -> float | None:
    """Return the scale-invariant signal-to-distortion ratio in dB, greater is better.

    Le Roux, Wisdom, Erdogan and Hershey 2019, equation 3: 10 log10(|a x|^2 / |a x - y|^2), a = <x, y> / <x, x>, of
    signals without their means. All channels are one long vector with one scale, as in the DAC paper. Infinite for a
    scaled copy, minus infinity for an orthogonal signal; None where either signal is constant.
    """
    check(reference, decoded)
    if constant(reference) or constant(decoded):
        return None
    means = _mean(reference), _mean(decoded)
    products = [(np.vdot(x, x), np.vdot(x, y)) for x, y in _blocks(reference, decoded, means=means)]
    energy, correlation = (float(sum(column)) for column in zip(*products, strict=True))
    scale = correlation / energy
    rest = (y - scale * x for x, y in _blocks(reference, decoded, means=means))
    return _decibels(scale**2 * energy, sum(float(np.vdot(e, e)) for e in rest))


def check(reference: np.ndarray, decoded: np.ndarray) -> None:
    """Raise ValueError for signals that cannot be compared."""
    if reference.ndim != 2 or not len(reference) or reference.shape != decoded.shape:
        raise ValueError(
            f"signals must be [channels, samples] of equal length, not {reference.shape} and {decoded.shape}; "
            "cut the decoded one to the original"
        )
    if not np.isfinite(reference).all() or not np.isfinite(decoded).all():
        raise ValueError("signals must hold finite numbers only; the decoder is at fault, or the file is damaged")


def _blocks(*signals: np.ndarray, means: tuple[float, ...] | None = None) -> Iterator[list[np.ndarray]]:
    """Yield float64 pieces [channels, up to BLOCK] of signals, less a mean each."""
    for start in range(0, signals[0].shape[1], BLOCK):
        pieces = [signal[:, start : start + BLOCK].astype(np.float64) for signal in signals]
        yield [piece - mean for piece, mean in zip(pieces, means, strict=True)] if means else pieces


def _mean(signal: np.ndarray) -> float:
    return float(signal.mean(dtype=np.float64))


def constant(signal: np.ndarray) -> bool:
    """Say whether all samples are equal: there is no sound."""
    return not signal.size or bool(signal.min() == signal.max())


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
