"""Priors of motion: vectors coarse to fine, each from those around it and that of a frame ago; and of flags.

Both follow the passes of `models.layers.quincunx`. A vector is expected to be the median of its known neighbours and
its predecessor. Most are, so that is told first; of others, whether they are the same as one of those; and only then
how far they are off. How likely all that is, small networks say from how much those around agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from codec.coding.coder import Coder, symbol_bits
from codec.coding.distributions import ScaleMixture
from codec.coding.exact import ExactLinear
from codec.models.layers.quincunx import HALF_STEPS, NEIGHBOURS, Lattice, passes

_NEAR = 4
_UNIT = 4.0  # quarter pixels that count as one to the network
_LARGEST = 8.0  # what the network sees saturates here
_UNKNOWN = 1e6  # stands for what is not known; sorts last


class Sites(NamedTuple):
    """What is known of the vectors of a pass before they are coded.

    Attributes:
        location: where they are expected, [..., 2].
        votes: vectors near by and that of the frame before, [V, ..., 2]; far beyond all vectors where there is none.
        features: what networks make of all that, [..., hidden].
    """

    location: Tensor
    votes: Tensor
    features: Tensor

    @staticmethod
    def there(vote: Tensor) -> Tensor:
        """Return which votes [..., 2] there are, [..., 1]."""
        return (vote < _UNKNOWN).all(-1, keepdim=True)

    def offers(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield each vote, where it is none of those before nor the location [...], and what is told of it [..., 2]."""
        for i, vote in enumerate(self.votes):
            same = (self.votes == vote).all(-1)
            new = self.there(vote)[..., 0] & (vote != self.location).any(-1) & ~same[:i].any(0)
            told = [same.to(vote).sum(0)[..., None] / _NEAR, torch.full_like(vote[..., :1], i == _NEAR)]
            yield vote, new, torch.cat(told, -1)


class VectorPrior(nn.Module):
    """Vectors [B, h, w, 2] in quarter pixels.

    Args:
        hidden: width of the network.
        conditions: numbers known beforehand of each position.
    """

    def __init__(self, hidden: int, conditions: int) -> None:
        super().__init__()
        self.inputs = ExactLinear(8 + conditions, hidden, relu=True)
        self.trunk = ExactLinear(hidden, hidden, relu=True)
        self.moved = _flag(hidden)
        self.copied = _flag(hidden + 2)
        self.down = ExactLinear(hidden, 1, relu=False)
        self.right = ExactLinear(hidden + 1, 1, relu=False)
        for out in (self.down, self.right):
            out.weight.data.mul_(0.1)
            out.bias.data.fill_(2.0)

    def code(self, coder: Coder, vectors: Tensor | None, before: Tensor | None, conditions: Tensor) -> Tensor:
        """Pass the vectors of a frame through the coder and return them.

        Args:
            vectors: None when decoding.
            before: of the frame before, on the same scale; None if it has none.
            conditions: [B, h, w, conditions].
        """

        def decide(at: Lattice, site: Sites) -> Tensor:
            return self._code_sites(coder, None if vectors is None else at.read(vectors), site)

        return self.walk(before, conditions, decide)

    def walk(self, before: Tensor | None, conditions: Tensor, decide: Callable[[Lattice, Sites], Tensor]) -> Tensor:
        """Return the vectors [B, h, w, 2] that a function decides upon, pass by pass; see `code`."""
        canvas = _Canvas(conditions, 2)
        for at, near, level in canvas.passes():
            own = near.new_full(near.shape[1:], _UNKNOWN) if before is None else at.read(before)
            votes = torch.cat([near, own[None]])
            location, spread = _middle(votes)
            off = torch.zeros_like(location) if before is None else (own - location).abs()
            known = (near[..., :1] < _UNKNOWN).to(near).sum(0) / _NEAR
            agree = (votes == location).all(-1, keepdim=True).to(near).sum(0) / _NEAR
            differs = ((spread + off) > 0).any(-1, keepdim=True).to(near)
            seen = [(x / _UNIT).clamp(max=_LARGEST) for x in (spread, off)]
            features = torch.cat([*seen, known, agree, differs, level, at.read(conditions)], -1)
            canvas.write(at, decide(at, Sites(location, votes, self.trunk(self.inputs(features)))))
        return canvas.values

    def prices(self, shape: ScaleMixture, vectors: Tensor, sites: Sites) -> Tensor:
        """Return about how many bits each of K choices of vectors [K, B, n, 2] would cost, [K, B, n]."""
        bits = lambda symbols, *parameters: symbol_bits(shape, symbols, *parameters)[..., 0]
        flag = self.moved(sites.features).chunk(2, -1)
        left = (vectors != sites.location).any(-1)
        total = bits(left[..., None].to(flag[0]), *flag)
        for vote, new, told in sites.offers():
            flag = self.copied(torch.cat([sites.features, told], -1)).chunk(2, -1)
            hit = (vectors == vote).all(-1)
            total = total + bits(hit[..., None].to(flag[0]), *flag) * (left & new)
            left = left & ~(hit & new)
        down, right = vectors.split(1, -1)
        about_down, about_right = sites.location.split(1, -1)
        missed = ((down - about_down).abs() / _UNIT).clamp(max=_LARGEST)
        features = torch.cat([sites.features.expand(len(vectors), *sites.features.shape), missed], -1)
        others = bits(down, about_down, self.down(sites.features)) + bits(right, about_right, self.right(features))
        return total + others * left

    def _code_sites(self, coder: Coder, vectors: Tensor | None, sites: Sites) -> Tensor:
        """Code vectors [B, n, 2]: which are not where they are expected, and what those are instead."""
        out = sites.location.clone()
        given = None if vectors is None else (vectors != out).any(-1, keepdim=True).to(out)
        moved = coder(given, *self.moved(sites.features).chunk(2, -1))[..., 0] != 0
        if moved.any():
            given = None if vectors is None else vectors[moved]
            some = Sites(sites.location[moved], sites.votes[:, moved], sites.features[moved])
            out[moved] = self._code_moved(coder, given, some).to(out)
        return out

    def _code_moved(self, coder: Coder, vectors: Tensor | None, sites: Sites) -> Tensor:
        """Code vectors [n, 2] that are not where they are expected."""
        out = sites.location.clone()
        left = torch.ones_like(out[:, 0], dtype=torch.bool)
        for vote, new, told in sites.offers():
            asked = left & new
            if asked.any():
                likely = self.copied(torch.cat([sites.features, told], -1)[asked])[None].chunk(2, -1)
                given = None if vectors is None else (vectors == vote).all(-1)[asked].to(out)[None, :, None]
                hit = torch.zeros_like(left)
                hit[asked] = coder(given, *likely)[0, :, 0] != 0
                out = torch.where(hit[:, None], vote, out)
                left = left & ~hit
        if left.any():
            given = None if vectors is None else vectors[left]
            out[left] = self._code_others(coder, given, sites.location[left], sites.features[left])
        return out

    def _code_others(self, coder: Coder, vectors: Tensor | None, location: Tensor, features: Tensor) -> Tensor:
        """Code vectors [n, 2] by how far they are off."""
        given = (None, None) if vectors is None else vectors[None].split(1, -1)
        about, told = location[None].split(1, -1), features[None]
        down = coder(given[0], about[0], self.down(told))
        missed = ((down - about[0]).abs() / _UNIT).clamp(max=_LARGEST)
        right = coder(given[1], about[1], self.right(torch.cat([told, missed], -1)))
        return torch.cat([down, right], -1)[0].to(location)


def _flag(hidden: int) -> ExactLinear:
    """Return a layer that gives location and log2 scale of a symbol 0 or 1, more often 0 before it has learned."""
    out = ExactLinear(hidden, 2, relu=False)
    out.weight.data.mul_(0.1)
    out.bias.data.copy_(torch.tensor([0.3, -1.0]))
    return out


class FlagPrior(nn.Module):
    """Flags [B, h, w, 1], 0 or 1.

    Args:
        hidden: width of the network.
        conditions: numbers known beforehand of each position.
    """

    def __init__(self, hidden: int, conditions: int) -> None:
        super().__init__()
        self.inputs = ExactLinear(3 + conditions, hidden, relu=True)
        self.trunk = ExactLinear(hidden, hidden, relu=True)
        self.out = _flag(hidden)

    def code(self, coder: Coder, flags: Tensor | None, conditions: Tensor) -> Tensor:
        """Pass the flags of a frame through the coder and return them; conditions [B, h, w, conditions]."""
        canvas = _Canvas(conditions, 1)
        for at, near, level in canvas.passes():
            known = (near < _UNKNOWN).to(near)
            context = torch.cat([(near * known).sum(0) / _NEAR, known.sum(0) / _NEAR, level, at.read(conditions)], -1)
            location, log2_scale = self.out(self.trunk(self.inputs(context))).chunk(2, -1)
            canvas.write(at, coder(None if flags is None else at.read(flags), location, log2_scale))
        return canvas.values


class _Canvas:
    """What is known of a grid [B, h, w, C], pass by pass."""

    def __init__(self, like: Tensor, channels: int) -> None:
        batch, self._rows, self._cols, _ = like.shape
        reach = HALF_STEPS[0]
        shape = (batch, self._rows + 2 * reach, self._cols + 2 * reach, channels)
        self._padded = like.new_full(shape, _UNKNOWN)
        self._inner = self._padded[:, reach : reach + self._rows, reach : reach + self._cols]

    @property
    def values(self) -> Tensor:
        return self._inner.contiguous()

    def passes(self) -> Iterator[tuple[Lattice, Tensor, Tensor]]:
        """Yield sites, what is known of their four neighbours [4, B, n, C], and how far these are [B, n, 1]."""
        for h, kind, lattices in passes(self._rows, self._cols, HALF_STEPS):
            for at in lattices:
                near = torch.stack([at.read(view) for view in self._around(h, kind)])
                yield at, near, torch.full_like(near[0, ..., :1], h / (2 * HALF_STEPS[0]))

    def _around(self, h: int, kind: str) -> Iterator[Tensor]:
        reach = HALF_STEPS[0]
        for dr, dc in NEIGHBOURS[kind][:_NEAR] if kind else [(0, 0)] * _NEAR:
            yield self._padded[:, reach + dr * h :, reach + dc * h :][:, : self._rows, : self._cols]

    def write(self, at: Lattice, values: Tensor) -> None:
        at.write(self._inner, values.to(self._inner.dtype))


def _middle(votes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lower median [B, n, 2] of the known among votes [V, B, n, 2], and their range; zeros of none."""
    ordered = votes.sort(0).values
    count = (votes < _UNKNOWN).sum(0)
    pick = lambda index: ordered.gather(0, index.clamp_min(0)[None])[0] * (count > 0)
    return pick((count - 1) // 2), pick(count - 1) - pick(torch.zeros_like(count))
