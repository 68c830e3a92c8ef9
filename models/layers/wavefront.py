"""Autoregressive context of a 5x5 raster-scan mask, coded along wavefronts.

A site depends on the two rows above and on its own row to the left (Minnen et al., "Joint Autoregressive and
Hierarchical Priors for Learned Image Compression", NeurIPS 2018). All sites with the same `column + 3 * row` are
independent of each other, so they are coded together:

    0 1 2 3 4 5        site (r, c) belongs to wave c + 3 r; its neighbour furthest ahead, (r - 1, c + 2),
    3 4 5 6 7 8        belongs to wave c + 3 r - 1
    6 7 8 9 . .

A grid of h x w sites takes w + 3 (h - 1) steps instead of h w.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

REACH = 2  # of the mask, in sites
OFFSETS = [(dr, dc) for dr in (-2, -1, 0) for dc in range(-2, 3) if (dr, dc) < (0, 0)]  # 12, in raster order


def waves(height: int, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (rows, columns) of the sites of every wave, int64, rows rising."""
    for wave in range(width + 3 * (height - 1)):
        first = max(-(-(wave - width + 1) // 3), 0)
        rows = torch.arange(first, min(wave // 3, height - 1) + 1)
        if len(rows):
            yield rows, wave - 3 * rows


class Canvas:
    """Values of the sites known so far, [h, w, C] float64, zero where unknown and outside."""

    def __init__(self, height: int, width: int, channels: int) -> None:
        self._padded = torch.zeros(height + REACH, width + 2 * REACH, channels, dtype=torch.float64)

    def write(self, rows: Tensor, columns: Tensor, values: Tensor) -> None:
        """Set the values at n sites from [n, C]."""
        self._padded[rows + REACH, columns + REACH] = values

    def neighbours(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return [n, 12 C]: the neighbours of n sites in the order of `OFFSETS`."""
        views = [self._padded[rows + REACH + dr, columns + REACH + dc] for dr, dc in OFFSETS]
        return torch.cat(views, 1)


def gathered(weight: Tensor) -> Tensor:
    """Turn the weight of a 5x5 masked convolution, [O, C, 5, 5], into that of a 1x1 one on `neighbours`."""
    taps = [weight[:, :, dr + REACH, dc + REACH] for dr, dc in OFFSETS]
    return torch.cat(taps, 1)[..., None, None]
