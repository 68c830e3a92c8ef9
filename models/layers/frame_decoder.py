"""The network that is fitted to a clip: embeddings of frames to pixels, with all its work at low resolution.

    e [C, h, w] --[ up ]--[ up ]-- ... --[ up ]--[ 3x3, 48 channels, pixel shuffle 4 ]--> frame

`up` doubles the resolution: 3x3 convolution, pixel shuffle, activation, residual blocks. The last quarter is left to
one pixel shuffle, because narrow convolutions at full resolution are what a CPU is slowest at. Options, each a block:

- `pointwise`: what mixes channels sees one position, 1x1 instead of 3x3 in `up` and before the last shuffle; only the
  depthwise kernels of `Separable` blocks, three a stage, look around. A weight that sees nine positions costs as much
  as one that sees one of a wider layer, and the latter is worth more;
- sine activations, and `Affine`: scale and shift of the features by the time of the frame (Zhang et al., "Boosting
  Neural Representations for Videos with a Conditional Decoder", CVPR 2024);
- `Separable` residual blocks and a bilinear `skip` around each `up` (Ghorbel et al., "NeRV++: An Enhanced Implicit
  Neural Video Representation", 2024);
- `Previous`: gated features of the frame before (as in TCNeRV, but of its embedding rather than of its pixels, so any
  frame of a group can be decoded alone).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHUFFLE = 4  # pixels a side of what the head makes of one position
OPTIONS = ("sine", "affine", "separable", "skip", "previous", "pointwise")  # a stream holds their bits: append only
_WAVES = 16  # of the time of a frame
_TIME_WIDTH = 32
_NARROWING = 1.3  # of widths from one stage to the next
_MULTIPLE = 4  # widths are multiples of it
_DEPTH = 3  # residual blocks of a pointwise stage


@dataclass(frozen=True)
class Shape:
    """What fixes the network.

    Attributes:
        channels: of an embedding.
        width: channels at a quarter of the resolution.
        stages: how many times the resolution is doubled.
        options: out of `OPTIONS`.
    """

    channels: int
    width: int
    stages: int
    options: frozenset[str]

    @property
    def cell(self) -> int:
        """Pixels a side of one position of an embedding."""
        return SHUFFLE << self.stages

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the embedding and after each stage."""
        wide = (self.width * _NARROWING ** (self.stages - 1 - i) for i in range(self.stages))
        return self.channels, *(_MULTIPLE * max(round(w / _MULTIPLE), 1) for w in wide)

    @property
    def kernel(self) -> int:
        """Positions a side that a convolution of all channels sees."""
        return 1 if "pointwise" in self.options else 3

    @property
    def depth(self) -> int:
        """Residual blocks of a stage."""
        return _DEPTH if "pointwise" in self.options else int("separable" in self.options)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return rows and columns of an embedding."""
        return -(-height // self.cell), -(-width // self.cell)


class Separable(nn.Module):
    """Residual block: depthwise 3x3 and a two-layer perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.a = nn.Conv2d(width, 2 * width, 1)
        self.b = nn.Conv2d(2 * width, width, 1)
        self.b.weight.data.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(F.gelu(self.a(self.spatial(x))))


class Affine(nn.Module):
    """Scale and shift of features [B, C, h, w] by what is known of the time [B, `_TIME_WIDTH`]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_time = nn.Linear(_TIME_WIDTH, 2 * width)
        nn.init.zeros_(self.of_time.weight)
        nn.init.zeros_(self.of_time.bias)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.of_time(time)[..., None, None].chunk(2, 1)
        return x * (1 + scale) + shift


class Previous(nn.Module):
    """Features plus those of the frame before, mixed and gated channel by channel; gates begin closed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, width, 1)
        self.gate = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        return x + self.gate[:, None, None] * self.mix(before)


class Up(nn.Module):
    """Twice the resolution."""

    def __init__(self, shape: Shape, stage: int) -> None:
        super().__init__()
        inputs, outputs = shape.widths[stage : stage + 2]
        self.conv = nn.Conv2d(inputs, 4 * outputs, shape.kernel, padding=shape.kernel // 2)
        self.affine = Affine(outputs) if "affine" in shape.options else None
        self.blocks = nn.Sequential(*(Separable(outputs) for _ in range(shape.depth)))
        self.activation = torch.sin if "sine" in shape.options else F.gelu
        self.shared = min(inputs, outputs) if "skip" in shape.options else 0

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        y = F.pixel_shuffle(self.conv(x), 2)
        if self.shared:
            smooth = F.interpolate(x[:, : self.shared], scale_factor=2, mode="bilinear", align_corners=False)
            y = torch.cat([y[:, : self.shared] + smooth, y[:, self.shared :]], 1)
        y = y if self.affine is None else self.affine(y, time)
        return self.blocks(self.activation(y))


class FrameDecoder(nn.Module):
    """Embeddings [B, C, h, w] to pixels [B, 3, cell * h, cell * w], about -0.5..0.5."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.up = nn.ModuleList(Up(shape, stage) for stage in range(shape.stages))
        self.head = nn.Conv2d(shape.widths[-1], 3 * SHUFFLE**2, shape.kernel, padding=shape.kernel // 2)
        self.time = nn.Linear(2 * _WAVES, _TIME_WIDTH) if "affine" in shape.options else None
        self.previous = Previous(shape.widths[1]) if "previous" in shape.options else None

    def forward(self, e: Tensor, before: Tensor, time: Tensor) -> Tensor:
        """Return pixels.

        Args:
            before: embeddings of the frames before, zero for a first one.
            time: [B], 0..1 in the group.
        """
        known = None if self.time is None else torch.sin(self.time(_waves(time)))
        x = self.up[0](e, known)
        if self.previous is not None:
            x = self.previous(x, self.up[0](before, known))
        for up in self.up[1:]:
            x = up(x, known)
        return F.pixel_shuffle(self.head(x), SHUFFLE)


def _waves(time: Tensor) -> Tensor:
    """Return sines and cosines of times [B], [B, 2 * `_WAVES`]; from one period to 1.25**15 of them."""
    phase = math.pi * (2 * time[:, None] - 1) * 1.25 ** torch.arange(_WAVES, device=time.device)
    return torch.cat([torch.sin(phase), torch.cos(phase)], 1)


def synthesis_macs(shape: Shape) -> float:
    """Return multiply-adds a pixel of decoding a frame."""
    around, total = shape.kernel**2, 0.0
    for i, (a, b) in enumerate(pairwise(shape.widths)):
        total += around * a * 4 * b / (shape.cell >> i) ** 2
        total += shape.depth * (9 * b + 4 * b * b) / (shape.cell >> i + 1) ** 2
    return total + around * shape.widths[-1] * 3
