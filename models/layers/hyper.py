"""Hyperprior: side information z at a quarter of the latents' resolution, and the exact network that reads it.

After Balle et al., "Variational image compression with a scale hyperprior" (ICLR 2018). z is coded with a location and
scale for each channel that follow the quality; h_s runs in integer arithmetic, because what it says decides bits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.coding.coder import Coder
from codec.coding.exact import ACTIVATION_BITS, ExactLinear, fix
from codec.models.layers.quality import ANCHORS, interpolate

STRIDE = 4  # latent positions a side of one position of z
Z_MAX = 32.0  # z saturates here, so that h_s is always given what fits its activations


def coarse(height: int, width: int) -> tuple[int, int]:
    """Return the size of z for a grid of latents."""
    return -(-height // STRIDE), -(-width // STRIDE)


class HyperAnalysis(nn.Module):
    """h_a: latents [B, C, h, w] and quality [B] to z, unrounded, [B, ceil(h / 4), ceil(w / 4), Z]."""

    def __init__(self, latents: int, channels: int, width: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(latents + 1, width, 3, padding=1)
        self.b = nn.Conv2d(width * STRIDE**2, 2 * width, 1)
        self.c = nn.Conv2d(2 * width, channels, 1)

    def forward(self, latents: Tensor, t: Tensor) -> Tensor:
        missing = [-n % STRIDE for n in latents.shape[-2:]]
        x = F.pad(latents, (0, missing[1], 0, missing[0]), mode="replicate")
        x = torch.cat([x, (t * 2 - 1).to(x.dtype)[:, None, None, None].expand(-1, 1, *x.shape[-2:])], 1)
        x = F.pixel_unshuffle(F.leaky_relu(self.a(x), 0.1), STRIDE)
        z = self.c(F.leaky_relu(self.b(x), 0.1))
        return z.float().permute(0, 2, 3, 1).clamp(-Z_MAX, Z_MAX)


class HyperSynthesis(nn.Module):
    """h_s: z [B, h', w', Z] to features [B, 4 h', 4 w', F], exact; and the prior of z."""

    def __init__(self, channels: int, features: int, width: int) -> None:
        super().__init__()
        self.features = features
        self.location = nn.Parameter(torch.zeros(ANCHORS, channels))
        self.log2_scale = nn.Parameter(torch.zeros(ANCHORS, channels))
        self.a = ExactLinear(9 * channels + 1, 2 * width, relu=True)
        self.b = ExactLinear(2 * width, STRIDE**2 * features, relu=True)

    def code(self, coder: Coder, z: Tensor | None, grid: tuple[int, int, int], t: Tensor) -> Tensor:
        """Pass z through the coder and return it, rounded, with the gradient of `z`."""
        location, log2_scale = (
            interpolate(fix(table, ACTIVATION_BITS), t)[:, None, None].expand(*grid, -1)
            for table in (self.location, self.log2_scale)
        )
        coded = coder(z, location, log2_scale)
        return coded if z is None or not z.requires_grad else fix(z, 0)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        batch, rows, cols, _ = z.shape
        padded = F.pad(z.clamp(-Z_MAX, Z_MAX), (0, 0, 1, 1, 1, 1))
        views = [padded[:, r : r + rows, c : c + cols] for r in range(3) for c in range(3)]
        x = torch.cat([*views, condition[:, None, None].expand(batch, rows, cols, -1)], -1)
        x = self.b(self.a(x)).reshape(batch, rows, cols, STRIDE, STRIDE, self.features)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(batch, rows * STRIDE, cols * STRIDE, self.features)
