"""One way to train a network, for all experiments: what differs between two runs is what goes in."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Numbers of samples -> a batch of inputs, augmented at random, and its targets.
Draw = Callable[[Sequence[int], np.random.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        epochs, batch: passes over the samples, samples a step.
        lr, decay: largest rate and weight decay of AdamW; the rate rises over a tenth of the steps and then falls to
            zero along a cosine.
        smoothing: of labels.
        mixup: parameter of the beta distribution two samples are mixed by (Zhang et al., "mixup", ICLR 2018); 0: none.
        seed: of weights, order and augmentation.
    """

    epochs: int = 40
    batch: int = 64
    lr: float = 2e-3
    decay: float = 0.05
    smoothing: float = 0.1
    mixup: float = 0.2
    seed: int = 0


def fit(
    make: Callable[[], nn.Module],
    draw: Draw,
    count: int,
    plan: Plan,
    tell: Callable[[str], None],
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[nn.Module, float]:
    """Return a trained network and the seconds an epoch took.

    Args:
        make: the untrained network; made after the seed is set.
        draw: gives inputs and targets.
        count: number of samples.
        tell: called with a line on each epoch.
        loss: outputs, targets -> what to minimise; cross-entropy with smoothed labels by default.
    """
    torch.manual_seed(plan.seed)
    rng = np.random.default_rng(plan.seed)
    network = make().to(memory_format=torch.channels_last).train()
    loss = loss or (lambda out, target: F.cross_entropy(out, target, label_smoothing=plan.smoothing))
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": plan.decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=plan.lr, betas=(0.9, 0.98))
    steps = plan.epochs * (count // plan.batch)
    step, begun = 0, time.perf_counter()
    for epoch in range(plan.epochs):
        order, total = rng.permutation(count), 0.0
        for start in range(0, len(order) - plan.batch + 1, plan.batch):
            for group in optimizer.param_groups:
                group["lr"] = plan.lr * rate(step / steps)
            chosen = order[start : start + plan.batch]
            total += _step(network, optimizer, *draw(chosen, rng), plan, rng, loss)
            step += 1
        seconds = time.perf_counter() - begun
        tell(f"epoch {epoch + 1}/{plan.epochs}  loss {total / (len(order) // plan.batch):.3f}  {seconds:.0f} s")
    return network.eval(), (time.perf_counter() - begun) / plan.epochs


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    target: Tensor,
    plan: Plan,
    rng: np.random.Generator,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> float:
    """Do one step and return its loss."""
    share = float(rng.beta(plan.mixup, plan.mixup)) if plan.mixup else 1.0
    others = torch.from_numpy(rng.permutation(len(x)))
    if share < 1.0:
        x = share * x + (1 - share) * x[others]
    with torch.autocast("cpu", torch.bfloat16):
        out = network(x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x).float()
    value = loss(out, target)
    if share < 1.0:
        value = share * value + (1 - share) * loss(out, target[others])
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return float(value.detach())


def rate(done: float) -> float:
    """Return the learning rate, as a share of the largest, when this share of the steps is done."""
    return min(done / 0.1 + 0.01, 1.0) * 0.5 * (1 + math.cos(math.pi * max(done - 0.1, 0) / 0.9))


@torch.no_grad()
def accuracy(network: nn.Module, inputs: Sequence[Tensor], labels: Tensor) -> float:
    """Return the share of samples, each [channels, ...] of its own size, whose largest logit is their label's."""
    right = 0
    for x, label in zip(inputs, labels.tolist(), strict=True):
        with torch.autocast("cpu", torch.bfloat16):
            right += int(network(x[None]).argmax()) == label
    return right / len(labels)
