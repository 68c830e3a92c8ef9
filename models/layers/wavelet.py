"""CDF 9/7 wavelet packets: an image as 64 bands a colour at 1/8 resolution, and back.

Three levels of the one-level transform on *every* band, along rows and columns (the wavelet
packet analysis of WaLLoC, arXiv 2412.09405), with whole-sample reflection at both ends at each
level. The transform is critically sampled and invertible for any multiple of 8, with no wrap-around.

The 1-D transform of length n is a banded matrix: a coefficient of block i depends on samples
8i - 28 ... 8i + 28. So it runs as dense matrix products over overlapping segments, which reach a processor's
full speed where lifting steps are limited by memory: about 0.4 kMAC a sample.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

BLOCK = 8  # samples a block: 2**3 levels
HALO = 32  # samples of context a segment needs on each side: the reach of 28 rounded up to whole blocks
_SEGMENT = 128  # samples a segment; an axis up to twice as long is one dense product

# Lifting coefficients of CDF 9/7 (Daubechies & Sweldens, "Factoring Wavelet Transforms into Lifting Steps", 1998)
_ALPHA, _BETA, _GAMMA, _DELTA = -1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971
_GAIN = 2**0.5 / 1.230174104914001  # a low band keeps sqrt(2) times the mean, as an orthonormal one would


def _split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One level along axis 0 (even length) by lifting with whole-sample reflection."""
    even, odd = x[0::2].copy(), x[1::2].copy()
    after = lambda a: np.concatenate([a[1:], a[-1:]])
    before = lambda a: np.concatenate([a[:1], a[:-1]])
    odd += _ALPHA * (even + after(even))
    even += _BETA * (odd + before(odd))
    odd += _GAMMA * (even + after(even))
    even += _DELTA * (odd + before(odd))
    return even * _GAIN, odd / _GAIN


@lru_cache(maxsize=64)
def packet_matrix(length: int) -> np.ndarray:
    """Return the 1-D packet transform of `length` samples as [length, length] float64.

    Row 8i + b is band b (natural order of the recursion) of block i.
    """
    bands = [np.eye(length)]
    for _ in range(3):
        bands = [half for band in bands for half in _split(band)]
    return np.stack(bands, axis=1).reshape(length, length)


@lru_cache(maxsize=256)
def _matrix(length: int, inverse: bool, device: torch.device) -> Tensor:
    matrix = packet_matrix(length)
    with torch.inference_mode(False):  # the result is kept: it must serve callers that need gradients, too
        return torch.from_numpy(np.linalg.inv(matrix) if inverse else matrix).float().to(device)


def _segments(length: int) -> list[tuple[int, int, int, int]]:
    """Split an axis: (input start, input stop, output start, output stop) for each product."""
    if length <= 2 * _SEGMENT:
        return [(0, length, 0, length)]
    cuts = [*range(0, length - _SEGMENT // 2, _SEGMENT), length]
    return [(max(a - HALO, 0), min(b + HALO, length), a, b) for a, b in pairwise(cuts)]


def _transform(x: Tensor, inverse: bool, axis: int) -> Tensor:
    """Apply the 1-D transform along the last (`axis=-1`) or second-to-last axis."""
    pieces = []
    for start, stop, out_start, out_stop in _segments(x.shape[axis]):
        matrix = _matrix(stop - start, inverse, x.device)[out_start - start : out_stop - start]
        window = x.narrow(axis, start, stop - start)
        pieces.append(window @ matrix.T if axis == -1 else matrix @ window)
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, axis)


def analysis(x: Tensor) -> Tensor:
    """Map images [B, C, H, W] (H, W multiples of 8) to packet coefficients [B, 64 C, H/8, W/8]."""
    y = _transform(_transform(x, False, -1), False, -2)
    return torch.nn.functional.pixel_unshuffle(y, BLOCK)


def synthesis(y: Tensor) -> Tensor:
    """Invert `analysis`: [B, 64 C, h, w] to [B, C, 8h, 8w]."""
    x = torch.nn.functional.pixel_shuffle(y, BLOCK)
    return _transform(_transform(x, True, -2), True, -1)
