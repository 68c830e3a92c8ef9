"""Prior of a frame that follows others: its motion, which positions have residuals, and these.

Everything here is computed from decoded integers, in dyadic numbers (`codec.coding.exact`), and so decides bits the
same way everywhere. Positions are 16x16 pixels, vectors belong to 8x8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.coding.coder import Coder
from codec.coding.distributions import ScaleMixture
from codec.coding.exact import ACTIVATION_BITS, ACTIVATION_MAX, exp2, fix
from codec.models.layers import motion
from codec.models.layers.motion_prior import FlagPrior, VectorPrior
from codec.models.layers.residual_prior import ResidualPrior, decide, magnitude
from codec.system import Symbols

SITE = 16  # pixels a side of a position
FINE = SITE // motion.BLOCK  # vectors a side of a position
_HEAD_SCALES = (-2.0, 0.0, 0.0)  # log2, of the symbols that begin a frame
_CONDITIONS = 8  # numbers that all networks know of a position beforehand
_MOVES = 5  # and those that motion tells
_FLAGS = 2  # and those that flags around tell
_LARGEST = 8.0  # what networks see of motion saturates here
_PIXELS = 4 * motion.UNITS  # motion that counts as one to them


class Level(NamedTuple):
    """A quality t [B] in 0..1 and log2 of its gain [B, C], steps in a unit of the latents."""

    t: Tensor
    log2_gain: Tensor


class Known(NamedTuple):
    """What is known of the last frame, in integers or dyadic numbers.

    Attributes:
        sent: latents last sent [B, h, w, C], in signal units, displaced by whole positions since.
        before: its residuals in steps [B, h, w, C]; zeros of an image.
        vectors: its motion in quarter pixels [B, 2 h, 2 w, 2].
        coded: which positions had residuals [B, h, w, 1].
        fresh: it was coded as an image.
    """

    sent: Tensor
    before: Tensor
    vectors: Tensor
    coded: Tensor
    fresh: bool


class FramePrior(nn.Module):
    """Codes the symbols `head`, `m`, `c` and `y` of a frame after another; see `models.stem`.

    Args:
        channels: of the latents.
        groups: channel groups of residuals, in coding order.
        hidden, motion_hidden: widths of the networks of residuals, and of motion and flags.
    """

    def __init__(self, channels: int, groups: tuple[int, ...], hidden: int, motion_hidden: int) -> None:
        super().__init__()
        self.vectors = VectorPrior(motion_hidden, _CONDITIONS)
        self.flags = FlagPrior(motion_hidden, _CONDITIONS + _MOVES)
        self.residual = ResidualPrior(channels, groups, hidden, _CONDITIONS + _MOVES + _FLAGS)

    # --- what is known -------------------------------------------------------------------------------------

    def begin(self, y: Tensor, level: Level) -> Known:
        """Return what is known after an image with symbols y [B, h, w, C]."""
        batch, rows, cols, _ = y.shape
        vectors = y.new_zeros(batch, FINE * rows, FINE * cols, 2)
        return Known(_in_units(y, level), torch.zeros_like(y), vectors, torch.ones_like(y[..., :1]), fresh=True)

    def follow(self, known: Known, part: Symbols, level: Level) -> Known:
        """Return what is known after a frame with these symbols."""
        vectors = vectors_of(part)
        sent = _displaced(known.sent, vectors) + _in_units(part["y"], level)
        return Known(sent.clamp(-ACTIVATION_MAX, ACTIVATION_MAX), part["y"], vectors, part["c"], fresh=False)

    # --- symbols, in coding order --------------------------------------------------------------------------

    def code_head(self, coder: Coder, head: Tensor | None, known: Known) -> Tensor:
        """Code whether a frame is an image of its own, and its dominant vector; return both, [B, 3]."""
        about = F.pad(known.vectors.flatten(1, 2).median(1).values, (1, 0))
        return coder(head, about, torch.tensor(_HEAD_SCALES).to(about).expand_as(about))

    def code_motion(self, coder: Coder, m: Tensor | None, head: Tensor, known: Known, level: Level) -> Tensor:
        """Code the motion of a frame and return it, [B, 2 h, 2 w, 2]."""
        conditions = _finer(_conditions(known, head, level))
        return self.vectors.code(coder, m, None if known.fresh else known.vectors - _everywhere(head), conditions)

    def code_rest(self, coder: Coder, given: Symbols | None, part: Symbols, known: Known, level: Level) -> Symbols:
        """Code which positions have residuals and these, after `head` and `m`; return all."""
        take = (given or {}).get
        moves = _moves(vectors_of(part))
        c = self.flags.code(coder, take("c"), torch.cat([_conditions(known, part["head"], level), moves], -1))
        part = part | {"c": c}
        y = self.residual.code(coder, take("y"), c[..., 0] != 0, *_context(known, part, level))
        return part | {"y": y}

    def decide(
        self, shape: ScaleMixture, missed: Tensor, part: Symbols, known: Known, level: Level, worth: float
    ) -> Symbols:
        """Return `head` and `m` with the residuals that are worth their bits, and which positions have some.

        Args:
            missed: what the prediction misses, in steps [B, h, w, C].
            worth: bits that a squared error of one step is worth.
        """
        context: Callable = lambda coded: _context(known, part | {"c": coded[..., None]}, level)
        y, coded = decide(self.residual, shape, missed, context, worth)
        return part | {"y": y, "c": coded[..., None].to(y)}


def vectors_of(part: Symbols) -> Tensor:
    """Return the vectors [B, 2 h, 2 w, 2] of a frame, from its symbols `head` and `m`."""
    return (part["m"] + _everywhere(part["head"])).clamp(-motion.REACH, motion.REACH)


def motion_symbols(vectors: Tensor) -> Symbols:
    """Return the symbols `head` and `m` of vectors [B, 2 h, 2 w, 2]."""
    head = F.pad(motion.dominant(vectors), (1, 0))
    return {"head": head, "m": vectors - _everywhere(head)}


def _everywhere(head: Tensor) -> Tensor:
    """Return the dominant vectors of frames for every block, [B, 1, 1, 2]."""
    return head[:, None, None, 1:]


def _in_units(y: Tensor, level: Level) -> Tensor:
    """Return symbols [B, h, w, C] as latents in signal units, as far as the networks know them."""
    v = fix(y * exp2(-level.log2_gain)[:, None, None], ACTIVATION_BITS)
    return v.clamp(-ACTIVATION_MAX, ACTIVATION_MAX)


def _conditions(known: Known, head: Tensor, level: Level) -> Tensor:
    """Return what all networks are told of each position, [B, h, w, _CONDITIONS]; dyadic."""
    off = _coarser(((known.vectors - _everywhere(head)).abs() / _PIXELS).clamp(max=_LARGEST / 2))
    near = F.avg_pool2d(known.coded[..., 0], 3, 1, 1, divisor_override=4)[..., None]
    busy = known.before.abs().clamp(max=1).sum(-1, keepdim=True) / 16
    texture = fix(known.sent.abs().clamp(max=4).sum(-1, keepdim=True) / 64, ACTIVATION_BITS)
    same = torch.ones_like(busy)
    quality = same * (level.t.to(same) * 2 - 1)[:, None, None, None]
    return torch.cat([off, known.coded, near, busy, texture, same * known.fresh, quality], -1)


def _moves(vectors: Tensor) -> Tensor:
    """Return what motion tells of each position, [B, h, w, _MOVES]; dyadic.

    That is its speed, how much the vectors around differ, whether it moves, whether they differ at all, and whether it
    moves by parts of a pixel.
    """
    broken = (vectors != motion.UNITS * torch.floor(vectors / motion.UNITS)).to(vectors).sum(-1, keepdim=True)
    apart = sum((part - vectors).abs().sum(-1, keepdim=True) for part in motion.neighbours(vectors))
    speed = vectors.abs().sum(-1, keepdim=True)
    sizes = [(x / _PIXELS).clamp(max=_LARGEST) for x in (speed, apart)]
    return _coarser(torch.cat([*sizes, (speed > 0).to(vectors), (apart > 0).to(vectors), broken], -1))


def _context(known: Known, part: Symbols, level: Level) -> tuple[Tensor, Tensor]:
    """Return the magnitudes and conditions that the networks of residuals are given."""
    vectors = vectors_of(part)
    sent = fix(_displaced(known.sent, vectors) * exp2(level.log2_gain)[:, None, None], ACTIVATION_BITS)
    seen = torch.cat([magnitude(sent), magnitude(known.before)], -1)
    flags = F.pad(part["c"][..., 0].to(sent), (1, 1, 1, 1))
    sides = flags[:, :-2, 1:-1] + flags[:, 2:, 1:-1] + flags[:, 1:-1, :-2] + flags[:, 1:-1, 2:]
    corners = flags[:, :-2, :-2] + flags[:, 2:, :-2] + flags[:, :-2, 2:] + flags[:, 2:, 2:]
    around = torch.stack([sides, corners], -1) / 4
    return seen, torch.cat([_conditions(known, part["head"], level), _moves(vectors), around], -1)


def _finer(x: Tensor) -> Tensor:
    """Return [B, h, w, K] for every vector, [B, 2 h, 2 w, K]."""
    return x.repeat_interleave(FINE, 1).repeat_interleave(FINE, 2)


def _coarser(x: Tensor) -> Tensor:
    """Return means [B, h, w, K] of the values [B, 2 h, 2 w, K] of each position; exact, as there are four."""
    return sum(x[:, r::FINE, c::FINE] for r in range(FINE) for c in range(FINE)) / FINE**2


def _displaced(canvas: Tensor, vectors: Tensor) -> Tensor:
    """Return [B, h, w, C] with each position taken from where its vectors point, to whole positions."""
    batch, rows, cols, _ = canvas.shape
    shift = torch.floor(_coarser(vectors) / (SITE * motion.UNITS) + 0.5).long()
    if not shift.any():
        return canvas
    items, r, c = (torch.arange(n, device=canvas.device) for n in (batch, rows, cols))
    r, c = (r[:, None] + shift[..., 0]).clamp(0, rows - 1), (c + shift[..., 1]).clamp(0, cols - 1)
    return canvas[items[:, None, None], r, c]
