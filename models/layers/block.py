"""The residual block of transforms, of pictures and of sound."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.models.layers.quality import ANCHORS, interpolate


class Block(nn.Module):
    """`x + gain(q) * mlp(depthwise convolution (x))`; [B, C, h, w]. About 4 C**2 MAC a position.

    Args:
        width: channels C.
        size: of the depthwise convolution, rows and columns; sequences have one row.
    """

    def __init__(self, width: int, size: tuple[int, int] = (3, 3)) -> None:
        super().__init__()
        padding = (size[0] // 2, size[1] // 2)
        self.spatial = nn.Conv2d(width, width, size, padding=padding, groups=width)
        self.a = nn.Conv2d(width, 2 * width, 1)
        self.b = nn.Conv2d(2 * width, width, 1)
        self.gain = nn.Parameter(torch.full((ANCHORS, width), 0.3))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        gain = interpolate(self.gain.float(), t)[..., None, None].to(x.dtype)
        return x + self.b(F.leaky_relu(self.a(self.spatial(x)), 0.1)) * gain
