"""Several processes, one model: what `torchrun` starts. Without it, one process."""

from __future__ import annotations

import os

import torch
from torch import nn


def start(device: str) -> torch.device:
    """Join the processes torchrun started, if it did, and return this one's device.

    Args:
        device: `auto`, `cpu` or `cuda`.
    """
    wanted = "cuda" if device == "auto" and torch.cuda.is_available() else "cpu" if device == "auto" else device
    if "RANK" in os.environ and size() > 1:
        torch.distributed.init_process_group("nccl" if wanted == "cuda" else "gloo")
    if wanted == "cuda":
        local = int(os.environ.get("LOCAL_RANK", 0))
        torch.cuda.set_device(local)
        return torch.device("cuda", local)
    return torch.device(wanted)


def rank() -> int:
    return int(os.environ.get("RANK", 0))


def size() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def average_gradients(model: nn.Module) -> None:
    """Replace every gradient by its mean over the processes: one flat all-reduce."""
    if size() == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    torch.distributed.all_reduce(flat)
    flat /= size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def sums(*values: torch.Tensor) -> list[torch.Tensor]:
    """Return tensors added up over the processes."""
    if size() > 1:
        for value in values:
            torch.distributed.all_reduce(value)
    return list(values)


def from_first(value: torch.Tensor) -> torch.Tensor:
    """Return the tensor that the first process has."""
    if size() > 1:
        torch.distributed.broadcast(value, 0)
    return value


def wait() -> None:
    """Return when all processes are here: none may leave while another still talks to it."""
    if size() > 1:
        torch.distributed.barrier()


def finish() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
