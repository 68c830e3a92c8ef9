"""A masked generator: a transformer that learns grids of tokens and makes new ones, a few passes each.

After `codec encode photos/ -r -m vqgan -q 100 -o coded/`, these lines train one and make a picture:

    import torch
    from torch.utils.data import DataLoader
    import codec
    from codec.learning import LatentDataset, collate
    from codec.learning.generator import MaskedGenerator

    data = LatentDataset("coded/", mode="symbols", crop=16)        # 16x16 tokens stand for 256x256 pixels
    network = MaskedGenerator(entries=8192)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    for epoch in range(100):
        data.set_epoch(epoch)
        for batch in DataLoader(data, 32, shuffle=True, collate_fn=collate):
            loss = network.loss(batch["symbols"]["tokens"])
            optimizer.zero_grad(), loss.backward(), optimizer.step()
    picture = codec.from_tokens(network.sample([1, 16, 16])[0], "vqgan")

Entries are those of the model's codebook.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

UNKNOWN = -1  # a token that is to be filled in
_HEAD = 32  # channels of a head of attention
_LONGEST = 256  # positions of half a period of the slowest wave that tells places apart
_NOISE = 1.0  # in the order in which tokens are settled; MaskGIT, a larger network, takes 4.5


class Block(nn.Module):
    """Tell neighbours about each other, then everybody, [B, h, w, C]; attention alone takes long to find neighbours."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.far = nn.TransformerEncoderLayer(
            width, width // _HEAD, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.near(x.movedim(-1, 1)).movedim(1, -1)
        return self.far(x.flatten(1, 2)).view(x.shape)


class MaskedGenerator(nn.Module):
    """Learn which tokens go together by guessing those that are hidden (Chang et al., "MaskGIT", CVPR 2022).

    Grids are [h, w] tokens of pictures or [n] of sequences, in batches, of any size.

    Args:
        entries: of the codebook; tokens are 0 ... entries - 1.
        width: channels, a multiple of 32.
        layers: of the transformer.

    Raises:
        ValueError: the width is another number.
    """

    def __init__(self, entries: int, width: int = 128, layers: int = 4) -> None:
        super().__init__()
        if width < _HEAD or width % _HEAD:
            raise ValueError(f"width {width} is not a multiple of {_HEAD}")
        self.entries = entries
        self.embed = nn.Embedding(entries + 1, width)  # the last one is that of hidden tokens
        self.body = nn.Sequential(*(Block(width) for _ in range(layers)), nn.LayerNorm(width))
        self.head = nn.Linear(width, entries)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits [B, entries, ...] for grids [B, ...] whose hidden tokens are `UNKNOWN`."""
        grid = tokens.shape[1:]
        rows, columns = (1, *grid)[-2:]
        x = self.embed(torch.where(tokens == UNKNOWN, self.entries, tokens).view(-1, rows, columns))
        x = self.body(x + _places(rows, columns, x.shape[-1]).to(x))
        return self.head(x).movedim(-1, 1).reshape(-1, self.entries, *grid)

    def loss(self, tokens: Tensor) -> Tensor:
        """Return the cross-entropy (nats a token) of a random share of whole grids [B, ...], given the others.

        Raises:
            ValueError: a token is none of the codebook's.
        """
        tokens = tokens.long().to(self.head.weight.device)
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.entries:
            raise ValueError(f"a token is outside 0..{self.entries - 1}; give the generator all entries of the model")
        share = (torch.rand(len(tokens), *[1] * (tokens.dim() - 1), device=tokens.device) * math.pi / 2).cos()
        order = torch.rand(tokens.shape, device=tokens.device)
        hidden = (order < share) | (order == order.flatten(1).amin(1).view_as(share))  # one at least
        logits = self(torch.where(hidden, UNKNOWN, tokens))
        return F.cross_entropy(logits.movedim(1, -1)[hidden], tokens[hidden])

    def sample(self, shape: Sequence[int], steps: int = 8, noise: float = _NOISE) -> Tensor:
        """Return new grids of a shape [B, ...], int64; see `fill`."""
        return self.fill(torch.full(tuple(shape), UNKNOWN), steps, noise)

    @torch.no_grad()
    def fill(self, tokens: Tensor, steps: int = 8, noise: float = _NOISE) -> Tensor:
        """Return grids [B, ...], int64, with what is `UNKNOWN` filled in, surest tokens first.

        Args:
            steps: passes; a cosine says how many tokens each settles, few at first.
            noise: chance in what counts as sure, less of it in every step: more gives more variety, and more mistakes.
        """
        grid = tokens.shape
        tokens = tokens.long().to(self.head.weight.device)
        unknown = (tokens == UNKNOWN).flatten(1).sum(1, keepdim=True)
        for step in range(1, steps + 1):
            logits = self(tokens).flatten(2).transpose(1, 2).log_softmax(-1)
            drawn = torch.multinomial(logits.exp().flatten(0, 1), 1).view(*logits.shape[:2], 1)
            gumbel = -torch.rand(drawn.shape, device=drawn.device).clamp_min(1e-20).log().neg().log()
            sure = (logits.gather(2, drawn) + noise * (1 - step / steps) * gumbel)[..., 0]
            known = tokens.flatten(1) != UNKNOWN
            rank = sure.masked_fill(known, math.inf).argsort(1).argsort(1)
            left = (unknown * math.cos(math.pi / 2 * step / steps)).floor()
            filled = torch.where(rank < left, UNKNOWN, drawn[..., 0])
            tokens = torch.where(known, tokens.flatten(1), filled).view(grid)
        return tokens


def _places(rows: int, columns: int, width: int) -> Tensor:
    """Return waves [rows, columns, width] that tell places apart, half of them along each axis."""
    rates = math.pi * torch.logspace(0, -1, width // 4, base=_LONGEST)
    along = [torch.arange(n)[:, None] * rates for n in (rows, columns)]
    down, across = (torch.cat([angles.cos(), angles.sin()], -1) for angles in along)
    return torch.cat([down[:, None].expand(-1, columns, -1), across.expand(rows, -1, -1)], -1)
