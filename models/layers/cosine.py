"""The orthonormal cosine transform of small square grids, as dense products."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=16)
def _matrix(length: int, device: torch.device) -> Tensor:
    """Return the DCT-II [length, length] in float32; row k is frequency k."""
    with torch.inference_mode(False):  # the result is kept: it must serve callers that need gradients, too
        at = (torch.arange(length, dtype=torch.float64) + 0.5) * (math.pi / length)
        rows = torch.cos(torch.arange(length, dtype=torch.float64)[:, None] * at) * math.sqrt(2 / length)
        rows[0] *= math.sqrt(0.5)
        return rows.float().to(device)


def forward(grid: Tensor) -> Tensor:
    """Map squares [..., n, n] to as many coefficients, lowest frequencies first."""
    matrix = _matrix(grid.shape[-1], grid.device)
    return matrix @ grid.float() @ matrix.T


def inverse(coefficients: Tensor) -> Tensor:
    """Invert `forward`."""
    matrix = _matrix(coefficients.shape[-1], coefficients.device)
    return matrix.T @ coefficients.float() @ matrix
