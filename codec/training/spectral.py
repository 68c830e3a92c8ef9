"""What two sounds differ in to the ear: losses on spectra of several resolutions."""

from __future__ import annotations

import torch
from torch import Tensor

from codec.mel import mel_bands

_WINDOWS = {64: 10, 128: 20, 256: 40, 512: 80, 1024: 120, 2048: 160}  # samples -> mel bands
_PHASE_WINDOWS = (320, 640)  # where compressed complex spectra are compared
_CLAMP = 1e-5
_POWER = 0.3


def mel_distance(x: Tensor, y: Tensor, rate: int) -> Tensor:
    """Return the mean over samples [B, n] and sum over windows of |log10 M(x) - log10 M(y)|.

    M are magnitudes in mel bands (Kumar et al., "High-Fidelity Audio Compression with Improved RVQGAN", 2023, 3.4).
    """
    total = x.new_zeros(())
    for window, bands in _WINDOWS.items():
        matrix = torch.as_tensor(mel_bands(rate, window, bands), device=x.device)
        a, b = (_log(matrix @ _spectrum(signal, window).abs()) for signal in (x, y))
        total = total + (a - b).abs().mean()
    return total


def phase_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean |C(x) - C(y)| of spectra C with magnitudes raised to 0.3: it knows of phase, loud or quiet."""
    total = x.new_zeros(())
    for window in _PHASE_WINDOWS:
        a, b = (_compressed(_spectrum(signal, window)) for signal in (x, y))
        total = total + (a - b).abs().mean() + (a.norm(dim=-1) - b.norm(dim=-1)).abs().mean()
    return total / len(_PHASE_WINDOWS)


def _spectrum(x: Tensor, window: int) -> Tensor:
    shape = torch.hann_window(window, device=x.device)
    return torch.stft(x, window, window // 4, window=shape, center=True, normalized=False, return_complex=True)


def _log(x: Tensor) -> Tensor:
    return x.clamp_min(_CLAMP).log10()


def _compressed(x: Tensor) -> Tensor:
    """Return [..., 2]."""
    x = x / x.shape[-2] ** 0.5
    factor = (x.real.square() + x.imag.square() + 1e-8).pow((_POWER - 1) / 2)
    return torch.view_as_real(x * factor)
