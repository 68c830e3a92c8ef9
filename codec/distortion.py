"""The squared error of two signals, which every PSNR here is made of."""

from __future__ import annotations

import numpy as np

_BLOCK = 1 << 20  # samples at a time: no full-size copies


def squared_error(a: np.ndarray, b: np.ndarray) -> float:
    """Return the sum of (a - b)^2: of integers exact, in whatever order; of floats in float64.

    Raises:
        ValueError: the arrays do not have the same shape.
    """
    if a.shape != b.shape:
        raise ValueError(f"signals must have the same shape, not {a.shape} and {b.shape}")
    wide = np.float64 if "f" in (a.dtype.kind, b.dtype.kind) else np.int64
    flat, other, total = a.reshape(-1), b.reshape(-1), 0
    for start in range(0, flat.size, _BLOCK):
        difference = np.subtract(flat[start : start + _BLOCK], other[start : start + _BLOCK], dtype=wide)
        total += np.vdot(difference, difference).item()
    return total
