"""How an encoder finds what predicts a frame: vectors and, between two frames, which of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from codec.coding.distributions import ScaleMixture
from codec.models.layers import motion
from codec.models.layers.frame_loop import Source
from codec.models.layers.frame_prior import SITE, FramePrior, Level, mirrored, motion_symbols
from codec.models.layers.motion_choice import ALONE, BlockErrors
from codec.system import Symbols

# Absolute difference that a bit is worth, in steps, of frames with one field of vectors and of those between two.
_SEARCH_WORTH = (0.15, 0.25)  # to the search; low, so that it finds what can be found
_WORTH = (0.3, 0.15)  # to the choice
_ROUNDS = 2  # of choices where there are two fields, each made for the other as it then is


def moves(
    prior: FramePrior,
    shape: ScaleMixture,
    x: Tensor,
    source: Source,
    level: Level,
    *,
    step: float,
    rounds: int,
    fast: bool = False,
) -> Symbols:
    """Return the symbols `head`, `m` and, between two, `d` of frames [B, 3, H, W]: how others predict them.

    Args:
        step: of latents, in levels of a picture.
        rounds: of the search, each a little better.
        fast: search by one pixel of four.
    """
    known, between = source.known, source.ahead is not None
    pictures = [side.picture for side in (source.past, source.ahead) if side is not None]
    search = lambda picture: motion.Search(x, picture, _SEARCH_WORTH[between] * step, fast=fast)
    found = [search(pictures[0]).run(known.vectors.to(x), rounds)]
    if between:
        found.append(search(pictures[1]).run(mirrored(found[0], known), rounds))

    def errors(side: int, fields: list[Tensor]) -> BlockErrors:
        other = motion.compensate(pictures[1 - side], fields[1 - side].to(x)) if between else None
        return BlockErrors(x, pictures[side], other)

    fields = [field.to(known.vectors) for field in found]
    for _ in range(_ROUNDS if between and not fast else 1):
        fields = prior.choose_motion(shape, fields, known, level, errors=errors, worth=_WORTH[between] * step)
    part = motion_symbols(fields, sides=prior.most_sides)
    if between:
        predictions = [motion.compensate(*pair) for pair in zip(pictures, [f.to(x) for f in fields], strict=True)]
        part["d"] = _better_side(x, *predictions).permute(0, 2, 3, 1).to(known.vectors)
    return part


def _better_side(x: Tensor, past: Tensor, ahead: Tensor) -> Tensor:
    """Return for each position of pictures [B, 3, H, W] whether the first (-1), both (0) or the second predict it."""
    error = lambda picture: F.avg_pool2d((x - picture).mean(1, keepdim=True).abs(), SITE)
    both, one, other = error((past + ahead) / 2), error(past), error(ahead)
    clear = torch.minimum(one, other) < ALONE * both
    return torch.where(clear, torch.where(one < other, -1.0, 1.0), 0.0)
