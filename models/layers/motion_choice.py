"""Which vectors an encoder keeps of those it found: the ones that are worth what they cost.

A search knows bits by a rule of thumb. Here the networks that will code the vectors price them, in coding order, so a
block takes the vector expected of it, or that of a neighbour, unless its own saves more error than it costs. What
blocks that are coded later pay where a vector differs from theirs, only a rule of thumb can tell.
"""

from __future__ import annotations

import torch
from torch import Tensor

from codec.coding.distributions import ScaleMixture
from codec.models.layers import motion
from codec.models.layers.motion_prior import Sites, VectorPrior
from codec.models.layers.quincunx import Lattice

_LATER = 1.0  # bits that a block coded later pays for a vector unlike its own
ALONE = 0.75  # share of the error of the mean of two predictions below which one of them alone is used


class BlockErrors:
    """Absolute differences, summed over a block, of a target and what vectors predict.

    Args:
        target, reference: [B, 3, H, W] in -0.5..0.5, whole blocks.
        other: a second prediction of the target; whichever is best counts, of the two and their mean.
    """

    def __init__(self, target: Tensor, reference: Tensor, other: Tensor | None = None) -> None:
        self._reference = motion.luma(reference)
        self._target = motion.in_blocks(motion.luma(target))
        self._other = None if other is None else motion.in_blocks(motion.luma(other))

    def __call__(self, at: Lattice, vectors: Tensor) -> Tensor:
        """Return the errors [B, n] of vectors [B, n, 2] at some sites."""
        predicted = motion.blocks_at(self._reference, at, vectors.to(self._reference))
        target = at.read(self._target)
        error = lambda prediction: (prediction - target).abs().sum(-1)
        if self._other is None:
            return error(predicted)
        other = at.read(self._other)
        alone = torch.minimum(error(predicted), error(other))
        return torch.minimum(error((predicted + other) / 2), alone / ALONE)


def choose(
    prior: VectorPrior,
    shape: ScaleMixture,
    found: Tensor,
    before: Tensor | None,
    conditions: Tensor,
    *,
    everywhere: Tensor,
    errors: BlockErrors,
    worth: float,
) -> Tensor:
    """Return the vectors [B, h, w, 2] to code, less the dominant one.

    Args:
        found: by a search, less the dominant one.
        before, conditions: as in `VectorPrior.code`.
        everywhere: the dominant vectors [B, 1, 1, 2].
        errors: of vectors.
        worth: error that a bit is worth.
    """
    field, waiting = found.clone(), torch.ones_like(found[..., :1])

    def decide(at: Lattice, sites: Sites) -> Tensor:
        known = torch.where(sites.there(sites.votes), sites.votes, sites.location)
        candidates = torch.stack([at.read(field), sites.location, *known])
        around = zip(motion.neighbours(field), motion.neighbours(waiting), strict=True)
        later = [(at.read(vectors), at.read(these)[..., 0]) for vectors, these in around]
        costs = prior.prices(shape, candidates, sites)
        for cost, vectors in zip(costs, candidates, strict=True):
            cost += errors(at, vectors + everywhere[:, 0]).to(cost) / worth
            cost += _LATER * sum((vectors != near).any(-1) * waits for near, waits in later)
        best = costs.argmin(0)[None, ..., None].expand(1, -1, -1, 2)
        chosen = candidates.gather(0, best)[0]
        at.write(field, chosen)
        at.write(waiting, torch.zeros_like(chosen[..., :1]))
        return chosen

    return prior.walk(before, conditions, decide)
