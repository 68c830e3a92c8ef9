"""Tiles of an image on the latent grid, with halos, so that memory stays bounded and no seam shows.

A *block* is the square of pixels of one latent position; ranges of rows and columns count blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codec.media.video import VideoFormat


def tiles(rows: int, cols: int, side: int) -> Iterator[tuple[slice, slice]]:
    """Split a grid into squares of at most `side` blocks."""
    for r in range(0, rows, side):
        for c in range(0, cols, side):
            yield slice(r, min(r + side, rows)), slice(c, min(c + side, cols))


def scaled(blocks: slice, block: int) -> slice:
    """Return the pixels of a range of blocks."""
    return slice(blocks.start * block, blocks.stop * block)


def grow(grid: tuple[int, ...], r: slice, c: slice, halo: int) -> tuple[slice, slice, slice, slice]:
    """Return a range of blocks with a halo, clipped to the grid, and where the range itself lies inside it."""
    grown, inner = [], []
    for blocks, size in ((r, grid[0]), (c, grid[1])):
        start = max(blocks.start - halo, 0)
        grown.append(slice(start, min(blocks.stop + halo, size)))
        inner.append(slice(blocks.start - start, blocks.stop - start))
    return grown[0], grown[1], inner[0], inner[1]


def pixels(samples: np.ndarray, r: slice, c: slice, block: int) -> Tensor:
    """Return some blocks of an image as [1, 3, H, W] in -0.5..0.5, reflected to whole blocks at its far edges.

    Args:
        samples: [H, W, 1 or 3], unsigned integers.
    """
    part = samples[scaled(r, block), scaled(c, block)]
    missing = [(0, (b.stop - b.start) * block - n) for b, n in zip((r, c), part.shape[:2], strict=True)]
    if any(n for _, n in missing):
        part = np.pad(part, [*missing, (0, 0)], mode="symmetric")
    x = torch.from_numpy(np.ascontiguousarray(part.transpose(2, 0, 1)).astype(np.float32))[None]
    x = x.div_(np.iinfo(samples.dtype).max).sub_(0.5)
    return x.expand(1, 3, -1, -1)


def blank(params: dict[str, Any]) -> np.ndarray:
    """Return samples to fill, [height, width, 1 or 3] of uint8 or uint16, for the header of a stream."""
    channels, dtype = 1 if params["gray"] else 3, np.uint16 if params["deep"] else np.uint8
    return np.empty((params["height"], params["width"], channels), dtype)


def frame_samples(x: Tensor, form: VideoFormat) -> np.ndarray:
    """Return the samples [H, W, 3] of a frame from [1, 3, >= H, >= W] in -0.5..0.5; what lies beyond it is dropped."""
    samples = np.empty((form.height, form.width, 3), form.dtype)
    paste(samples, x, slice(0, form.height), slice(0, form.width), 1)
    return samples


def paste(samples: np.ndarray, x: Tensor, r: slice, c: slice, block: int) -> None:
    """Set some blocks of an image from [1, 3, H, W] in -0.5..0.5; what lies beyond the image is dropped.

    Args:
        samples: [H, W, 1 or 3], unsigned integers; one channel gets the mean of the three.
    """
    top = np.iinfo(samples.dtype).max
    x = x[0].float().cpu()
    if samples.shape[2] == 1:
        x = x.mean(0, keepdim=True)
    view = samples[scaled(r, block), scaled(c, block)]
    x = x.add(0.5).mul_(top).round_().clamp_(0, top).permute(1, 2, 0).numpy()
    view[...] = x[: view.shape[0], : view.shape[1]]
