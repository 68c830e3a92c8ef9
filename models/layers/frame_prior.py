"""Prior of a frame that follows another or lies between two: its motion, which positions have residuals, and these.

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
from codec.models.layers.motion_choice import BlockErrors, choose
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
    """What is known of the frame that another follows, in integers or dyadic numbers; or of the two around one.

    Attributes:
        sent: latents last sent [B, h, w, C], in signal units, displaced by whole positions since.
        before: its residuals in steps [B, h, w, C]; zeros of an image. Of two frames the mean magnitudes.
        vectors: its motion in quarter pixels [B, 2 h, 2 w, 2]. Of two frames that expected to the one before.
        coded: which positions had residuals [B, h, w, 1]; mean of two frames.
        fresh: it was coded as an image, both were.
        span: how many frames its motion goes back, 0 of an image.
        ahead: latents last sent of the frame ahead; None unless there are two.
        reach: how many frames that is ahead.
    """

    sent: Tensor
    before: Tensor
    vectors: Tensor
    coded: Tensor
    fresh: bool
    span: int = 1
    ahead: Tensor | None = None
    reach: int = 0


class FramePrior(nn.Module):
    """Codes the symbols `head`, `m`, `c` and `y` of a frame after another; see `models.stem`.

    Args:
        channels: of the latents.
        groups: channel groups of residuals, in coding order.
        hidden, motion_hidden: widths of the networks of residuals, and of motion and flags.
        between: whether there are frames between two; they have the symbol `d`, too.
    """

    def __init__(
        self, channels: int, groups: tuple[int, ...], hidden: int, motion_hidden: int, *, between: bool = False
    ) -> None:
        super().__init__()
        told = _CONDITIONS + between
        self.vectors = VectorPrior(motion_hidden, told)
        self.flags = FlagPrior(motion_hidden, told + _MOVES)
        self.residual = ResidualPrior(channels, groups, hidden, told + _MOVES + _FLAGS)
        self.sides = FlagPrior(motion_hidden, told + _MOVES) if between else None

    @property
    def most_sides(self) -> int:
        """Frames that one may be predicted from."""
        return 1 if self.sides is None else 2

    # --- what is known -------------------------------------------------------------------------------------

    def begin(self, y: Tensor, level: Level) -> Known:
        """Return what is known after an image with symbols y [B, h, w, C]."""
        batch, rows, cols, _ = y.shape
        vectors = y.new_zeros(batch, FINE * rows, FINE * cols, 2)
        coded = torch.ones_like(y[..., :1])
        return Known(_in_units(y, level), torch.zeros_like(y), vectors, coded, fresh=True, span=0)

    def follow(self, known: Known, part: Symbols, level: Level) -> Known:
        """Return what is known after a frame with these symbols."""
        sent = _carried(known, part) + _in_units(part["y"], level)
        sent = sent.clamp(-ACTIVATION_MAX, ACTIVATION_MAX)
        return Known(sent, part["y"], fields_of(part)[0], part["c"], fresh=False, span=known.span)

    def after(self, past: Known, span: int) -> Known:
        """Return what is known of a frame that follows another, `span` frames later."""
        if past.fresh:
            return past._replace(span=span)
        return past._replace(vectors=_scaled(past.vectors, span, past.span), span=span)

    def between(self, past: Known, ahead: Known, span: int, reach: int) -> Known:
        """Return what is known of a frame `span` after one and `reach` before the other."""
        guide = past if ahead.fresh else ahead
        vectors = guide.vectors if guide.fresh else _scaled(guide.vectors, span, guide.span)
        return Known(
            past.sent, (past.before.abs() + ahead.before.abs()) / 2, vectors, (past.coded + ahead.coded) / 2,
            fresh=guide.fresh, span=span, ahead=ahead.sent, reach=reach,
        )  # fmt: skip

    # --- symbols, in coding order --------------------------------------------------------------------------

    def code_head(self, coder: Coder, head: Tensor | None, known: Known) -> Tensor:
        """Code whether a frame is an image of its own, and its dominant vectors; return both, [B, 3] or [B, 5]."""
        about = F.pad(known.vectors.flatten(1, 2).median(1).values, (1, 0))
        scales = torch.tensor(_HEAD_SCALES).to(about).expand_as(about)
        if self.sides is None:
            return coder(head, about, scales)
        first = coder(None if head is None else head[:, :3], about, scales)
        if known.ahead is None:
            return F.pad(first, (0, 2))
        second = coder(
            None if head is None else head[:, 3:], _scaled(-first[:, 1:], known.reach, known.span), scales[:, 1:]
        )
        return torch.cat([first, second], -1)

    def code_motion(self, coder: Coder, m: Tensor | None, head: Tensor, known: Known, level: Level) -> Tensor:
        """Code the motion of a frame and return it, [B, 2 h, 2 w, 2], or [..., 4] with that to a frame ahead."""
        given = [None, None] if m is None else m.split(2, -1)
        decide = lambda side, *context: self.vectors.code(coder, given[side], *context)
        out = self._each_motion(head, known, level, decide)
        missing = self.most_sides - len(out)
        return torch.cat([*out, *[torch.zeros_like(out[0])] * missing], -1)

    def choose_motion(
        self,
        shape: ScaleMixture,
        found: list[Tensor],
        known: Known,
        level: Level,
        *,
        errors: Callable[[int, list[Tensor]], BlockErrors],
        worth: float,
    ) -> list[Tensor]:
        """Return fields of vectors worth their bits, as `fields_of` does.

        Args:
            found: such fields, of a search.
            errors: of the vectors of one side, given the fields of both.
            worth: error that a bit is worth.
        """
        fields, part = list(found), motion_symbols(found, sides=self.most_sides)
        dominant, m = _everywhere(part["head"]), part["m"].split(2, -1)

        def decide(side: int, before: Tensor | None, conditions: Tensor) -> Tensor:
            chosen = choose(
                self.vectors, shape, m[side], before, conditions,
                everywhere=dominant[side], errors=errors(side, fields), worth=worth,
            )  # fmt: skip
            fields[side] = chosen + dominant[side]
            return chosen

        self._each_motion(part["head"], known, level, decide)
        return fields

    def _each_motion(
        self, head: Tensor, known: Known, level: Level, decide: Callable[[int, Tensor | None, Tensor], Tensor]
    ) -> list[Tensor]:
        """Return what a function makes of each side, what is known of its vectors, and conditions: these vectors."""
        between, dominant = self.sides is not None, _everywhere(head)
        out = [
            decide(
                0,
                None if known.fresh else known.vectors - dominant[0],
                _finer(_conditions(known, dominant[0], level, between)),
            )
        ]
        if known.ahead is not None:
            onward = known._replace(vectors=mirrored(out[0] + dominant[0], known))
            conditions = _finer(_conditions(onward, dominant[1], level, between))
            out.append(decide(1, onward.vectors - dominant[1], conditions))
        return out

    def code_rest(self, coder: Coder, given: Symbols | None, part: Symbols, known: Known, level: Level) -> Symbols:
        """Code which frames predict, which positions have residuals and these, after `head` and `m`; return all."""
        take, between = (given or {}).get, self.sides is not None
        conditions = _conditions(known, _everywhere(part["head"])[0], level, between)
        conditions = torch.cat([conditions, _moves(part, known)], -1)
        if known.ahead is not None:
            part = part | {"d": self.sides.code(coder, take("d"), conditions)}
        c = self.flags.code(coder, take("c"), conditions)
        part = part | {"c": c}
        y = self.residual.code(coder, take("y"), c[..., 0] != 0, *_context(known, part, level, between))
        return part | {"y": y}

    def decide(
        self, shape: ScaleMixture, missed: Tensor, part: Symbols, known: Known, level: Level, worth: float
    ) -> Symbols:
        """Return `head` and `m` with the residuals that are worth their bits, and which positions have some.

        Args:
            missed: what the prediction misses, in steps [B, h, w, C].
            part: `head`, `m` and, of frames between, `d`.
            worth: bits that a squared error of one step is worth.
        """
        context: Callable = lambda coded: _context(known, part | {"c": coded[..., None]}, level, self.sides is not None)
        y, coded = decide(self.residual, shape, missed, context, worth)
        return part | {"y": y, "c": coded[..., None].to(y)}


def fields_of(part: Symbols) -> list[Tensor]:
    """Return the vectors [B, 2 h, 2 w, 2] of a frame to the frame before and, if it has such, to the one ahead."""
    fields = zip(part["m"].split(2, -1), _everywhere(part["head"]), strict=False)
    return [(m + everywhere).clamp(-motion.REACH, motion.REACH) for m, everywhere in fields]


def motion_symbols(fields: list[Tensor], *, sides: int) -> Symbols:
    """Return the symbols `head` and `m` of one or two fields of vectors [B, 2 h, 2 w, 2], for `sides` of them."""
    heads = [motion.dominant(field) for field in fields]
    m = [field - head[:, None, None] for field, head in zip(fields, heads, strict=True)]
    missing = 2 * (sides - len(fields))
    return {"head": F.pad(torch.cat(heads, -1), (1, missing)), "m": F.pad(torch.cat(m, -1), (0, missing))}


def share_of_past(part: Symbols) -> Tensor:
    """Return how much of the prediction comes from the frame before, [B, h, w, 1]: all, half or nothing."""
    return (1 - part["d"].clamp(-1, 1)) / 2


def mirrored(vectors: Tensor, known: Known) -> Tensor:
    """Return the vectors to the frame ahead that go on from those to the frame before."""
    return _scaled(-vectors, known.reach, known.span)


def _everywhere(head: Tensor) -> list[Tensor]:
    """Return the dominant vectors of frames for every block, [B, 1, 1, 2] each: to the frame before, and ahead."""
    return list(head[:, None, None, 1:].split(2, -1)) + [head[:, None, None, :0]] * (head.shape[-1] < 5)


def _scaled(vectors: Tensor, frames: int, span: int) -> Tensor:
    """Return vectors over `span` frames as over so many, in whole numbers."""
    if frames == span:
        return vectors
    return torch.floor((2 * vectors * frames + span) / (2 * span)).clamp(-motion.REACH, motion.REACH)


def _carried(known: Known, part: Symbols) -> Tensor:
    """Return the latents last sent [B, h, w, C] where a frame's motion takes them."""
    fields = fields_of(part)
    past = _displaced(known.sent, fields[0])
    if known.ahead is None:
        return past
    share = share_of_past(part)
    return share * past + (1 - share) * _displaced(known.ahead, fields[1])


def _in_units(y: Tensor, level: Level) -> Tensor:
    """Return symbols [B, h, w, C] as latents in signal units, as far as the networks know them."""
    v = fix(y * exp2(-level.log2_gain)[:, None, None], ACTIVATION_BITS)
    return v.clamp(-ACTIVATION_MAX, ACTIVATION_MAX)


def _conditions(known: Known, everywhere: Tensor, level: Level, between: bool) -> Tensor:
    """Return what all networks are told of each position, [B, h, w, _CONDITIONS + between]; dyadic.

    Args:
        everywhere: dominant vectors [B, 1, 1, 2].
    """
    off = _coarser(((known.vectors - everywhere).abs() / _PIXELS).clamp(max=_LARGEST / 2))
    near = F.avg_pool2d(known.coded[..., 0], 3, 1, 1, divisor_override=4)[..., None]
    busy = known.before.abs().clamp(max=1).sum(-1, keepdim=True) / 16
    texture = fix(known.sent.abs().clamp(max=4).sum(-1, keepdim=True) / 64, ACTIVATION_BITS)
    same = torch.ones_like(busy)
    quality = same * (level.t.to(same) * 2 - 1)[:, None, None, None]
    parts = [off, known.coded, near, busy, texture, same * known.fresh, quality]
    if between:
        parts.append(same * (known.ahead is not None))
    return torch.cat(parts, -1)


def _moves(part: Symbols, known: Known) -> Tensor:
    """Return what motion tells of each position, [B, h, w, _MOVES]; the mean of both where there are two."""
    fields = fields_of(part)[: 1 if known.ahead is None else 2]
    return sum(_moves_of(field) for field in fields) / len(fields)


def _moves_of(vectors: Tensor) -> Tensor:
    """Return what vectors [B, 2 h, 2 w, 2] tell of each position, [B, h, w, _MOVES]; dyadic.

    That is its speed, how much the vectors around differ, whether it moves, whether they differ at all, and whether it
    moves by parts of a pixel.
    """
    broken = (vectors != motion.UNITS * torch.floor(vectors / motion.UNITS)).to(vectors).sum(-1, keepdim=True)
    apart = sum((part - vectors).abs().sum(-1, keepdim=True) for part in motion.neighbours(vectors))
    speed = vectors.abs().sum(-1, keepdim=True)
    sizes = [(x / _PIXELS).clamp(max=_LARGEST) for x in (speed, apart)]
    return _coarser(torch.cat([*sizes, (speed > 0).to(vectors), (apart > 0).to(vectors), broken], -1))


def _context(known: Known, part: Symbols, level: Level, between: bool) -> tuple[Tensor, Tensor]:
    """Return the magnitudes and conditions that the networks of residuals are given."""
    sent = fix(_carried(known, part) * exp2(level.log2_gain)[:, None, None], ACTIVATION_BITS)
    seen = torch.cat([magnitude(sent), magnitude(known.before)], -1)
    flags = F.pad(part["c"][..., 0].to(sent), (1, 1, 1, 1))
    sides = flags[:, :-2, 1:-1] + flags[:, 2:, 1:-1] + flags[:, 1:-1, :-2] + flags[:, 1:-1, 2:]
    corners = flags[:, :-2, :-2] + flags[:, 2:, :-2] + flags[:, :-2, 2:] + flags[:, 2:, 2:]
    around = torch.stack([sides, corners], -1) / 4
    conditions = _conditions(known, _everywhere(part["head"])[0], level, between)
    return seen, torch.cat([conditions, _moves(part, known), around], -1)


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
