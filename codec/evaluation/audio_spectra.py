"""How far the spectra of two signals are apart: the distances of the DAC paper.

Signals as in `codec.evaluation.audio_errors`. torch is imported by the function that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from codec.evaluation.audio_errors import BLOCK, check
from codec.mel import mel_bands

if TYPE_CHECKING:
    import torch

_CLAMP = 1e-5  # below this a magnitude counts as this (DAC: clamp_eps)
_MEL_BANDS = {32: 5, 64: 10, 128: 20, 256: 40, 512: 80, 1024: 160, 2048: 320}  # window in samples -> bands
_STFT_WINDOWS = (2048, 512)


def log_mel(reference: np.ndarray, decoded: np.ndarray, rate: int) -> float | None:
    """Return the mel distance of the DAC paper: 0 for no error, about 1 at 8 kbit/s; smaller is better.

    Kumar et al. 2023, 3.5 and 4.4; conf/final/44khz.yml of descript-audio-codec: the sum over seven windows 32..2048
    (Hann, hop a quarter, centred, reflected) of the mean |log10 M(x) - log10 M(y)|, M the magnitudes in 5..320 mel
    bands, at least 1e-5. The bands are librosa's default, which DAC uses: Slaney's scale (Auditory Toolbox, not HTK)
    and triangles of equal area. Windows count samples, so values at different sample rates do not compare; the paper's
    are at 44.1 kHz. None for fewer than 1025 samples, which cannot be reflected.
    """
    import torch

    def logarithms(magnitudes: torch.Tensor, window: int) -> torch.Tensor:
        return (torch.from_numpy(mel_bands(rate, window, _MEL_BANDS[window])) @ magnitudes).clamp(_CLAMP).log10()

    return _spectral_distance(reference, decoded, _MEL_BANDS, lambda x, y, w: logarithms(x, w) - logarithms(y, w))


def stft(reference: np.ndarray, decoded: np.ndarray) -> float | None:
    """Return the multi-scale STFT distance of the DAC paper: 0 for no error; smaller is better.

    Kumar et al. 2023, 4.4; `MultiScaleSTFTLoss` of descript-audio-codec: the sum over the windows 2048 and 512 (Hann,
    hop a quarter, centred, reflected) of the mean |log10 X^2 - log10 Y^2| of magnitudes of at least 1e-5 and of the
    mean |X - Y|. Windows count samples, so values at different sample rates do not compare. None for fewer than 1025
    samples.
    """

    def difference(x: torch.Tensor, y: torch.Tensor, _: int) -> torch.Tensor:
        return 2 * (x.clamp(_CLAMP).log10() - y.clamp(_CLAMP).log10()).abs() + (x - y).abs()

    return _spectral_distance(reference, decoded, _STFT_WINDOWS, difference)


def _tensor(signal: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.array(signal, np.float32, order="C"))


def _spectral_distance(
    reference: np.ndarray, decoded: np.ndarray, windows: Iterable[int], difference: Callable
) -> float | None:
    """Return the sum over windows of the mean size of a difference of magnitudes [channels, bins, frames]."""
    import torch

    check(reference, decoded)
    if reference.shape[1] <= max(windows) // 2:
        return None
    distance = 0.0
    with torch.no_grad():
        for window in windows:
            total = count = 0
            for x, y in zip(_magnitudes(reference, window), _magnitudes(decoded, window), strict=True):
                differences = difference(x, y, window).abs()
                total, count = total + float(differences.sum(dtype=torch.float64)), count + differences.numel()
            distance += total / count
    return distance


def _magnitudes(signal: np.ndarray, window: int) -> Iterator[torch.Tensor]:
    """Yield |STFT| [channels, bins, frames] of a signal [channels, samples], some frames at a time."""
    import torch

    hop, at_once = window // 4, 4 * BLOCK // window
    padded = torch.nn.functional.pad(_tensor(signal), (window // 2, window // 2), mode="reflect")
    frames = signal.shape[1] // hop + 1
    for first in range(0, frames, at_once):
        piece = padded[:, first * hop : (min(first + at_once, frames) - 1) * hop + window]
        spectrum = torch.stft(piece, window, hop, window=torch.hann_window(window), center=False, return_complex=True)
        yield spectrum.abs()
