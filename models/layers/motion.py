"""Block motion between two pictures: compensation by overlapped blocks, and the search of an encoder.

Vectors [B, h, w, 2] are whole numbers of quarter pixels (down, right), one for each block of 8x8 pixels: where in the
reference the block comes from. Compensation blends, at every pixel, what the vectors of the four nearest blocks say
(Orchard & Sullivan, "Overlapped block motion compensation: an estimation-theoretic approach", IEEE Transactions on
Image Processing, 1994), so no edges appear between blocks that move differently.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn import functional as F

from codec.models.layers.quincunx import Lattice

BLOCK = 8  # pixels a side of a block
UNITS = 4  # of a vector, a pixel
REACH = 480  # largest component of a vector: 120 pixels
_COARSE = 4  # pixels of a pixel of the coarse search
_COARSE_REACH = 8  # coarse pixels
_DIFFERS, _APART = 2.0, 0.5  # bits for each neighbour that a vector differs from, and for each doubling of by how much
_COMMON = 0.02  # levels a pixel of sum of absolute differences that a nearer candidate is preferred by


def compensate(reference: Tensor, vectors: Tensor) -> Tensor:
    """Return the prediction [B, C, H, W] from a reference of that shape; H and W are whole blocks."""
    if not vectors.any():
        return reference
    vectors = vectors.to(reference)
    rows, cols = (_nearest(n, reference) for n in reference.shape[-2:])
    if not (vectors != vectors[:, :1, :1]).any():
        return _sample(reference, vectors[:, rows[0][0]][:, :, cols[0][0]], "bicubic")
    total = torch.zeros_like(reference)
    for (r, weight_r), (c, weight_c) in itertools.product(rows, cols):
        part = _sample(reference, vectors[:, r][:, :, c], "bicubic")
        total += part * (weight_r[:, None] * weight_c)
    return total


def _nearest(size: int, like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return, for the blocks before and after each pixel of an axis, their numbers and weights [size]."""
    position = (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) / BLOCK - 0.5
    before = position.floor()
    weight, last = position - before, size // BLOCK - 1
    return [
        (before.clamp(0, last).long(), 1 - weight),
        ((before + 1).clamp(0, last).long(), weight),
    ]


def _sample(reference: Tensor, vectors: Tensor, mode: str, stride: int = 1) -> Tensor:
    """Return every `stride`-th pixel of the reference displaced by vectors [B, H, W, 2], in quarter pixels."""
    height, width = reference.shape[-2:]
    like = {"device": reference.device, "dtype": reference.dtype}
    rows, cols = torch.arange(0, height, stride, **like)[:, None], torch.arange(0, width, stride, **like)
    return _at(reference, rows + vectors[..., 0] / UNITS, cols + vectors[..., 1] / UNITS, mode)


def _at(reference: Tensor, rows: Tensor, cols: Tensor, mode: str) -> Tensor:
    """Return the reference [B, C, H, W] at rows and columns [B, h, w]."""
    height, width = reference.shape[-2:]
    grid = torch.stack([cols * (2 / (width - 1)) - 1, rows * (2 / (height - 1)) - 1], -1)
    return F.grid_sample(reference, grid, mode=mode, padding_mode="border", align_corners=True)


def luma(x: Tensor) -> Tensor:
    """Return what motion is looked for in, [B, 1, H, W] in levels, of pictures [B, 3, H, W] in -0.5..0.5."""
    return x.mean(1, keepdim=True) * 255


def in_blocks(plane: Tensor) -> Tensor:
    """Return the pixels of each block, [B, h, w, 64], of planes [B, 1, H, W]."""
    return F.pixel_unshuffle(plane, BLOCK).permute(0, 2, 3, 1)


def blocks_at(reference: Tensor, at: Lattice, vectors: Tensor) -> Tensor:
    """Return the pixels [B, n, 64] of blocks at some sites, as vectors [B, n, 2] predict them from [B, 1, H, W]."""
    rows, cols = (torch.arange(size, device=vectors.device) for size in reference.shape[-2:])
    rows, cols = torch.meshgrid(rows[::BLOCK][at.rows], cols[::BLOCK][at.cols], indexing="ij")
    inside = torch.arange(BLOCK, device=vectors.device)
    rows = rows.reshape(-1, 1, 1) + inside[:, None] + vectors[..., :1, None] / UNITS  # [B, n, 8, 8]
    cols = cols.reshape(-1, 1, 1) + inside + vectors[..., 1:, None] / UNITS
    rows, cols = (x.expand(*vectors.shape[:2], BLOCK, BLOCK).flatten(2) for x in (rows, cols))
    return _at(reference, rows, cols, "bilinear")[:, 0]


class Search:
    """Find vectors that make a reference look like a target.

    Args:
        target, reference: [B, 3, H, W] in -0.5..0.5, whole blocks.
        weight: levels of absolute difference that a bit is worth.
        fast: look at one pixel of four only, to the end.
    """

    def __init__(self, target: Tensor, reference: Tensor, weight: float, *, fast: bool = False) -> None:
        self._target, self._reference = luma(target), luma(reference)
        self._weight, self._fast = weight, fast
        self._stride = 2

    def run(self, before: Tensor, rounds: int = 2) -> Tensor:
        """Return vectors [B, h, w, 2].

        Args:
            before: vectors of the frame before, which these may continue.
            rounds: how often vectors are offered to their neighbours.
        """
        coarse = self._coarse()
        smooth = F.avg_pool2d(coarse.permute(0, 3, 1, 2), 5, 1, 2, count_include_pad=False).permute(0, 2, 3, 1).round()
        self._best, self._near = torch.zeros_like(coarse), [before]
        self._cost = self._cost_of(self._best)
        self._offer([coarse, smooth, before])
        for step in (8, 4, 2, 1):
            self._settle(before)
            self._offer(self._around(step))
        self._stride = 2 if self._fast else 1
        for _ in range(rounds):
            self._settle(before)
            self._offer([torch.zeros_like(before), _median(self._best), *neighbours(self._best)])
            self._offer(self._around(1))
        return self._best

    def _settle(self, before: Tensor) -> None:
        """Let all blocks see what their neighbours have become."""
        self._near = [*neighbours(self._best), before]
        self._cost = self._cost_of(self._best)

    def _around(self, step: int) -> list[Tensor]:
        deltas = itertools.product((-step, 0, step), repeat=2)
        return [self._best + torch.tensor(delta).to(self._best) for delta in deltas if any(delta)]

    def _offer(self, candidates: list[Tensor]) -> None:
        """Let every block take what is better than what it has."""
        for candidate in candidates:
            candidate = candidate.clamp(-REACH, REACH)
            cost = self._cost_of(candidate)
            better = cost < self._cost
            self._best = torch.where(better[..., None], candidate, self._best)
            self._cost = torch.where(better, cost, self._cost)

    def _cost_of(self, vectors: Tensor) -> Tensor:
        """Return the sum of absolute differences of each block and what its vector may cost, [B, h, w].

        A vector that differs from one beside it costs itself and makes that one cost more.
        """
        size = BLOCK // self._stride
        batch, rows, cols, _ = vectors.shape
        dense = vectors[:, :, None, :, None].expand(-1, -1, size, -1, size, -1)
        dense = dense.reshape(batch, rows * size, cols * size, 2)
        target = self._target[..., :: self._stride, :: self._stride]
        difference = (_sample(self._reference, dense, "bilinear", self._stride) - target).abs()
        bits = 0.0
        for near in self._near:
            apart = (vectors - near).abs()
            bits = bits + _DIFFERS * (apart.amax(-1) > 0) + _APART * torch.log2(1 + apart).sum(-1)
        return F.avg_pool2d(difference, size)[:, 0] * BLOCK**2 + self._weight * bits

    def _coarse(self) -> Tensor:
        """Return the best vectors at a quarter of the resolution."""
        target, reference = (F.avg_pool2d(x, _COARSE) for x in (self._target, self._reference))
        padded = F.pad(reference, (_COARSE_REACH,) * 4, mode="replicate")
        height, width = target.shape[-2:]
        shifts = list(itertools.product(range(-_COARSE_REACH, _COARSE_REACH + 1), repeat=2))
        shifts.sort(key=lambda shift: shift[0] ** 2 + shift[1] ** 2)
        best = cost = None
        for i, (down, right) in enumerate(shifts):
            moved = padded[..., _COARSE_REACH + down :, _COARSE_REACH + right :][..., :height, :width]
            difference = F.avg_pool2d((moved - target).abs(), BLOCK // _COARSE)
            # A block sees few coarse pixels; its neighbours help it to a decision.
            difference = difference + F.avg_pool2d(difference, 3, 1, 1, count_include_pad=False)
            difference = difference + _COMMON * i**0.5
            if cost is None:
                best, cost = torch.zeros_like(difference, dtype=torch.long), difference
            else:
                best = torch.where(difference < cost, i, best)
                cost = torch.minimum(difference, cost)
        return torch.tensor(shifts).to(target)[best[:, 0]] * (_COARSE * UNITS)


def neighbours(vectors: Tensor) -> list[Tensor]:
    """Return what lies above, below, left and right of each block."""
    padded = F.pad(vectors.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate").permute(0, 2, 3, 1)
    height, width = vectors.shape[1:3]
    return [padded[:, r : r + height, c : c + width] for r, c in ((0, 1), (2, 1), (1, 0), (1, 2))]


def _median(vectors: Tensor) -> Tensor:
    """Return the median of each block's vector and its four neighbours, component by component."""
    return torch.stack([vectors, *neighbours(vectors)]).median(0).values


def dominant(vectors: Tensor) -> Tensor:
    """Return the most common vector of each item, [B, 2]."""
    found = []
    for item in vectors.flatten(1, 2):
        values, counts = item.unique(dim=0, return_counts=True)
        found.append(values[counts.argmax()])
    return torch.stack(found)
