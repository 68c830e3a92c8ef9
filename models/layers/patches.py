"""Networks over the patches of square regions: what tokens should say of them, and what patches tokens make.

A patch is 2x2 blocks of wavelet packets, 16x16 pixels; a region has P of them, in row order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.models.layers import wavelet
from codec.models.layers.block import Block
from codec.models.layers.transformer import Layer, places

BANDS = 3 * wavelet.BLOCK**2
PATCH = 2 * wavelet.BLOCK  # pixels a side
FEATURES = 4 * BANDS  # numbers a patch


class Analysis(nn.Module):
    """g_a: features [B, P, 768] of regions to latents [B, P, C] and what their tokens correct, [B, T, D].

    Args:
        patches, latents: P, C.
        tokens, depth: T, each with a learned query, and D.
        width, layers: of the transformer over patches; one layer of queries follows.
    """

    def __init__(self, patches: int, latents: int, tokens: int, depth: int, *, width: int, layers: int) -> None:
        super().__init__()
        self.skip = nn.Linear(FEATURES, latents)
        self.head = nn.Linear(FEATURES, width)
        self.where = places(patches, width)
        self.body = nn.ModuleList(Layer(width) for _ in range(layers))
        self.queries = places(tokens, width)
        self.ask = Layer(width, looks_out=True)
        self.norm = nn.LayerNorm(width)
        self.tail = nn.Linear(width, depth)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        x = self.head(features)
        x = x + self.where.to(x.dtype)
        for layer in self.body:
            x = layer(x)
        asked = self.ask(self.queries.to(x.dtype).expand(len(x), -1, -1), x)
        with torch.autocast(features.device.type, enabled=False):
            known = self.skip(features.to(self.skip.weight.dtype))
        return known, self.tail(self.norm(asked)).float()


class Synthesis(nn.Module):
    """g_s: latents of regions to packets (`patches`), and those of whole pictures to better ones.

    Args:
        patches, latents: P, C.
        width, layers: of the transformer over patches.
        blocks: channels and number of the blocks over pictures.
    """

    def __init__(self, patches: int, latents: int, *, width: int, layers: int, blocks: tuple[int, int]) -> None:
        super().__init__()
        channels, count = blocks
        self.skip = nn.Linear(latents, FEATURES)
        self.head = nn.Linear(latents, width)
        self.quality = nn.Linear(2, width)
        self.where = places(patches, width)
        self.body = nn.ModuleList(Layer(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.tail = nn.Linear(width, FEATURES)
        self.features = nn.Linear(width, 4 * channels)
        self.around = nn.Conv2d(BANDS, channels, 3, padding=1, padding_mode="replicate")
        self.blocks = nn.ModuleList(Block(channels) for _ in range(count))
        self.last = nn.Conv2d(channels, BANDS, 1)
        for zero in (self.tail, self.last):
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)

    def patches(self, latents: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return packets [B, P, 768] of regions, and what the blocks shall know besides, [B, P, 4 channels].

        Args:
            latents: [B, P, C]; in float32, for what goes past the transformer.
            t: [B], quality in 0..1.
        """
        dtype = self.tail.weight.dtype
        x = self.head(latents.to(dtype)) + self.quality(torch.stack([t, t * t], -1).to(dtype))[:, None]
        x = x + self.where.to(x.dtype)
        for layer in self.body:
            x = layer(x)
        x = self.norm(x)
        with torch.autocast(latents.device.type, enabled=False):
            known = self.skip(latents.to(self.skip.weight.dtype))
        return known + self.tail(x).float(), self.features(x)

    def forward(self, bands: Tensor, features: Tensor, t: Tensor) -> Tensor:
        """Return packets [B, 192, h, w] of pictures, given those of `patches`, joined."""
        dtype = self.last.weight.dtype
        x = self.around(bands.to(dtype, memory_format=torch.channels_last)) + features.to(dtype)
        for block in self.blocks:
            x = block(x, t)
        return bands + self.last(F.leaky_relu(x, 0.1)).float()

    def hasten(self, dtype: torch.dtype) -> None:
        """Let all but the linear path run in a float type."""
        for part in self.children():
            if part is not self.skip:
                part.to(dtype)
        self.where.data = self.where.data.to(dtype)


def apart(x: Tensor, side: int) -> Tensor:
    """Cut [B, C, rows side, cols side] into regions: [B rows cols, side**2, C], in row order."""
    parts = x.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # [B, C, rows, side, cols, side]
    return parts.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(0, 2)


def joined(parts: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Invert `apart` for regions that are `grid` rows and columns of them."""
    x = parts.unflatten(1, (side, side)).unflatten(0, (-1, *grid))  # [B, rows, cols, side, side, C]
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
