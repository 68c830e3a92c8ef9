"""Frequencies of an alphabet computed from a network's output, exactly: for codes of large codebooks.

Most probabilities of a stream are read from tables that ship with a model. An alphabet of a thousand codes whose
probabilities depend on the codes around them would need a table for each surrounding; here its frequencies are computed
instead, by a table of powers of two, sums and divisions of whole numbers: the same everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

from codec.coding.exact import EXP2_BITS, exp2

MASS_BITS = 24  # the frequencies of an alphabet sum to 2**24
_WEIGHT_BITS = 20  # of the largest mass
_RANGE = 24  # octaves below the largest mass at which a weight is surely zero
_WEIGHTS = torch.floor(
    exp2(torch.arange((_RANGE << EXP2_BITS) + 1, dtype=torch.float64) / -(1 << EXP2_BITS)) * (1 << _WEIGHT_BITS)
)


def frequencies(log2_mass: Tensor) -> Tensor:
    """Return whole frequencies [..., n] >= 1 that sum to 2**24, float64, of symbols with masses 2**log2_mass [..., n].

    With d >= 0 the distance to the largest log2_mass of the row, the weight of a symbol is w = floor(2**20 * 2**-d)
    (`exact.exp2`) and its frequency 1 + floor(w * (2**24 - n) / sum(w)). What is left goes to the first symbol of
    largest mass.

    Args:
        log2_mass: multiples of 2**-8, float64; n at most 2**20.
    """
    n = log2_mass.shape[-1]
    where = log2_mass.argmax(-1, keepdim=True)  # the first of them
    distance = (log2_mass.gather(-1, where) - log2_mass) * (1 << EXP2_BITS)
    weights = _WEIGHTS[distance.clamp_(max=_RANGE << EXP2_BITS).int()]
    total = weights.sum(-1, keepdim=True)
    # Exact in float64: a quotient of numbers below 2**53 is never rounded up to the next whole number.
    out = weights.mul_((1 << MASS_BITS) - n).div_(total).floor_().add_(1)
    return out.scatter_add_(-1, where, (1 << MASS_BITS) - out.sum(-1, keepdim=True))
