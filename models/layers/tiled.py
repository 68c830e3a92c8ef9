"""Transforms of whole pictures, tile by tile with halos: bounded memory, no seams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from codec.media.image import Image
from codec.models.layers.tiles import blank, grow, paste, pixels, scaled, tiles
from codec.system import Params, Progress

TILE_PIXELS = 1024  # side of a tile of the transforms: bounds memory, changes no file


class Tiled:
    """Gives a system its transforms over whole pictures.

    The system has `latents_of(x, t)` and `signal_of(latents, t)` for pictures [B, 3, H, W] in -0.5..0.5, `_t(params)`
    the quality [1] in 0..1, and `_device` where the transforms run.

    Class attributes:
        block: pixels a side of one latent position.

    Instance attributes:
        halo_a, halo_s: reach of analysis and synthesis, in latent positions.
    """

    block: ClassVar[int]
    halo_a: int
    halo_s: int
    latents_of: Callable[[Tensor, Tensor], Tensor]
    signal_of: Callable[[Tensor, Tensor], Tensor]
    _t: Callable[[Params], Tensor]
    _device: Any

    def _grid(self, params: Params) -> tuple[int, int]:
        """Return the rows and columns of latent positions of a picture."""
        return -(-params["height"] // self.block), -(-params["width"] // self.block)

    def _latents(self, samples: np.ndarray, r: slice, c: slice, t: Tensor) -> Tensor:
        """Return the latents [1, C, rows, cols] of some blocks of an image."""
        grid = tuple(-(-n // self.block) for n in samples.shape[:2])
        big_r, big_c, inner_r, inner_c = grow(grid, r, c, self.halo_a)
        x = pixels(samples, big_r, big_c, self.block).to(self._device)
        return self.latents_of(x, t.to(self._device)).float()[..., inner_r, inner_c].cpu()

    @torch.no_grad()
    def _picture(
        self, latents: Callable[[slice, slice], Tensor], grid: tuple[int, int], params: Params, progress: Progress
    ) -> Image:
        """Return the picture whose latents at some rows and columns of the grid a function gives, tile by tile."""
        t, out = self._t(params).float().to(self._device), blank(params)
        parts = list(tiles(*grid, TILE_PIXELS // self.block))
        for i, (r, c) in enumerate(parts):
            big_r, big_c, inner_r, inner_c = grow(grid, r, c, self.halo_s)
            x = self.signal_of(latents(big_r, big_c).to(self._device), t)
            paste(out, x[..., scaled(inner_r, self.block), scaled(inner_c, self.block)], r, c, self.block)
            progress((i + 1) / len(parts))
        return Image(out)
