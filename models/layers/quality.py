"""Parameters that follow a continuous quality: tables at a few anchors, interpolated."""

from __future__ import annotations

from torch import Tensor

ANCHORS = 5  # quality 0, 25, 50, 75, 100


def interpolate(table: Tensor, t: Tensor) -> Tensor:
    """Interpolate linearly between the rows of `table` [ANCHORS, C] at t [B] in 0..1; return [B, C].

    Exact for dyadic float64 table and t, because the anchors divide the range into a power of two.
    """
    position = t * (ANCHORS - 1)
    low = position.floor().clamp(0, ANCHORS - 2)
    weight = (position - low)[:, None]
    index = low.long()
    return table[index] * (1 - weight) + table[index + 1] * weight
