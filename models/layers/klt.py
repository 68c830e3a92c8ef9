"""The Karhunen-Loeve transform of some features: the closed form that training starts from."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


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
