"""Encoder effort: gradient descent on the latents of one file.

Rounding is annealed: `soft_round` (Agustsson & Theis, "Universally Quantized Neural Compression", NeurIPS 2020,
equation 12) moves from near identity to a hard step while Adam descends on rate + lambda * distortion, so latents
settle on the cheaper side of each decision. Compare "Improving Inference for Neural Image Compression" (Yang,
Bamler & Mandt, NeurIPS 2020). The decoder is unchanged. The best rounded latents seen are kept, so more effort
is never worse than effort 1 in the cost it minimises.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

_STEPS = {1: 0, 2: 8, 3: 16, 4: 32, 5: 48, 6: 64, 7: 96, 8: 128, 9: 256, 10: 512}
_RATE = 0.06  # step of Adam, in quantization steps
_SHARPNESS = (2.0, 12.0)  # of the soft rounding, first and last


def soft_round(x: Tensor, sharpness: float) -> Tensor:
    """Return a smooth step function that tends to the identity for sharpness 0, to rounding for infinity."""
    middle = torch.floor(x) + 0.5
    return middle + 0.5 * torch.tanh(sharpness * (x - middle)) / math.tanh(sharpness / 2)


def refine(cost: Callable[[Tensor], Tensor], y: Tensor, effort: int, progress: Callable[[float], None]) -> Tensor:
    """Return latents near `y` whose rounding costs less.

    Args:
        cost: rate + lambda * distortion in bits of (softly) rounded latents, differentiable.
        y: latents in quantization steps, any shape.
        effort: 1-10.
        progress: called with the fraction done.
    """
    steps = _STEPS[effort]
    with torch.enable_grad():
        best = torch.floor(y + 0.5)
        with torch.no_grad():
            best_cost = cost(best)
        z = y.clone().requires_grad_()
        optimizer = torch.optim.Adam([z], lr=_RATE, betas=(0.9, 0.95))
        for i in range(steps):
            low, high = _SHARPNESS
            sharpness = low * (high / low) ** (i / max(steps - 1, 1))
            optimizer.param_groups[0]["lr"] = _RATE * (1 - 0.7 * i / steps)
            value = cost(soft_round(z, sharpness))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            progress((i + 1) / (steps + 1))
        with torch.no_grad():
            rounded = torch.floor(z + 0.5)
            if cost(rounded) < best_cost:
                best = rounded
    return best
