"""Variable rate of one codebook: its entries in such an order that the first 2**k are a codebook, too.

Mao et al., "Extreme Image Compression using Fine-tuned VQGANs" (2023), group the entries of a trained codebook by
k-means and keep an entry of each group. Here the groups are nested and there from the beginning: training draws a size
for each sample, so entries that serve several sizes learn to, and one network decodes all.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codec.models.layers.quantizers.base import nearest

_ITERATIONS = 10  # of k-means


class Clusters(nn.Module):
    """The order of the entries of a codebook, and the sizes that are used of it.

    Args:
        entries: of the codebook.
        smallest: entries of the smallest part, a power of two.

    Attributes:
        sizes: numbers of entries, smallest to all: powers of two, and all.
        order: [entries], which code stands at which rank; whole numbers held as floats.
    """

    def __init__(self, entries: int, smallest: int) -> None:
        super().__init__()
        if not 2 <= smallest <= entries or smallest & (smallest - 1):
            raise ValueError(f"the smallest of {entries} entries is a power of two from 2 on, not {smallest}")
        powers = [1 << k for k in range(smallest.bit_length() - 1, entries.bit_length()) if 1 << k < entries]
        self.sizes = (*powers, entries)
        self.register_buffer("order", torch.arange(entries).float())

    @torch.no_grad()
    def start(self, vectors: Tensor, weights: Tensor) -> None:
        """Order entries [K, D], which count by `weights` [K]: the first 2**k are near k-means centres of all.

        Each size keeps the entries of the sizes below it: their centres stay where they are.
        """
        chosen: list[int] = []
        for size in self.sizes[:-1]:
            chosen += _representatives(vectors, weights, chosen, size - len(chosen))
        rest = torch.ones(len(vectors), dtype=torch.bool)
        rest[chosen] = False
        by_use = weights.cpu().argsort(descending=True, stable=True)
        self.order.copy_(torch.cat([torch.tensor(chosen, dtype=torch.long), by_use[rest[by_use]]]))

    def codes(self, size: int) -> Tensor:
        """Return the codes of the first `size` ranks, int64."""
        return self.order[:size].long()

    def nearest(self, x: Tensor, vectors: Tensor, size: int) -> Tensor:
        """Return the ranks [...] of the nearest of the first `size` entries to x [..., D].

        Args:
            vectors: of all codes, [K, D].
        """
        return nearest(x, vectors[self.codes(size)])


def _representatives(vectors: Tensor, weights: Tensor, fixed: list[int], count: int) -> list[int]:
    """Return `count` further entries that are near centres of weighted k-means, some centres being fixed."""
    centres = vectors[torch.tensor(fixed + _spread(vectors, weights, fixed, count))].clone()
    for _ in range(_ITERATIONS):
        index = nearest(vectors, centres)
        mass = torch.zeros(len(centres)).to(weights).index_add_(0, index, weights)
        total = torch.zeros_like(centres).index_add_(0, index, vectors * weights[:, None])
        moved = torch.where(mass[:, None] > 0, total / mass.clamp_min(1e-12)[:, None], centres)
        centres[len(fixed) :] = moved[len(fixed) :]
    taken, out = set(fixed), []
    distance = torch.cdist(centres[len(fixed) :], vectors)
    for row in distance.argsort(1):
        out.append(next(i for i in row.tolist() if i not in taken))
        taken.add(out[-1])
    return out


def _spread(vectors: Tensor, weights: Tensor, fixed: list[int], count: int) -> list[int]:
    """Return `count` further entries, each the one that costs most while it is not among those taken."""
    out: list[int] = []
    distance = torch.full((len(vectors),), torch.inf)
    for i in fixed:
        distance = torch.minimum(distance, (vectors - vectors[i]).square().sum(1))
    while len(out) < count:
        # Nothing is taken yet: begin in the middle.
        cost = distance * weights if fixed or out else -(vectors - vectors.mean(0)).square().sum(1)
        cost[torch.tensor(fixed + out, dtype=torch.long)] = -torch.inf
        out.append(int(cost.argmax()))
        distance = torch.minimum(distance, (vectors - vectors[out[-1]]).square().sum(1))
    return out
