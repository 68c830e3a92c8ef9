"""Quincunx prior: code a grid of latents coarse to fine, each site from neighbours on all sides.

Sites are coded in a fixed order of passes. First every 8th row and column, without context. Then, for the
half-steps h = 4, 2, 1, the sites half-way along the diagonals (`D`) and then those half-way along rows and
columns (`X`):

    A . A        A . A        A X A
    . . .   ->   . D .   ->   X D X      half-step h: the known grid has step 2h
    A . A        A . A        A X A

Seen from a `D` site the known sites form a square lattice, seen from an `X` site the same lattice turned by
45 degrees, so both use 4 near and 8 further neighbours. A sequence (one row: sound) has one kind of pass, `L`: half-way
between known sites, with 2 near and 2 further neighbours, from half-step 16 on. Inside a pass the channels follow in
groups, each knowing the groups before it. Conditions known beforehand (the quality, features of a hyperprior) join the
neighbours; without a hyperprior there is no side information: the stream is the latents alone. All sites of a pass are
coded at once (7 passes whatever the size, 6 of a sequence, each once per channel group), so decoding is parallel.

The order is that of interlaced lossless image coders (FLIF); the parallel contexts generalise the
checkerboard of He et al., "Checkerboard Context Model for Efficient Learned Image Compression" (CVPR 2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from codec.coding.coder import Coder
from codec.coding.exact import ACTIVATION_BITS, ACTIVATION_MAX, ExactLinear, exp2, fix

HALF_STEPS = (4, 2, 1)  # in the plane; the first pass has twice the first step
LINE_HALF_STEPS = (16, 8, 4, 2, 1)
_NEAR = {
    "D": [(dr, dc) for dr in (-1, 1) for dc in (-1, 1)],
    "X": [(-1, 0), (0, -1), (0, 1), (1, 0)],
    "L": [(0, -1), (0, 1)],
}
_FAR = {
    "D": [(dr, dc) for dr in (-3, -1, 1, 3) for dc in (-3, -1, 1, 3) if abs(dr) + abs(dc) == 4],
    "X": [(dr, dc) for dr in (-2, -1, 1, 2) for dc in (-2, -1, 1, 2) if abs(dr) + abs(dc) == 3],
    "L": [(0, -3), (0, 3)],
}
NEIGHBOURS = {kind: _NEAR[kind] + _FAR[kind] for kind in _NEAR}


class Lattice(NamedTuple):
    """The sites of a grid at some rows and columns."""

    rows: slice
    cols: slice

    def shape(self, height: int, width: int) -> tuple[int, int]:
        return len(range(height)[self.rows]), len(range(width)[self.cols])

    def count(self, canvas: Tensor) -> int:
        """Return the number of sites n in each item of a canvas [B, h, w, C]."""
        rows, cols = self.shape(*canvas.shape[1:3])
        return rows * cols

    def read(self, canvas: Tensor) -> Tensor:
        """Return the values at the sites, [B, n, C]."""
        return canvas[:, self.rows, self.cols].flatten(1, 2)

    def write(self, canvas: Tensor, values: Tensor) -> None:
        """Set the values at the sites from [B, n, C], in place."""
        view = canvas[:, self.rows, self.cols]
        view.copy_(values.reshape(view.shape))


def passes(height: int, width: int, half_steps: tuple[int, ...]) -> Iterator[tuple[int, str, list[Lattice]]]:
    """Yield (half-step, kind, site lattices) for every pass that has sites; the first has no kind."""
    coarse = 2 * half_steps[0]
    yield coarse, "", [Lattice(slice(0, height, coarse), slice(0, width, coarse))]
    for h in half_steps:
        step = 2 * h
        kinds = (("L", [(0, h)]),) if half_steps == LINE_HALF_STEPS else (("D", [(h, h)]), ("X", [(0, h), (h, 0)]))
        for kind, starts in kinds:
            lattices = [
                Lattice(slice(r, height, step), slice(c, width, step)) for r, c in starts if r < height and c < width
            ]
            if lattices:
                yield h, kind, lattices


class _PassNet(nn.Module):
    """Locations and log2 scales of one pass: a trunk on the neighbours, a head for each channel group."""

    def __init__(self, inputs: int, groups: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        self.groups = groups
        self.inputs = ExactLinear(inputs, hidden, relu=True)
        self.trunk = ExactLinear(hidden, hidden, relu=True)
        known = [sum(groups[:i]) for i in range(len(groups))]
        self.heads = nn.ModuleList(
            nn.ModuleList([ExactLinear(hidden + k, hidden, relu=True), ExactLinear(hidden, 2 * g, relu=False)])
            for k, g in zip(known, groups, strict=True)
        )
        for head in self.heads:
            head[1].weight.data.mul_(0.1)

    def features(self, context: Tensor) -> Tensor:
        return self.trunk(self.inputs(context))

    def parameters_of(self, group: int, features: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Return location and log2 scale [B, n, g] of channel group `group` in signal units."""
        hidden, out = self.heads[group]
        return out(hidden(torch.cat([features, known], -1))).chunk(2, -1)


class QuincunxPrior(nn.Module):
    """Location and scale of every latent from those already coded.

    Args:
        channels: latent channels C.
        groups: sizes of the channel groups, in coding order; they sum to C.
        hidden: width of the networks.
        conditions: numbers known beforehand, given to every pass.
        far: how many channels of the further neighbours are looked at; all if None.
        shared: one pair of networks for the passes of all half-steps but 1, which have few sites; and the first pass
            has a network, too, on the conditions alone.
        line: latents are a sequence, [B, 1, w, C].
    """

    def __init__(
        self,
        channels: int,
        groups: tuple[int, ...],
        hidden: int,
        conditions: int = 1,
        *,
        far: int | None = None,
        shared: bool = False,
        line: bool = False,
    ) -> None:
        super().__init__()
        assert sum(groups) == channels
        self.channels, self.groups, self.shared = channels, groups, shared
        self.far = channels if far is None else far
        self.half_steps = LINE_HALF_STEPS if line else HALF_STEPS
        kinds = "L" if line else "DX"
        near, further = len(_NEAR[kinds[0]]), len(_FAR[kinds[0]])
        inputs = near * channels + further * self.far + conditions
        steps = (self.half_steps[0], self.half_steps[-1]) if shared else self.half_steps
        self.nets = nn.ModuleDict({f"{kind}{h}": _PassNet(inputs, groups, hidden) for h in steps for kind in kinds})
        if shared:
            self.first_net = _PassNet(conditions, groups, hidden)
        else:
            self.first = nn.Parameter(torch.zeros(2, channels))  # location and log2 scale without context

    def code(
        self, coder: Coder, y: Tensor | None, grid: tuple[int, int, int], log2_gain: Tensor, condition: Tensor
    ) -> Tensor:
        """Pass every symbol through the coder and return them, [B, h, w, C].

        Args:
            y: symbols [B, h, w, C] in quantization steps, None when decoding.
            grid: B, h, w.
            log2_gain: [B, C], steps in a unit of the signal; the networks work in signal units, at any quality.
            condition: [B, conditions] or [B, h, w, conditions], in the dtype to compute in (float64 to be exact).
        """
        batch, height, width = grid
        like = {"dtype": condition.dtype, "device": condition.device}
        condition = condition[:, None, None] if condition.dim() == 2 else condition
        condition = condition.expand(batch, height, width, -1)
        reach = 3 * self.half_steps[0]  # sites to the furthest neighbour
        above = 0 if self.half_steps == LINE_HALF_STEPS else reach
        padded = torch.zeros(batch, height + 2 * above, width + 2 * reach, self.channels, **like)
        canvas = padded[:, above : above + height, reach : reach + width]
        out = torch.empty(batch, height, width, self.channels, **like) if y is None else y
        # Rounded symbols carry no gradient in training, so neither may their step: the two would cancel.
        gain, step = exp2(log2_gain)[:, None], exp2(-log2_gain.detach())[:, None]
        for h, kind, lattices in passes(height, width, self.half_steps):
            net = self._net(h, kind)
            groups = self.groups if net else (self.channels,)
            given = _gather(lattices, y).split(groups, -1) if y is not None else [None] * len(groups)
            if net:
                context = [self._context(padded, (above, reach), kind, h, at, condition) for at in lattices]
                features = net.features(torch.cat(context, 1))
            gains, steps = gain.split(groups, -1), step.split(groups, -1)
            known, values = condition.new_zeros(batch, sum(at.count(canvas) for at in lattices), 0), []
            for group, log2 in enumerate(log2_gain[:, None].split(groups, -1)):
                if net:
                    location, log2_scale = net.parameters_of(group, features, known)
                else:
                    location, log2_scale = (
                        p.expand(batch, lattices[0].count(canvas), -1) for p in fix(self.first, ACTIVATION_BITS)
                    )
                values.append(coder(given[group], location * gains[group], log2_scale + log2))
                dequantized = fix(values[-1] * steps[group], ACTIVATION_BITS)
                known = torch.cat([known, dequantized.clamp(-ACTIVATION_MAX, ACTIVATION_MAX)], -1)
            _scatter(lattices, canvas, known)
            if y is None:
                _scatter(lattices, out, torch.cat(values, -1))
        return out

    def _net(self, h: int, kind: str) -> _PassNet | None:
        """Return the network of a pass; the first has one only if it has conditions to look at."""
        if not kind:
            return self.first_net if self.shared else None
        return self.nets[f"{kind}{self.half_steps[0] if self.shared and h > 1 else h}"]

    def _context(
        self, padded: Tensor, origin: tuple[int, int], kind: str, h: int, at: Lattice, condition: Tensor
    ) -> Tensor:
        """Return [B, n, inputs]: the neighbourhood of each site of a lattice (zeros where unknown) and conditions."""
        height, width = condition.shape[1:3]
        views = []
        for i, (dr, dc) in enumerate(NEIGHBOURS[kind] if kind else []):
            channels = slice(self.far if i >= len(_NEAR[kind]) else None)
            shifted = padded[:, origin[0] + dr * h :, origin[1] + dc * h :, channels][:, :height, :width]
            views.append(shifted[:, at.rows, at.cols])
        views.append(condition[:, at.rows, at.cols])
        return torch.cat(views, -1).flatten(1, 2)


def _gather(lattices: list[Lattice], canvas: Tensor) -> Tensor:
    """Return the values of several lattices of a canvas [B, h, w, C], one after another, [B, n, C]."""
    return torch.cat([at.read(canvas) for at in lattices], 1)


def _scatter(lattices: list[Lattice], canvas: Tensor, values: Tensor) -> None:
    """Write values [B, n, C] of several lattices, one after another in n, onto a canvas [B, h, w, C]."""
    for lattice, part in zip(lattices, values.split([at.count(canvas) for at in lattices], 1), strict=True):
        lattice.write(canvas, part)
