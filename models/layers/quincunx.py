"""Quincunx prior: code a grid of latents coarse to fine, each site from neighbours on all sides.

Sites are coded in a fixed order of passes. First every 8th row and column, without context. Then, for the
half-steps h = 4, 2, 1, the sites half-way along the diagonals (`D`) and then those half-way along rows and
columns (`X`):

    A . A        A . A        A X A
    . . .   ->   . D .   ->   X D X      half-step h: the known grid has step 2h
    A . A        A . A        A X A

Seen from a `D` site the known sites form a square lattice, seen from an `X` site the same lattice turned by
45 degrees, so both use 4 near and 8 further neighbours. Inside a pass the channels follow in groups, each
knowing the groups before it. There is no side information: the stream is the latents alone. All sites of a
pass are coded at once (19 passes whatever the size), so decoding is parallel.

The order is that of interlaced lossless image coders (FLIF); the parallel contexts generalise the
checkerboard of He et al., "Checkerboard Context Model for Efficient Learned Image Compression" (CVPR 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from codec.coding.exact import ACTIVATION_BITS, WEIGHT_BITS, ExactLinear, fix

COARSE = 8  # step of the first pass
HALF_STEPS = (4, 2, 1)
_REACH = 3 * HALF_STEPS[0]  # furthest neighbour, in sites
_NEAR_D = [(dr, dc) for dr in (-1, 1) for dc in (-1, 1)]
_FAR_D = [(dr, dc) for dr in (-3, -1, 1, 3) for dc in (-3, -1, 1, 3) if abs(dr) + abs(dc) == 4]
_NEAR_X = [(-1, 0), (0, -1), (0, 1), (1, 0)]
_FAR_X = [(dr, dc) for dr in (-2, -1, 1, 2) for dc in (-2, -1, 1, 2) if abs(dr) + abs(dc) == 3]
NEIGHBOURS = {"D": _NEAR_D + _FAR_D, "X": _NEAR_X + _FAR_X}


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


# step(lattices, channels, location, log2_scale) codes one group of symbols and returns their dequantized
# values, rounded and saturated as activations are; all are [B, n, channels] in signal units, with n the sites
# of the lattices together.
Step = Callable[[list[Lattice], slice, Tensor, Tensor], Tensor]


def passes(height: int, width: int) -> Iterator[tuple[int, str, list[Lattice]]]:
    """Yield (half-step, kind, site lattices) for every pass after the first that has sites."""
    for h in HALF_STEPS:
        step = 2 * h
        for kind, starts in (("D", [(h, h)]), ("X", [(0, h), (h, 0)])):
            lattices = [
                Lattice(slice(r, height, step), slice(c, width, step)) for r, c in starts if r < height and c < width
            ]
            if lattices:
                yield h, kind, lattices


class _PassNet(nn.Module):
    """Locations and log2 scales of one pass: a trunk on the neighbours, a head for each channel group."""

    def __init__(self, channels: int, groups: tuple[int, ...], hidden: int, conditions: int) -> None:
        super().__init__()
        self.groups = groups
        self.inputs = ExactLinear(12 * channels + conditions, hidden, relu=True)
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
        conditions: numbers known beforehand (here the quality), given to every pass.
    """

    def __init__(self, channels: int, groups: tuple[int, ...], hidden: int, conditions: int = 1) -> None:
        super().__init__()
        assert sum(groups) == channels
        self.channels, self.groups = channels, groups
        self.first = nn.Parameter(torch.zeros(2, channels))  # location and log2 scale without context
        self.nets = nn.ModuleDict(
            {f"{kind}{h}": _PassNet(channels, groups, hidden, conditions) for h in HALF_STEPS for kind in "DX"}
        )

    def fixed_point(self) -> dict[str, int]:
        """Return the fraction bits of every parameter, by name."""
        return {
            name: WEIGHT_BITS if name.endswith("weight") else ACTIVATION_BITS for name, _ in self.named_parameters()
        }

    def code(self, step: Step, batch: int, height: int, width: int, condition: Tensor) -> Tensor:
        """Visit every site in coding order and return the dequantized latents [B, h, w, C].

        Args:
            step: codes the symbols of some channels at the sites of some lattices (see `Step`).
            condition: [B, conditions], in the dtype to compute in (float64 to be exact).
        """
        like = {"dtype": condition.dtype, "device": condition.device}
        padded = torch.zeros(batch, height + 2 * _REACH, width + 2 * _REACH, self.channels, **like)
        canvas = padded[:, _REACH : _REACH + height, _REACH : _REACH + width]
        first = Lattice(slice(0, height, COARSE), slice(0, width, COARSE))
        rows, cols = first.shape(height, width)
        location, log2_scale = (p.expand(batch, rows * cols, -1) for p in fix(self.first, ACTIVATION_BITS))
        first.write(canvas, step([first], slice(0, self.channels), location, log2_scale))
        for h, kind, lattices in passes(height, width):
            net = self.nets[f"{kind}{h}"]
            context = torch.cat([_neighbours(padded, kind, h, lattice, canvas, condition) for lattice in lattices], 1)
            features = net.features(context)
            known = features[..., :0]
            for group, size in enumerate(self.groups):
                channels = slice(known.shape[-1], known.shape[-1] + size)
                location, log2_scale = net.parameters_of(group, features, known)
                known = torch.cat([known, step(lattices, channels, location, log2_scale)], -1)
            for lattice, values in zip(lattices, known.split([at.count(canvas) for at in lattices], 1), strict=True):
                lattice.write(canvas, values)
        return canvas


def _neighbours(padded: Tensor, kind: str, h: int, at: Lattice, canvas: Tensor, condition: Tensor) -> Tensor:
    """Return [B, n, 12 C + conditions]: the neighbourhood of each site of a lattice; zeros where unknown."""
    batch, height, width, _ = canvas.shape
    views = [
        padded[:, _REACH + dr * h :, _REACH + dc * h :][:, :height, :width][:, at.rows, at.cols]
        for dr, dc in NEIGHBOURS[kind]
    ]
    rows, cols = at.shape(height, width)
    views.append(condition[:, None, None].expand(batch, rows, cols, -1))
    return torch.cat(views, -1).flatten(1, 2)
