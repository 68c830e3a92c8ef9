"""Integer arithmetic that is exact on any device, in any order, with any number of threads.

Everything that decides a probability is computed on *dyadic fixed-point numbers*: integers divided by a
power of two, held in float64. A sum of products of such numbers is exact as long as it stays below 2**53
in units of the last place, whatever the order of summation, so a matrix product gives the same bits
everywhere. The same code trains: in a smaller float type `fix` is a straight-through fake quantization.

Only these operations are used between decoded symbols and table indices: matrix products, sums, products,
`floor`, `clamp` and table look-ups. No `exp`, no division, no convolution algorithm that may pick Winograd.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from codec.errors import ModelError

ACTIVATION_BITS = 10  # fraction bits of every activation (Q.10)
ACTIVATION_MAX = 64.0  # activations saturate here, so sums can be bounded in advance
WEIGHT_BITS = 10  # fraction bits of every weight (Q.10)


def fix(x: Tensor, bits: int) -> Tensor:
    """Round to the nearest multiple of 2**-bits (ties up), passing gradients straight through.

    Args:
        x: any shape; exact in float64 for |x| < 2**(52 - bits).
        bits: fraction bits to keep.
    """
    scale = float(1 << bits)
    rounded = torch.floor(x.detach() * scale + 0.5) / scale
    return rounded if not x.requires_grad else x + (rounded - x).detach()


def _exp2_table(bits: int, precision: int) -> list[int]:
    """Return round(2**(i / 2**bits) * 2**precision) for each i, by integer square roots alone."""
    guard = 40  # extra bits so that the rounding of repeated roots never reaches the result
    one = precision + guard
    roots = [math.isqrt(2 << (2 * one))]  # 2**(1/2), 2**(1/4), ... in fixed point
    for _ in range(bits - 1):
        roots.append(math.isqrt(roots[-1] << one))
    table = []
    for i in range(1 << bits):
        value = 1 << one
        for k, root in enumerate(roots):
            if i >> (bits - 1 - k) & 1:
                value = value * root >> one
        table.append((value + (1 << (guard - 1))) >> guard)
    return table


EXP2_BITS = 8  # exponents are multiples of 1/256 octave
_EXP2_PRECISION = 20
_EXP2 = torch.tensor(_exp2_table(EXP2_BITS, _EXP2_PRECISION), dtype=torch.float64) / float(1 << _EXP2_PRECISION)


def exp2(x: Tensor) -> Tensor:
    """Return 2**x as a dyadic number for `x` in multiples of 2**-8 (float64), or plain `exp2` in training.

    Args:
        x: any shape, |x| <= 20.
    """
    if x.dtype != torch.float64:
        return torch.exp2(x)
    whole = torch.floor(x)
    index = ((x - whole) * (1 << EXP2_BITS)).long()
    # torch.ldexp multiplies by a power of two: exact.
    return torch.ldexp(_EXP2.to(x.device)[index], whole.long())


def fraction_bits(part: nn.Module, name: str) -> dict[str, int]:
    """Return the parameters of a module built of `ExactLinear` -> their fraction bits, for `System.fixed_point`."""
    return {
        f"{name}.{parameter}": WEIGHT_BITS if parameter.endswith("weight") else ACTIVATION_BITS
        for parameter, _ in part.named_parameters()
    }


def freeze(part: nn.Module) -> None:
    """Make a module built of `ExactLinear` exact, on the CPU, where what decides bits stays."""
    part.cpu()
    for module in part.modules():
        if hasattr(module, "freeze"):
            module.freeze()
    part.double()


class ExactLinear(nn.Module):
    """Affine map with Q.10 weights, followed by rounding and saturation to Q.10: `[..., in] -> [..., out]`.

    In float64 with parameters rounded by `freeze` the result is exact; in float32 it is the
    straight-through training twin. `relu` clamps below at zero.

    Raises:
        ModelError: `freeze` finds weights so large that a sum could pass 2**53.
    """

    def __init__(self, inputs: int, outputs: int, *, relu: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * math.sqrt((2.0 if relu else 1.0) / inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.relu = relu
        self.frozen = False

    def forward(self, x: Tensor) -> Tensor:
        low = 0.0 if self.relu else -ACTIVATION_MAX
        if self.frozen and x.dtype == torch.float64:  # the same numbers, without copies and gradients
            y = torch.addmm(self.bias, x.flatten(0, -2), self.weight.T).reshape(*x.shape[:-1], -1)
            scale = float(1 << ACTIVATION_BITS)
            return y.mul_(scale).add_(0.5).floor_().div_(scale).clamp_(low, ACTIVATION_MAX)
        weight = self.weight if self.frozen else fix(self.weight, WEIGHT_BITS)
        y = torch.matmul(x, weight.T) + fix(self.bias, ACTIVATION_BITS)
        return fix(y, ACTIVATION_BITS).clamp(low, ACTIVATION_MAX)

    @torch.no_grad()
    def freeze(self) -> None:
        """Round the parameters to their fixed-point grid, move them to float64 and check the bound."""
        self.double()
        self.weight.copy_(fix(self.weight, WEIGHT_BITS))
        self.bias.copy_(fix(self.bias, ACTIVATION_BITS))
        unit = 2.0 ** (WEIGHT_BITS + ACTIVATION_BITS)
        largest = self.weight.abs().sum(1).max() * ACTIVATION_MAX * unit + self.bias.abs().max() * unit
        self.frozen = True
        if not largest < 2.0**52:
            raise ModelError(f"integer layer may overflow: a sum could reach {largest:.3g}, the limit is 2**52")
