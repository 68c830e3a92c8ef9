"""How much a network computes."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def megamacs(network: nn.Module, x: Tensor) -> float:
    """Return millions of multiply-adds of the convolutions and matrix products of one forward pass, without bias."""
    total = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal total
        weight = module.weight
        total += out.numel() // out.shape[0] * weight[0].numel()

    hooks = [
        m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Linear)
    ]
    training = network.training
    try:
        network.eval()(x)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return total / 1e6
