"""Residual networks that take pictures, latents or spectra: what experiments train, and what `student` is taught by.

Deliberately plain (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016): they are the yardstick, so
that what differs between two runs is what goes in.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fusion


@dataclass(frozen=True)
class Shape:
    """Shape of a classifier.

    Attributes:
        channels, classes: of the input, of the logits.
        stem: widths of convolutions of stride 2 in front, for pixels; empty: a 1x1 one into the first width.
        widths: of the stages; each but the first halves the grid.
        blocks: residual blocks a stage.
        line: inputs are sequences, [B, channels, 1, n]: nothing is convolved across.
    """

    channels: int
    classes: int
    stem: tuple[int, ...] = ()
    widths: tuple[int, ...] = (96, 192)
    blocks: int = 2
    line: bool = False


class ConvNorm(nn.Sequential):
    """A convolution and its batch normalisation, which `fold` makes one."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, *, line: bool = False) -> None:
        along = lambda value, across: (across, value) if line else (value, value)
        padding = along(size // 2, 0)
        conv = nn.Conv2d(inputs, outputs, along(size, 1), along(stride, 1), padding, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, *, line: bool = False) -> None:
        super().__init__()
        self.a = ConvNorm(inputs, outputs, 3, stride, line=line)
        self.b = ConvNorm(outputs, outputs, 3, line=line)
        same = (inputs, stride) == (outputs, 1)
        self.shortcut = nn.Identity() if same else ConvNorm(inputs, outputs, 1, stride, line=line)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.b(F.relu(self.a(x))))


class Classifier(nn.Module):
    """Map [B, channels, h, w] of any size to logits [B, classes]: stem, stages, mean over the grid, linear."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        ends = [shape.channels, *(shape.stem or shape.widths[:1])]
        size, stride = (3, 2) if shape.stem else (1, 1)
        self.stem = nn.ModuleList(ConvNorm(a, b, size, stride, line=shape.line) for a, b in pairwise(ends))
        self.stages = nn.ModuleList()
        width = ends[-1]
        for number, after in enumerate(shape.widths):
            strides = [2 if number else 1] + [1] * (shape.blocks - 1)
            inputs = [width] + [after] * (shape.blocks - 1)
            blocks = [Residual(a, after, step, line=shape.line) for a, step in zip(inputs, strides, strict=True)]
            self.stages.append(nn.Sequential(*blocks))
            width = after
        self.head = nn.Linear(width, shape.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.before(x, 0), 0)

    def before(self, x: Tensor, stage: int) -> Tensor:
        """Return what goes into a stage."""
        for layer in self.stem:
            x = F.relu(layer(x))
        for part in self.stages[:stage]:
            x = part(x)
        return x

    def after(self, x: Tensor, stage: int) -> Tensor:
        """Return the logits of what goes into a stage."""
        for part in self.stages[stage:]:
            x = part(x)
        return self.head(x.float().mean((2, 3)).to(self.head.weight.dtype)).float()


class Mapper(nn.Module):
    """Map a grid [B, channels, h, w] to another of the same size, [B, outputs, h, w]: residual blocks of one width."""

    def __init__(self, channels: int, outputs: int, *, width: int = 96, blocks: int = 4, line: bool = False) -> None:
        super().__init__()
        self.head = ConvNorm(channels, width, 3, line=line)
        self.body = nn.Sequential(*(Residual(width, width, line=line) for _ in range(blocks)))
        self.tail = nn.Conv2d(width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.body(F.relu(self.head(x)))).float()


def fold(network: nn.Module) -> nn.Module:
    """Return a copy for inference in which each normalisation is part of its convolution."""
    network = copy.deepcopy(network).eval()
    for part in network.modules():
        for name, child in list(part.named_children()):
            if isinstance(child, ConvNorm):
                setattr(part, name, fusion.fuse_conv_bn_eval(*child))
    return network


def folded(shape: Shape) -> Classifier:
    """Return a classifier of the form `fold` returns, untrained."""
    with torch.random.fork_rng([]):
        return fold(Classifier(shape))
