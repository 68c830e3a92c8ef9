"""Short-time spectra that need nothing of the future: what a causal codec of sound looks at, and speaks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_QUIET = 1e-5  # magnitudes below are not told apart
_POWER = 0.3  # of magnitudes as the ear, and a network, take them


def spectra(x: Tensor, window: int, hop: int) -> Tensor:
    """Return the Hann-windowed spectra of samples [..., window + (n - 1) * hop], [..., n, window / 2 + 1], complex."""
    shape = torch.hann_window(window, device=x.device)
    return torch.fft.rfft(x.unfold(-1, window, hop) * shape) / window**0.5


def compressed(x: Tensor) -> Tensor:
    """Return spectra [..., b] with magnitudes raised to 0.3, as real and imaginary parts [..., 2 b]."""
    scaled = x * (x.real.square() + x.imag.square() + _QUIET**2).pow((_POWER - 1) / 2)
    return torch.cat([scaled.real, scaled.imag], -1)


def overlap(x: Tensor, window: int, hop: int) -> Tensor:
    """Return the sum of the windowed waveforms of spectra [B, n, window / 2 + 1], [B, (n - window / hop + 1) * hop].

    Only samples that all their windows are known of; `window / hop` is whole and at least 4, so squared Hann windows
    sum to a constant.
    """
    shape = torch.hann_window(window, device=x.device) * (hop / window / 0.375)
    pieces = torch.fft.irfft(x * window**0.5, window) * shape
    out = F.fold(pieces.transpose(1, 2), (1, (x.shape[1] - 1) * hop + window), kernel_size=(1, window), stride=(1, hop))
    return out[:, 0, 0, window - hop : x.shape[1] * hop]
