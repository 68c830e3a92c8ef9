"""Probabilities of the tokens of a layer from those of the same region and layer that are known: one network a layer.

Tokens are coded in passes that double: token 0, 1, 2-3, 4-7, and so on, of all regions at once. Regions differ in how
much happens in them, so a network sees the mean magnitudes of the vectors that a region's tokens had so far. It answers
with a quadratic function of a vector, a and b for each of its D coefficients: an entry e of the book has the log2 mass
bias(e) + sum of a e**2 + b e. That is few numbers for an alphabet of thousands, and what it learns of one entry holds
for those like it. Everything is exact (`codec.coding.exact`); layers need nothing of each other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.coding.coder import Coder
from codec.coding.exact import ACTIVATION_BITS, ACTIVATION_MAX, EXP2_BITS, ExactLinear, fix
from codec.models.layers.layered_books import Layer

_PASSES = 12  # that are told apart
_AT_ONCE = 1024  # alphabets that are held at a time: bounds memory, changes no bit


class TokenPrior(nn.Module):
    """log2 masses of the tokens of one layer.

    Args:
        depth: D, of the layer's vectors.
        entries: of its book.
        hidden: width of the network.
    """

    def __init__(self, depth: int, entries: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            ExactLinear(depth + _PASSES, hidden, relu=True),
            ExactLinear(hidden, hidden, relu=True),
            ExactLinear(hidden, 2 * depth, relu=False),
        )
        self.net[-1].weight.data.mul_(0.1)
        self.bias = nn.Parameter(torch.zeros(entries))

    @torch.no_grad()
    def initialize(self, layer: Layer) -> None:
        """Start from how often each entry is used."""
        share = layer.usage * len(layer.usage)
        self.bias.copy_(((share + 1) / 2).log2())  # half-way to all alike: a book sees few vectors an entry

    def code(self, coder: Coder, tokens: Tensor | None, grid: tuple[int, int, int], layer: Layer) -> Tensor:
        """Pass the first tokens of a layer through the coder and return them, [B, R, n].

        Args:
            tokens: whole numbers held as floats, [B, R, n]; None when decoding.
            grid: B, regions R and n.
            layer: whose vectors are the context; in float64, frozen, to be exact.
        """

        def decide(start: int, stop: int, log2_mass: Tensor) -> Tensor:
            given = None if tokens is None else tokens[..., start:stop]
            return _in_parts(coder.masses, given, log2_mass)

        return self._decided(grid, layer, decide)

    @torch.no_grad()
    def choose(self, x: Tensor, layer: Layer, price: float) -> Tensor:
        """Return tokens [B, R, n] of vectors [B, R, n, D] that are near and cost few bits, as they will be coded.

        Chou et al., "Entropy-Constrained Vector Quantization" (1989), with the masses that tokens coded before give.

        Args:
            price: squared distance that is worth a bit.
        """
        squares = layer.entries.square().sum(1)

        def cheapest(part: Tensor, log2_mass: Tensor) -> Tensor:
            return (squares - 2 * part @ layer.entries.T - price * log2_mass).argmin(-1)

        def decide(start: int, stop: int, log2_mass: Tensor) -> Tensor:
            return _in_parts(cheapest, x[..., start:stop, :], log2_mass)

        return self._decided(tuple(x.shape[:3]), layer, decide)

    def _decided(
        self, grid: tuple[int, int, int], layer: Layer, decide: Callable[[int, int, Tensor], Tensor]
    ) -> Tensor:
        """Return tokens [B, R, n] that a function of their range and log2 masses [B, R, k, entries] decides upon."""
        batch, regions, count = grid
        features = self._features(layer.entries)
        out, sums = [], layer.entries.new_zeros(batch, regions, layer.entries.shape[1])
        start = number = 0
        while start < count:
            stop = min(max(2 * start, 1), count)
            known = fix(sums / max(start, 1), ACTIVATION_BITS).clamp(max=ACTIVATION_MAX)
            log2_mass = self._masses(known, number, features)[..., None, :].expand(-1, -1, stop - start, -1)
            decided = decide(start, stop, log2_mass)
            out.append(decided)
            sums = sums + layer.entries[decided.long()].abs().sum(2)
            start, number = stop, number + 1
        return torch.cat(out, -1)

    def _features(self, entries: Tensor) -> Tensor:
        """Return squares and values [entries, 2 D] of a book, 10 fraction bits."""
        both = fix(torch.cat([entries.square(), entries], 1), ACTIVATION_BITS)
        return both.clamp(-ACTIVATION_MAX, ACTIVATION_MAX)

    def _masses(self, known: Tensor, number: int, features: Tensor) -> Tensor:
        """Return log2 masses [B, R, entries] in pass `number`, given the mean magnitudes [B, R, D] so far."""
        which = F.one_hot(torch.tensor(min(number, _PASSES - 1), device=known.device), _PASSES).to(known)
        answer = self.net(torch.cat([known, which.expand(*known.shape[:2], -1)], -1))
        return fix(answer @ features.T + fix(self.bias, ACTIVATION_BITS), EXP2_BITS)


def _in_parts(act: Callable[[Tensor | None, Tensor], Tensor], given: Tensor | None, log2_mass: Tensor) -> Tensor:
    """Return what comes of [B, R, k, ...] with masses [B, R, k, entries], some regions at a time: [B, R, k]."""
    regions = max(1, _AT_ONCE // log2_mass.shape[2])
    masses = log2_mass.split(regions, 1)
    parts = [None] * len(masses) if given is None else given.split(regions, 1)
    return torch.cat([act(*pair) for pair in zip(parts, masses, strict=True)], 1)
