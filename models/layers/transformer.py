"""A small transformer over vectors in a row: attention and a network for each, both behind a norm.

After Vaswani et al., "Attention Is All You Need" (2017), with the norm first (Xiong et al., 2020). Vectors are
[B, n, width]; where they stand is for the caller to add to them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_HEAD = 64  # channels a head
_GROWTH = 3  # of the network's hidden layer


class Attention(nn.Module):
    """What each of some vectors takes from others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(width // _HEAD, 1)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, others: Tensor) -> Tensor:
        """Return [B, n, width] for x [B, n, width] and others [B, m, width]."""
        apart = lambda part: part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        keys, values = self.key_value(others).chunk(2, -1)
        # Spelled out: for a few hundred vectors it trains twice as fast on a processor as the fused kernel.
        queries = apart(self.query(x)) * (x.shape[-1] // self.heads) ** -0.5
        share = torch.softmax(queries @ apart(keys).transpose(-1, -2), -1).to(x.dtype)
        return self.out((share @ apart(values)).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """`x + attention(x, x or others)`, then `x + network(x)`; about 10 width**2 + 2 m width MAC a vector.

    Args:
        width: of the vectors.
        looks_out: whether it attends to other vectors, given with each call, instead of to its own.
    """

    def __init__(self, width: int, *, looks_out: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.others_norm = nn.LayerNorm(width) if looks_out else None
        self.attention = Attention(width)
        self.inner_norm = nn.LayerNorm(width)
        self.a = nn.Linear(width, _GROWTH * width)
        self.b = nn.Linear(_GROWTH * width, width)
        for last in (self.attention.out, self.b):
            nn.init.zeros_(last.bias)
            last.weight.data.mul_(0.5)

    def forward(self, x: Tensor, others: Tensor | None = None) -> Tensor:
        inside = self.norm(x)
        x = x + self.attention(inside, inside if self.others_norm is None else self.others_norm(others))
        return x + self.b(F.gelu(self.a(self.inner_norm(x))))


def places(count: int, width: int) -> nn.Parameter:
    """Return learned vectors [count, width] that tell positions apart."""
    return nn.Parameter(torch.randn(count, width) * 0.3)
