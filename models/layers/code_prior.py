"""Probabilities of codes from the codes around them: what turns the indices of a quantizer into fewer bits.

Codes are a grid, books by frames. Books are coded one after another, coarse to fine. The frames of a book are coded in
three passes: every fourth, those half-way between, the rest. A network sees, as vectors, what the books before add up
to in this frame and the two on either side, and this book's own vectors where they are known already. So all codes of
a pass are coded at once, and the context reaches into the future as well as the past.

An encoder and decoder that wait for a unit anyway lose no time by this, where models that go frame by frame
(Defossez et al., "High Fidelity Neural Audio Compression", 2022, section 3.3: five transformer layers a step) need one
evaluation a frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.coding.coder import Coder
from codec.coding.exact import ACTIVATION_BITS, ACTIVATION_MAX, EXP2_BITS, ExactLinear, fix
from codec.models.layers.quantizers import Quantizer

_PASSES = ((0, 4), (2, 4), (1, 2))  # first frame and step
_SEEN = (-2, -1, 0, 1, 2)  # frames around whose coarser books are looked at
_OWN = (-2, -1, 1, 2)  # frames around whose code of the same book is looked at, where known


class CodePrior(nn.Module):
    """log2 masses of every code, for the books of a quantizer.

    Args:
        width: of the quantizer's vectors, D.
        sizes: entries of each book.
        hidden: width of the networks.
    """

    def __init__(self, width: int, sizes: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        inputs = (len(_SEEN) + len(_OWN)) * width + len(_PASSES)
        self.nets = nn.ModuleList(
            nn.Sequential(
                ExactLinear(inputs, hidden, relu=True),
                ExactLinear(hidden, hidden, relu=True),
                ExactLinear(hidden, size, relu=False),
            )
            for size in sizes
        )
        for net in self.nets:
            net[-1].weight.data.mul_(0.1)

    def code(self, coder: Coder, codes: Tensor | None, grid: tuple[int, int, int], quantizer: Quantizer) -> Tensor:
        """Pass every code through the coder and return them, [B, T, K].

        Args:
            codes: whole numbers held as floats, [B, T, K]; None when decoding.
            grid: B, T and the number of books K.
            quantizer: whose vectors are the context; in float64, frozen, to be exact.
        """
        batch, frames, books = grid
        edge = max(_SEEN)
        dtype = quantizer.vectors(0).dtype
        coarse = torch.zeros(batch, frames + 2 * edge, quantizer.width, dtype=dtype, device=self._device)
        out = []
        for book in range(books):
            own = torch.zeros_like(coarse)
            column = coarse.new_zeros(batch, frames)
            for number, (start, step) in enumerate(_PASSES):
                sites = slice(start, frames, step)
                if start >= frames:
                    continue
                shifted = [coarse[:, edge + d : edge + d + frames][:, sites] for d in _SEEN]
                shifted += [own[:, edge + d : edge + d + frames][:, sites] for d in _OWN]
                which = F.one_hot(torch.tensor(number), len(_PASSES)).to(coarse).expand(*shifted[0].shape[:2], -1)
                context = fix(torch.cat([*shifted, which], -1), ACTIVATION_BITS)
                context = context.clamp(-ACTIVATION_MAX, ACTIVATION_MAX)
                log2_mass = fix(self.nets[book](context), EXP2_BITS)
                given = None if codes is None else codes[:, sites, book]
                coded = coder.masses(given, log2_mass)
                column[:, sites] = coded.to(dtype)
                own[:, edge : edge + frames][:, sites] = quantizer.contribution(book, coded.long())
            coarse = coarse + own
            out.append(column)
        return torch.stack(out, -1)

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device
