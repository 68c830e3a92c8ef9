"""Transforms of pictures that work at 1/8 and at 1/16 resolution, behind wavelet packets.

    packets 8x8 --[ blocks at 1/8 ]--[ 2x2 -> 1 ]--[ blocks at 1/16 ]--(+)--> latents
         `---------------------[ linear, of 16x16 pixels ]--------------'

and back the same way. The linear paths make either a transform codec before anything is learned; the networks' last
layers start at zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.models.layers import wavelet
from codec.models.layers.block import Block

BANDS = 3 * wavelet.BLOCK**2
BLOCK = 2 * wavelet.BLOCK  # pixels a side of one latent position
PACKETS_HALO = -(-wavelet.HALO // BLOCK)  # latents: the packets' reach


class Analysis(nn.Module):
    """Packet coefficients [B, 192, 2h, 2w] to latents [B, C, h, w].

    Args:
        latents: channels C.
        width, deep: channels of the blocks at 1/8 and at 1/16 resolution.
        blocks: how many of either.
    """

    def __init__(self, latents: int, width: int, deep: int, blocks: tuple[int, int]) -> None:
        super().__init__()
        fine, coarse = blocks
        self.skip = nn.Conv2d(4 * BANDS, latents, 1)
        self.head = nn.Conv2d(BANDS, width, 1)
        self.fine = nn.ModuleList(Block(width) for _ in range(fine))
        self.down = nn.Conv2d(4 * width, deep, 1)
        self.deep = nn.ModuleList(Block(deep) for _ in range(coarse))
        self.tail = nn.Conv2d(deep, latents, 1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)
        self.reach = coarse + -(-fine // 2)  # latents

    def forward(self, bands: Tensor, t: Tensor) -> Tensor:
        x = self.head(bands.to(self.tail.weight.dtype, memory_format=torch.channels_last))
        for block in self.fine:
            x = block(x, t)
        x = self.down(F.pixel_unshuffle(x, 2))
        for block in self.deep:
            x = block(x, t)
        detail = self.tail(x).float()
        with torch.autocast(bands.device.type, enabled=False):
            return self.skip(F.pixel_unshuffle(bands, 2)) + detail


class Synthesis(nn.Module):
    """Latents [B, C, h, w] to packet coefficients [B, 192, 2h, 2w]; arguments as for `Analysis`."""

    def __init__(self, latents: int, width: int, deep: int, blocks: tuple[int, int]) -> None:
        super().__init__()
        fine, coarse = blocks
        self.skip = nn.Conv2d(latents, 4 * BANDS, 1)
        self.head = nn.Conv2d(latents, deep, 1)
        self.deep = nn.ModuleList(Block(deep) for _ in range(coarse))
        self.up = nn.Conv2d(deep, 4 * width, 1)
        self.fine = nn.ModuleList(Block(width) for _ in range(fine))
        self.tail = nn.Conv2d(width, BANDS, 1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)
        self.reach = coarse + -(-fine // 2)  # latents

    def forward(self, latents: Tensor, t: Tensor) -> Tensor:
        x = self.head(latents.to(self.tail.weight.dtype, memory_format=torch.channels_last))
        for block in self.deep:
            x = block(x, t)
        x = F.pixel_shuffle(self.up(x), 2)
        for block in self.fine:
            x = block(x, t)
        detail = self.tail(x).float()
        with torch.autocast(latents.device.type, enabled=False):
            return F.pixel_shuffle(self.skip(latents), 2) + detail


def hasten(network: Analysis | Synthesis, dtype: torch.dtype) -> None:
    """Let all but the linear path run in a faster type."""
    for name, part in network.named_children():
        if name != "skip":
            part.to(dtype)


def packets(x: Tensor) -> Tensor:
    """Map pictures [B, 3, H, W] in -0.5..0.5 to packet coefficients [B, 192, H / 8, W / 8] in float32."""
    with torch.autocast(x.device.type, enabled=False):
        return wavelet.analysis(x)


def pictures(bands: Tensor) -> Tensor:
    """Invert `packets`."""
    with torch.autocast(bands.device.type, enabled=False):
        return wavelet.synthesis(bands.float())
