"""The residual block of transforms at 1/8 and 1/16 resolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.models.layers.quality import ANCHORS, interpolate


class Block(nn.Module):
    """`x + gain(q) * mlp(depthwise 3x3 (x))`; [B, C, h, w]. About 4 C**2 MAC a position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.a = nn.Conv2d(width, 2 * width, 1)
        self.b = nn.Conv2d(2 * width, width, 1)
        self.gain = nn.Parameter(torch.full((ANCHORS, width), 0.3))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        gain = interpolate(self.gain.float(), t)[..., None, None].to(x.dtype)
        return x + self.b(F.leaky_relu(self.a(self.spatial(x)), 0.1)) * gain
