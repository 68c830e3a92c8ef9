"""Encoder effort: gradient descent on the latents of one file.

Rounding is relaxed in two phases while Adam descends on rate + lambda * distortion. First each latent is drawn at
random between its two neighbours, with probabilities that sharpen: stochastic Gumbel annealing (Yang, Bamler & Mandt,
"Improving Inference for Neural Image Compression", NeurIPS 2020, section 3.2), which finds the cheaper side of large
decisions. Then `soft_round` (Agustsson & Theis, "Universally Quantized Neural Compression", NeurIPS 2020, equation 12)
settles the small ones. The first gains most at low rates, the second at high ones. The decoder is unchanged, and the
result is never worse than plain rounding in the cost it minimises.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

STEPS = {1: 0, 2: 8, 3: 16, 4: 32, 5: 48, 6: 64, 7: 96, 8: 128, 9: 256, 10: 512}  # by effort
_ANNEALING_SHARE = 0.8  # of the steps
# Adam's step, in quantization steps, times the root of how many there are: what chance adds up to is then the same.
_ANNEALING_RATE, _SETTLING_RATE = 0.068, 0.045
_TEMPERATURE = (0.5, 0.05)  # of the annealing, first and last
_SHARPNESS = (8.0, 16.0)  # of the soft rounding, first and last

Cost = Callable[[Tensor], Tensor]


def soft_round(x: Tensor, sharpness: float) -> Tensor:
    """Return a smooth step function that tends to the identity for sharpness 0, to rounding for infinity."""
    middle = torch.floor(x) + 0.5
    return middle + 0.5 * torch.tanh(sharpness * (x - middle)) / math.tanh(sharpness / 2)


def gumbel_round(x: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Return a random relaxed choice between floor and ceiling of each element, the nearer one more likely."""
    low = torch.floor(x.detach())
    distance = (x - low).clamp(1e-4, 1 - 1e-4)
    logits = torch.stack([-torch.atanh(distance), -torch.atanh(1 - distance)]) / temperature
    uniform = torch.rand(logits.shape, generator=generator).clamp(1e-9, 1 - 1e-9)
    return low + torch.softmax((logits - torch.log(-torch.log(uniform))) / temperature, 0)[1]


def refine(cost: Cost, y: Tensor, effort: int, progress: Callable[[float], None]) -> Tensor:
    """Return whole latents near `y` whose cost is lower than that of rounding it.

    Args:
        cost: rate + lambda * distortion of (relaxed) rounded latents, differentiable.
        y: latents in quantization steps, any shape, on the CPU.
        effort: 1-10.
        progress: called with the fraction done.
    """
    steps = STEPS[effort]
    annealing = round(_ANNEALING_SHARE * steps)
    generator = torch.Generator().manual_seed(0)  # the same file every time
    with torch.inference_mode(False), torch.enable_grad():
        z = y.clone().requires_grad_()

        def descend(start: int, count: int, rate: float, relax: Callable[[Tensor, float], Tensor]) -> None:
            optimizer = torch.optim.Adam([z], lr=rate / math.sqrt(max(steps, 1)), betas=(0.9, 0.98))
            for i in range(count):
                value = cost(relax(z, i / max(count - 1, 1)))
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                progress((start + i + 1) / (steps + 1))

        descend(0, annealing, _ANNEALING_RATE, lambda z, f: gumbel_round(z, _between(_TEMPERATURE, f), generator))
        descend(annealing, steps - annealing, _SETTLING_RATE, lambda z, f: soft_round(z, _between(_SHARPNESS, f)))
    with torch.no_grad():
        candidates = [torch.floor(y + 0.5), torch.floor(z.detach() + 0.5)]
        return min(candidates, key=lambda rounded: float(cost(rounded)))


def refine_choice(cost: Cost, x: Tensor, effort: int, progress: Callable[[float], None], *, rate: float) -> Tensor:
    """Return a place near `x` where what is chosen costs less; `x` itself if there is none.

    For symbols that name entries of codebooks. Adam descends on the cost of the choice, with gradients passed straight
    through, and the best place on the way is kept.

    Args:
        cost: of the entries chosen at a place; its value exact, its gradient as if nothing had been chosen.
        x: what the encoder says, any shape.
        effort: 1-10.
        progress: called with the fraction done.
        rate: Adam's first step; it shrinks to nothing.
    """
    with torch.inference_mode(False), torch.enable_grad():
        z = x.clone().requires_grad_()
        optimizer = torch.optim.Adam([z], lr=rate, betas=(0.9, 0.98))
        best, least = x, math.inf
        for i in range(STEPS[effort] + 1):
            value = cost(z)
            if float(value.detach()) < least:
                best, least = z.detach().clone(), float(value.detach())
            if i < STEPS[effort]:
                optimizer.param_groups[0]["lr"] = rate * (1 - i / STEPS[effort])
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
            progress((i + 1) / (STEPS[effort] + 1))
    return best


def _between(ends: tuple[float, float], fraction: float) -> float:
    """Interpolate geometrically."""
    return ends[0] * (ends[1] / ends[0]) ** fraction
