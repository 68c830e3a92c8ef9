"""Tokens in layers: each layer refines, with the codebook that its tokens share, what the layers before left over.

Vectors of N coefficients become tokens of which any first few are a coarser vector. A layer takes as many coefficients
as it has tokens times `depth`, those with the largest error so far, and deals them out: the k-th largest to token 0, 1,
2, ..., back and forth, so that all its tokens have small vectors of one kind. This is reverse water-filling in steps: a
Gaussian source is successively refinable (Equitz & Cover, 1991), so nothing is lost by stopping on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from codec.coding.exact import fix
from codec.models.layers.quantizers.base import ENTRY_BITS, Quantized
from codec.models.layers.quantizers.books import SAMPLES, Codebook
from codec.training import distributed

_MEMORY = 50  # vectors an entry that the averages look back on
_LEAST = 1024  # vectors that variances are measured on
_DEAD = 0.05  # share of the average use below which an entry begins anew


class Layer(Codebook):
    """The tokens of a layer and their book.

    Attributes:
        entries: [entries, depth]; vectors divided by `scale`.
        usage: [entries], moving average of the share of vectors that chose the entry.
        places: [tokens, depth], which coefficients a token stands for; whole numbers, no two equal.
        scale: root mean square of the coefficients it found.
    """

    def __init__(self, tokens: int, depth: int, entries: int) -> None:
        super().__init__(entries, depth)
        self.usage.div_(entries)
        self.register_buffer("places", torch.arange(tokens * depth).reshape(tokens, depth).float())
        self.register_buffer("scale", torch.ones(()))

    def take(self, y: Tensor) -> Tensor:
        """Return the vectors [B, tokens, depth] of coefficients [B, N]."""
        return y[:, self.places.long()] / self.scale

    def put(self, vectors: Tensor, count: int) -> Tensor:
        """Return coefficients [B, count], zero where vectors [B, tokens or fewer, depth] say nothing."""
        places = self.places[: vectors.shape[1]].long().flatten()
        out = vectors.new_zeros(len(vectors), count)
        return out.index_copy(1, places, (vectors * self.scale).flatten(1))

    @property
    def slope(self) -> float:
        """Squared error of a vector, divided by `scale`, that one more bit would save if it were Gaussian.

        That is the slope of D = depth * 2**(-2 R / depth) at R = log2(entries) bits (Shannon, 1959).
        """
        depth = self.entries.shape[1]
        return 2 * math.log(2) * len(self.entries) ** (-2 / depth)

    @torch.no_grad()
    def settle(self, y: Tensor) -> None:
        """Choose coefficients and entries for what is left of vectors [n, N]."""
        power = y.square().mean(0)
        dealt = power.argsort(descending=True, stable=True)[: self.places.numel()].reshape(self.places.shape[::-1])
        dealt[1::2] = dealt[1::2].flip(1)
        self.places.copy_(dealt.T)
        self.scale.copy_(power[dealt].mean().sqrt().half())
        self.start(self.take(y).flatten(0, 1))

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        super().start(x)
        self.usage.div_(self.usage.sum())

    @torch.no_grad()
    def learn(self, x: Tensor, index: Tensor) -> None:
        """As `Codebook.learn`, at a pace that fits how few vectors a batch has: two a region of the first layer."""
        count, mean = self._means(x, index)
        share = count / count.sum()
        pace = min(float(count.sum()) / (_MEMORY * len(count)), 0.05)
        self.usage.lerp_(share, pace)
        self.entries.add_((mean - self.entries) * (pace * share / self.usage.clamp_min(1e-9)).clamp_max(1)[:, None])
        dead = self.usage < _DEAD / len(count)
        if dead.any():
            self.entries[dead] = distributed.from_first(x[torch.randint(len(x), (int(dead.sum()),), device=x.device)])
            self.usage[dead] = 1 / len(count)


class LayeredBooks(nn.Module):
    """Maps coefficients [B, N] to tokens [B, T], coarse ones first, and back.

    Args:
        count: coefficients N.
        edges: first token of each layer, and T.
        depths: coefficients a token of each layer.
        entries: of each book.
    """

    def __init__(self, count: int, edges: tuple[int, ...], depths: tuple[int, ...], entries: int) -> None:
        super().__init__()
        self.count, self.edges = count, edges
        sizes = [b - a for a, b in pairwise(edges)]
        if edges[0] != 0 or min(sizes) < 1 or len(depths) != len(sizes):
            raise ValueError(f"{edges = } and {depths = } do not describe layers")
        if any(size * depth > count for size, depth in zip(sizes, depths, strict=True)):
            raise ValueError(f"{edges = } and {depths = } ask for more than {count} coefficients")
        self.layers = nn.ModuleList(Layer(*pair, entries) for pair in zip(sizes, depths, strict=True))

    @property
    def entries(self) -> int:
        return len(self.layers[0].entries)

    def encode(self, y: Tensor, count: int, choose: Callable[[int, Tensor], Tensor] | None = None) -> Tensor:
        """Return the first tokens [B, count] of coefficients [B, N].

        Args:
            choose: maps the number of a layer and its vectors [B, tokens, depth] to tokens; by default the nearest.
        """
        choose = choose or (lambda i, x: self.layers[i].nearest(x))
        codes, left = [], y
        for i, start in enumerate(self.edges[:-1]):
            if start < count:
                layer = self.layers[i]
                codes.append(choose(i, layer.take(left)[:, : count - start]))
                left = left - layer.put(layer.entries[codes[-1].long()], self.count)
        return torch.cat(codes, 1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Return the coefficients [B, N] of the first tokens [B, n], n <= T."""
        total = 0.0
        for layer, (start, stop) in zip(self.layers, pairwise(self.edges), strict=True):
            if start < tokens.shape[1]:
                total = total + layer.put(layer.entries[tokens[:, start:stop].long()], self.count)
        return total

    def straight(self, y: Tensor, count: int) -> Tensor:
        """Return what the first `count` tokens of coefficients [B, N] say, with gradients passed straight through."""
        with torch.no_grad():
            vectors = self.decode(self.encode(y.detach().to(self.layers[0].entries), count)).to(y)
            places = [layer.places.flatten()[: (count - start) * layer.places.shape[1]]
                      for layer, start in zip(self.layers, self.edges, strict=False) if start < count]  # fmt: skip
            said = torch.zeros_like(y[0]).index_fill(0, torch.cat(places).long(), 1.0)
        return vectors + said * (y - y.detach())

    @torch.no_grad()
    def initialize(self, y: Tensor) -> None:
        """Start from coefficients [n, N] as they come from the untrained encoder."""
        left = y[torch.randperm(len(y), device=y.device)]
        for layer in self.layers:
            left = left[: max(_LEAST, SAMPLES * self.entries // len(layer.places))]  # as many as k-means looks at
            layer.settle(left)
            left -= layer.put(layer.entries[layer.nearest(layer.take(left))], self.count)

    def forward(self, y: Tensor, keep: Tensor) -> Quantized:
        """Quantize coefficients [B, N] in training, sample b with its first keep[b] tokens (tail token drop).

        `vectors` of the result are coefficients [B, N]; the gradient of those that no kept token stands for is zero.
        """
        left, total, known, codes = y.detach(), 0.0, 0.0, []
        loss = y.new_zeros(())
        for layer, (start, stop) in zip(self.layers, pairwise(self.edges), strict=True):
            target = layer.take(left)
            index = layer.nearest(target)
            vectors = layer.entries[index]
            if torch.is_grad_enabled():
                due = layer.take(y - y.detach()) + target  # held to the sum of all layers up to this one
                loss = loss + (due - vectors).square().mean() / len(self.layers)
                layer.learn(target.flatten(0, 1), index)
            kept = (torch.arange(start, stop, device=y.device) < keep[:, None])[..., None].to(y)
            left = left - layer.put(vectors, self.count)
            total = total + layer.put(vectors * kept, self.count)
            known = known + layer.put(kept.expand_as(vectors), self.count)
            codes.append(index)
        return Quantized(total + (known > 0) * (y - y.detach()), torch.cat(codes, 1), loss)

    def fixed_point(self) -> dict[str, int]:
        """Return the names of the buffers that are stored as integers -> their fraction bits."""
        return {f"layers.{i}.{name}": bits for i in range(len(self.layers)) for name, bits in _FIXED.items()}

    def freeze(self) -> None:
        """Round what decides bits."""
        self.double()
        for name, bits in self.fixed_point().items():
            tensor = self.get_buffer(name)
            tensor.data = fix(tensor.data, bits)


_FIXED = {"entries": ENTRY_BITS, "places": 0}
