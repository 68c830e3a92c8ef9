"""Finite scalar quantization: a book is a small lattice, nothing is learned but what surrounds it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from codec.coding.exact import fix
from codec.models.layers.quantizers.base import ENTRY_BITS, Quantized, Quantizer


class FiniteScalar(Quantizer):
    """Channels bounded by tanh and rounded to a few levels (Mentzer et al., "Finite Scalar Quantization", 2024).

    Book k codes the channels k * d ... k * d + d - 1, d = len(levels), as one number in mixed radix, first channel
    fastest. Levels lie at multiples of 2 / (L - 1) from -1 to 1, rounded to 2**-12; even L have no level at zero.

    Args:
        width: channels, a multiple of len(levels).
        levels: for each channel of a book.
    """

    def __init__(self, width: int, *, levels: list[int]) -> None:
        super().__init__()
        if width % len(levels) or min(levels) < 2:
            raise ValueError(f"{width} channels cannot be cut into books of {len(levels)} with levels {levels}")
        self.width, self.levels = width, tuple(levels)
        self.sizes = (math.prod(levels),) * (width // len(levels))
        self.register_buffer("lattice", self._lattice(), persistent=False)

    def _lattice(self) -> Tensor:
        """Return the points of a book, [prod(levels), d]."""
        axes = [fix(torch.linspace(-1, 1, n, dtype=torch.float64), ENTRY_BITS) for n in self.levels]
        points = torch.cartesian_prod(*reversed(axes)).reshape(-1, len(axes))
        return points.flip(1).float()

    def _indices(self, x: Tensor) -> Tensor:
        """Return the level of each channel, [..., books, d]; x is bounded."""
        steps = x.new_tensor(self.levels) - 1
        return torch.floor((x.unflatten(-1, (-1, len(self.levels))) + 1) / 2 * steps + 0.5)

    def _codes(self, x: Tensor) -> Tensor:
        radix = x.new_tensor([math.prod(self.levels[:i]) for i in range(len(self.levels))])
        return (self._indices(x) * radix).sum(-1).long()

    def bound(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def encode(self, x: Tensor, books: int | None = None) -> Tensor:
        return self._codes(torch.tanh(x))[..., :books]

    def vectors(self, book: int) -> Tensor:
        d = len(self.levels)
        return torch.nn.functional.pad(self.lattice, (book * d, self.width - (book + 1) * d))

    def forward(self, x: Tensor, keep: Tensor) -> Quantized:
        bounded = torch.tanh(x)
        codes = self._codes(bounded)
        rounded = self.lattice[codes].flatten(-2)
        kept = torch.arange(self.books, device=x.device) < keep[:, None]
        kept = kept.repeat_interleave(len(self.levels), 1)[:, None]
        passed = bounded + (rounded - bounded).detach()
        return Quantized(passed * kept, codes, x.new_zeros(()))
