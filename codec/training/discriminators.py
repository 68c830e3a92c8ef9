"""What networks that tell signals from their reconstructions share, and what both sides of that contest minimise.

Each network returns the outputs [B', C, ...] of its layers; the last, of one channel, is its verdict: 1 for a signal,
0 for a reconstruction. They only teach: nothing of them is in a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Discriminators(nn.ModuleList, ABC):
    """All networks that a run is trained against."""

    @abstractmethod
    def signals(self, x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return signals and reconstructions of a run, differentiably, as `forward` takes them."""

    @abstractmethod
    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """Map signals to the layers of each network."""


def discriminator_loss(real: list[list[Tensor]], made: list[list[Tensor]]) -> Tensor:
    """Return the squared error of verdicts on signals and reconstructions (Mao et al., "Least Squares GAN", 2017)."""
    return sum((1 - a[-1]).square().mean() + b[-1].square().mean() for a, b in zip(real, made, strict=True))


def adversarial_loss(made: list[list[Tensor]]) -> Tensor:
    """Return how far verdicts on reconstructions are from those on perfect signals, squared."""
    return sum((1 - layers[-1]).square().mean() for layers in made)


def feature_distance(real: list[list[Tensor]], made: list[list[Tensor]]) -> Tensor:
    """Return the sum over layers of mean |real - made|: feature matching, verdicts left out (HiFi-GAN, 2.4)."""
    pairs = [pair for a, b in zip(real, made, strict=True) for pair in zip(a[:-1], b[:-1], strict=True)]
    return sum((a - b).abs().mean(dtype=torch.float32) for a, b in pairs)  # of layers in half precision, too


def through(body: Iterable[nn.Module], x: Tensor, slope: float) -> list[Tensor]:
    """Return the output of every layer, rectified; negative values keep `slope` of themselves."""
    layers = []
    for layer in body:
        x = F.leaky_relu(layer(x), slope)
        layers.append(x)
    return layers
