"""Probabilities of the tokens of a grid from any of its tokens that are known: it codes, and it repairs.

After masked token models (Chang et al., "MaskGIT", 2022) and Mao et al., "Extreme Image Compression using Fine-tuned
VQGANs" (2023), where a transformer predicts what was lost; here the network is of integers, so the same one also serves
entropy coding (El-Nouby et al., "Image Compression with Product Quantized Masked Image Modeling", 2023).

    vectors of known tokens, zero elsewhere --[ 5x5 ]--[ residual blocks, 3x3 ]--[ linear ]--> log2 mass of every entry
    which are known, how many entries are in use --'

A grid is coded in five passes, coarse to fine (`layers.quincunx`): every fourth row and column, the middles of their
squares, and so on, all tokens of a pass at once; half of all tokens know the four beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.coding.coder import Coder
from codec.coding.exact import ACTIVATION_BITS, ACTIVATION_MAX, EXP2_BITS, ExactLinear, fix
from codec.coding.exact_conv import ExactConv2d
from codec.models.layers.quincunx import Lattice, passes

HALF_STEPS = (2, 1)
_CONDITIONS = 2  # planes beside the vectors: known, size
_REPAIR_SHARE = 0.3  # of training samples whose unknown tokens are at random places, not those of a pass
_LOST_SIDE = 8  # tokens a side of what is lost together
_ROUNDS = 8  # in which repair fills in


class _Residual(nn.Module):
    """`x + 1x1(relu(3x3(x)))`, saturated; exact where its layers are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a = ExactConv2d(width, width, 3, activation="relu")
        self.b = ExactConv2d(width, width, 1)
        self.b.weight.data.mul_(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.b(self.a(x))).clamp(-ACTIVATION_MAX, ACTIVATION_MAX)


class MaskedPrior(nn.Module):
    """log2 masses of the entries of a codebook at every site of a grid.

    Args:
        width: of the entries' vectors, D.
        entries: of the codebook, K; tokens 0 ... n - 1 are in use, n <= K.
        hidden: width of the network.
        blocks: residual blocks.
    """

    def __init__(self, width: int, entries: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.entries = entries
        self.head = ExactConv2d(width + _CONDITIONS, hidden, 5, activation="relu")
        self.body = nn.ModuleList(_Residual(hidden) for _ in range(blocks))
        self.tail = ExactLinear(hidden, entries, relu=False)
        self.tail.weight.data.mul_(0.1)

    def features(self, canvas: Tensor, known: Tensor, t: Tensor) -> Tensor:
        """Return what the tail needs of every site, [B, h, w, hidden].

        Args:
            canvas: vectors of tokens [B, h, w, D]; those of unknown ones do not matter.
            known: 1 or 0, [B, h, w].
            t: which part of the codebook is in use, [B] in 0..1.
        """
        seen = fix(canvas, ACTIVATION_BITS).clamp(-ACTIVATION_MAX, ACTIVATION_MAX) * known[..., None]
        size = fix(t * 2 - 1, ACTIVATION_BITS)[:, None, None].expand_as(known)
        x = self.head(torch.cat([seen, torch.stack([known, size], -1)], -1).permute(0, 3, 1, 2))
        for block in self.body:
            x = block(x)
        return x.permute(0, 2, 3, 1)

    def code(self, coder: Coder, tokens: Tensor | None, grid: tuple[int, int, int], table: Tensor, t: Tensor) -> Tensor:
        """Pass every token through the coder and return them, [B, h, w].

        Args:
            tokens: whole numbers held as floats, [B, h, w]; None when decoding.
            grid: B, h, w.
            table: vectors of the tokens in use, [n, D]; in float64, frozen, to be exact.
            t: see `features`.
        """
        read = lambda at: None if tokens is None else at.read(tokens[..., None])[..., 0]
        return self._decided(grid, table, t, lambda at, masses: coder.masses(read(at), masses))

    def _decided(
        self, grid: tuple[int, int, int], table: Tensor, t: Tensor, decide: Callable[[Lattice, Tensor], Tensor]
    ) -> Tensor:
        """Return tokens [B, h, w] that a function of their sites and log2 masses decides upon, pass by pass."""
        batch, height, width = grid
        canvas = table.new_zeros(batch, height, width, table.shape[1])
        known = table.new_zeros(batch, height, width, 1)
        out = table.new_zeros(batch, height, width, 1)
        for _, _, lattices in passes(height, width, HALF_STEPS):
            features = self.features(canvas, known[..., 0], t)
            for at in lattices:
                decided = decide(at, self.masses(at.read(features), len(table)))
                at.write(out, decided[..., None].to(out.dtype))
                at.write(canvas, table[decided.long()])
            for at in lattices:
                at.write(known, torch.ones_like(at.read(known)))
        return out[..., 0]

    def masses(self, features: Tensor, size: int) -> Tensor:
        """Return log2 masses [..., size] of the first entries."""
        tail = self.tail
        if size < self.entries and tail.frozen:  # an affine map's first rows: what is left out is not computed
            y = features @ tail.weight[:size].T + tail.bias[:size]
            return fix(fix(y, ACTIVATION_BITS).clamp(-ACTIVATION_MAX, ACTIVATION_MAX), EXP2_BITS)
        return fix(tail(features)[..., :size], EXP2_BITS)

    # --- encoding ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def choose(self, x: Tensor, table: Tensor, t: Tensor, price: float) -> Tensor:
        """Return tokens [B, h, w] of vectors [B, h, w, D] that are near and cost few bits, as they will be coded.

        Chou et al., "Entropy-Constrained Vector Quantization" (1989), with the masses that tokens coded before give.

        Args:
            table, t: see `code`.
            price: squared distance that is worth a bit.
        """
        squares = table.square().sum(1)
        cost = lambda at, masses: squares - 2 * (at.read(x) @ table.T) - price * masses
        return self._decided(tuple(x.shape[:3]), table, t, lambda at, masses: cost(at, masses).argmin(-1))

    # --- training ------------------------------------------------------------------------------------------

    def training_bits(self, tokens: Tensor, vectors: Tensor, sizes: Tensor, t: Tensor) -> Tensor:
        """Return the mean bits of a token, at random passes or, for repair, of tokens at random places.

        Args:
            tokens: [B, h, w], int64.
            vectors: theirs, [B, h, w, D].
            sizes: entries in use, [B].
            t: see `features`.
        """
        known, wanted = _random_masks(*tokens.shape, tokens.device)
        features = self.features(vectors, known.to(vectors), t)
        masses = fix(self.tail(features[wanted]), EXP2_BITS)
        allowed = torch.arange(self.entries, device=tokens.device) < sizes[:, None]
        which = torch.arange(len(tokens), device=tokens.device)[:, None, None].expand_as(tokens)[wanted]
        masses = masses.masked_fill(~allowed[which], -math.inf)
        return F.cross_entropy(masses * math.log(2), tokens[wanted]) / math.log(2)

    # --- repair --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def fill(self, tokens: Tensor, known: Tensor, table: Tensor, t: Tensor) -> Tensor:
        """Return tokens [h, w] with the unknown ones predicted, those the network is surest of first.

        Args:
            tokens: int64; unknown ones do not matter.
            known: bool, [h, w].
            table, t: see `code`; t [1].
        """
        tokens, known = tokens.clone(), known.clone()
        missing = int((~known).sum())
        for round_ in range(_ROUNDS):
            unknown = ~known
            if not unknown.any():
                break
            features = self.features(table[tokens][None], known[None].to(table), t)[0]
            best, guess = self._best(features[unknown], len(table))
            share = math.cos(math.pi / 2 * (round_ + 1) / _ROUNDS)  # MaskGIT's schedule
            count = max(int(unknown.sum()) - int(missing * share), 1)
            surest = best.argsort(descending=True, stable=True)[:count]
            where = unknown.nonzero()[surest]
            tokens[where[:, 0], where[:, 1]] = guess[surest]
            known[where[:, 0], where[:, 1]] = True
        return tokens

    def _best(self, features: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return the log of the probability of the likeliest token of each row, and that token."""
        found = []
        for part in features.split(4096):
            nats = self.masses(part, size) * math.log(2)
            top, index = nats.max(-1)
            found.append((top - nats.logsumexp(-1), index))
        return tuple(torch.cat(column) for column in zip(*found, strict=True))


def _random_masks(batch: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return what is known and what is asked for, bool [B, h, w]: a pass of `code`, or holes and scattered losses."""
    number = torch.zeros(height, width, dtype=torch.long)
    for i, (_, _, lattices) in enumerate(passes(height, width, HALF_STEPS)):
        for at in lattices:
            number[at.rows, at.cols] = i
    stage = torch.randint(int(number.max()) + 1, (batch, 1, 1))
    known, wanted = number < stage, number == stage
    holes = torch.rand(batch, -(-height // _LOST_SIDE), -(-width // _LOST_SIDE)) < torch.rand(batch, 1, 1) * 0.7
    holes = holes.repeat_interleave(_LOST_SIDE, 1).repeat_interleave(_LOST_SIDE, 2)[:, :height, :width]
    lost = (holes & (torch.rand(batch, height, width) < torch.rand(batch, 1, 1) * 1.5)) | (
        torch.rand(batch, height, width) < torch.rand(batch, 1, 1) * 0.5
    )
    repair = torch.rand(batch, 1, 1) < _REPAIR_SHARE
    known, wanted = torch.where(repair, ~lost, known), torch.where(repair, lost, wanted)
    return known.to(device), wanted.to(device)
