"""Prior of the residuals of frames: scales of what a prediction from the frame before has missed.

Whether a position has residuals at all is known beforehand; those that do not cost nothing. The others are coded like
the fields of a checkerboard, one colour and then the other (He et al., "Checkerboard Context Model for Efficient
Learned Image Compression", CVPR 2021), channels in groups. All that the networks see are magnitudes in quantization
steps: of residuals here a frame ago, of those around, of the latents themselves where they were last sent, and of the
groups before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.coding.coder import Coder, symbol_bits
from codec.coding.distributions import ScaleMixture
from codec.coding.exact import ACTIVATION_BITS, ExactLinear, fix

LARGEST = 8.0  # magnitudes saturate here
_SCALE = 4.0  # a magnitude that counts as one to the networks
_ROUNDS = 2  # of decisions: which positions are coded changes what their neighbours cost


def magnitude(x: Tensor) -> Tensor:
    """Return what networks see of numbers of steps: |x|, saturated."""
    return fix(x.abs().clamp(max=LARGEST) / _SCALE, ACTIVATION_BITS)


class ResidualPrior(nn.Module):
    """Log2 scales of residuals in steps; their location is zero, the prediction has said all it knows.

    Args:
        channels: latent channels C.
        groups: sizes of the channel groups, in coding order; they sum to C.
        hidden: width of the networks.
        conditions: further numbers known of a position.
    """

    def __init__(self, channels: int, groups: tuple[int, ...], hidden: int, conditions: int) -> None:
        super().__init__()
        assert sum(groups) == channels
        self.channels, self.groups = channels, groups
        self.inputs = ExactLinear(3 * channels + conditions + 1, hidden, relu=True)
        self.trunk = ExactLinear(hidden, hidden, relu=True)
        known = [sum(groups[:i]) for i in range(len(groups))]
        self.heads = nn.ModuleList(
            nn.ModuleList([ExactLinear(hidden + k, hidden, relu=True), ExactLinear(hidden, g, relu=False)])
            for k, g in zip(known, groups, strict=True)
        )
        for _, out in self.heads:
            out.weight.data.mul_(0.1)
            out.bias.data.fill_(-1.5)

    def code(self, coder: Coder, y: Tensor | None, coded: Tensor, known: Tensor, conditions: Tensor) -> Tensor:
        """Pass the residuals of the coded positions through the coder and return all, [B, h, w, C].

        Args:
            y: residuals in steps, None when decoding.
            coded: [B, h, w] bool.
            known: magnitudes [B, h, w, 2 C] of each position, see `magnitude`.
            conditions: [B, h, w, conditions].
        """
        out = known.new_zeros(*coded.shape, self.channels)
        seen = known.new_zeros(*coded.shape, self.channels)
        for second, sites in self.sites(coded):
            around = F.pad(seen, (0, 0, 1, 1, 1, 1))
            around = around[:, :-2, 1:-1] + around[:, 2:, 1:-1] + around[:, 1:-1, :-2] + around[:, 1:-1, 2:]
            parts = [known[sites], around[sites], conditions[sites]]
            context = torch.cat([*parts, torch.full_like(parts[0][:, :1], float(second))], -1)
            values = self._code_sites(coder, None if y is None else y[sites][None], self.trunk(self.inputs(context)))
            out[sites] = values
            seen[sites] = magnitude(values)
        return out

    def sites(self, coded: Tensor) -> Iterator[tuple[bool, Tensor]]:
        """Yield the positions of each pass that has some, as a mask."""
        rows, cols = (torch.arange(n, device=coded.device) for n in coded.shape[1:])
        odd = (rows[:, None] + cols) % 2 == 1
        for second in (False, True):
            sites = coded & (odd == second)
            if sites.any():
                yield second, sites

    def _code_sites(self, coder: Coder, y: Tensor | None, features: Tensor) -> Tensor:
        """Code positions [1, n, C] group by group and return them, [n, C]."""
        given = [None] * len(self.groups) if y is None else y.split(self.groups, -1)
        known, values = features[:, :0], []
        for (hidden, out), part in zip(self.heads, given, strict=True):
            log2_scale = out(hidden(torch.cat([features, known], -1)))[None]
            values.append(coder(part, torch.zeros_like(log2_scale), log2_scale)[0].to(features.dtype))
            known = torch.cat([known, magnitude(values[-1])], -1)
        return torch.cat(values, -1)


class Chooser:
    """A coder that decides: given residuals not yet rounded, it takes what is worth its bits and returns that.

    Args:
        shape: the family behind the tables.
        weight: bits that a squared error of one step is worth.

    Attributes:
        scores: of each call, what the symbols [1, n, g] gain over zeros that are free, in bits, [n].
    """

    def __init__(self, shape: ScaleMixture, weight: float) -> None:
        self._shape, self._weight = shape, weight
        self.scores: list[Tensor] = []

    def __call__(self, symbols: Tensor, location: Tensor, log2_scale: Tensor) -> Tensor:
        nearest = torch.floor(symbols + 0.5)
        lower = nearest.sign() * (nearest.abs() - 1).clamp_min(0)
        best = best_cost = None
        for candidate in (torch.zeros_like(nearest), lower, nearest):
            bits = symbol_bits(self._shape, candidate, location, log2_scale)
            cost = self._weight * (symbols - candidate).square() + bits
            best, best_cost = (
                (candidate, cost)
                if best is None
                else (torch.where(cost < best_cost, candidate, best), torch.minimum(cost, best_cost))
            )
        self.scores.append((self._weight * symbols.square() - best_cost).sum(-1)[0])
        return best


@torch.no_grad()
def decide(
    prior: ResidualPrior,
    shape: ScaleMixture,
    residual: Tensor,
    context: Callable[[Tensor], tuple[Tensor, Tensor]],
    weight: float,
) -> tuple[Tensor, Tensor]:
    """Return residuals worth their bits, rounded, and the positions that have some, [B, h, w, C] and [B, h, w].

    Args:
        residual: what the prediction misses, in steps [B, h, w, C].
        context: returns `known` and `conditions` of `ResidualPrior.code`, given which positions are coded.
        weight: bits that a squared error of one step is worth.
    """
    coded = torch.ones(residual.shape[:3], dtype=torch.bool, device=residual.device)
    y = torch.zeros_like(residual)
    for _ in range(_ROUNDS):
        chooser = Chooser(shape, weight)
        y = prior.code(chooser, residual, coded, *context(coded))
        score = torch.zeros_like(residual[..., 0])
        for i, (_, sites) in enumerate(prior.sites(coded)):
            calls = len(prior.groups)
            score[sites] = torch.stack(chooser.scores[i * calls : (i + 1) * calls]).sum(0).to(score)
        coded = coded & (score > 0) & y.bool().any(-1)
    return y * coded[..., None], coded
