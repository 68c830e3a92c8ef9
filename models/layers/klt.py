"""The Karhunen-Loeve transform of some features: the closed form that training starts from."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def klt(features: Iterable[Tensor], components: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean [D], standard deviations [K] and orthonormal basis [D, K] of the K strongest components, float64.

    Args:
        features: batches [N, D].
    """
    total, outer, count = 0.0, 0.0, 0
    for batch in features:
        batch = batch.double()
        total, outer, count = total + batch.sum(0), outer + batch.T @ batch, count + len(batch)
    mean = total / count
    values, vectors = torch.linalg.eigh(outer / count - torch.outer(mean, mean))
    return mean, values.flip(0)[:components].clamp_min(1e-12).sqrt(), vectors.flip(1)[:, :components]


@torch.no_grad()
def become_klt(forward: nn.Conv2d, inverse: nn.Conv2d, features: Iterable[Tensor]) -> Tensor:
    """Make two convolutions the KLT of some features, whitened, and its inverse; return the deviations [K].

    Args:
        forward, inverse: D to K channels and back; taps beside the centre become zero.
        features: batches [N, D].
    """
    mean, deviation, basis = klt(features, forward.out_channels)
    for conv, weight, bias in (
        (forward, (basis / deviation).T, -((basis / deviation).T @ mean)),
        (inverse, basis * deviation, mean),
    ):
        row, col = (size // 2 for size in conv.kernel_size)
        conv.weight.zero_()
        conv.weight[:, :, row, col] = weight.float()
        conv.bias.copy_(bias.float())
    return deviation
