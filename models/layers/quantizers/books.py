"""Quantizers made of learned codebooks.

All are one cascade: each book codes what the books before it have left over, seen through a window on the channels.

    residual   every book sees all channels             (Zeghidour et al., "SoundStream", 2021; Defossez et al., 2022)
    grouped    books take turns at disjoint groups      (Yang et al., "HiFi-Codec", 2023: GRVQ)
    masked     the first ones see a part each, then all (Ji et al., "Language-Codec", 2024: MCRVQ)
    single     one large book                           (Ji et al., "WavTokenizer", 2024)

Encoding and training run the same code, so windows apply to both. Books learn by moving averages of what they are
chosen for (van den Oord et al., "Neural Discrete Representation Learning", 2017, appendix A), start from k-means, and
entries that fall out of use begin anew at a vector of the batch.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.models.layers.quantizers.base import Quantized, Quantizer, nearest
from codec.training import distributed

_DECAY = 0.99  # of the averages
_DEAD = 0.05  # share of the average use below which an entry begins anew
_ITERATIONS = 12  # of k-means
SAMPLES = 8  # vectors an entry that k-means looks at


class Codebook(nn.Module):
    """Entries [n, d] and how often each is chosen.

    Attributes:
        entries: [n, d].
        usage: [n], moving average of how many vectors of a batch chose the entry.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("entries", torch.randn(size, width) / width**0.5)
        self.register_buffer("usage", torch.ones(size))

    def nearest(self, x: Tensor) -> Tensor:
        """Return the indices [...] of the entries nearest to x [..., d]."""
        return nearest(x, self.entries)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Become the k-means of vectors [N, d]."""
        size = len(self.entries)
        x = x[torch.randperm(len(x), device=x.device)[: SAMPLES * size]]
        self.entries.copy_(x[torch.randperm(len(x), device=x.device)[:size].repeat(-(-size // len(x)))[:size]])
        for _ in range(_ITERATIONS):
            count, mean = self._means(x, self.nearest(x))
            self.entries.copy_(torch.where(count[:, None] > 0, mean, self.entries))
        self.usage.copy_(count + 1e-3)

    @torch.no_grad()
    def learn(self, x: Tensor, index: Tensor) -> None:
        """Move the entries towards the vectors [N, d] that chose them."""
        count, mean = self._means(x, index)
        self.usage.mul_(_DECAY).add_(count, alpha=1 - _DECAY)
        # The same as the ratio of a moving average of sums and one of counts, without keeping the sums.
        self.entries.add_((mean - self.entries) * ((1 - _DECAY) * count / self.usage.clamp_min(1e-6))[:, None])
        dead = self.usage < _DEAD * self.usage.mean()
        if dead.any():
            chosen = x[torch.randint(len(x), (int(dead.sum()),), device=x.device)]
            self.entries[dead] = distributed.from_first(chosen)
            self.usage[dead] = self.usage.mean()

    def _means(self, x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return how many vectors chose each entry, and their means, over all processes."""
        count = torch.bincount(index.flatten(), minlength=len(self.entries)).to(x)
        total = torch.zeros_like(self.entries).index_add_(0, index.flatten(), x)
        count, total = distributed.sums(count, total)
        return count, total / count.clamp_min(1)[:, None]


class Cascade(Quantizer):
    """Books one after another, each on what is left over in its channels.

    Args:
        width: channels D.
        entries: of each book.
        windows: for each book the channels it codes.
    """

    def __init__(self, width: int, entries: int, windows: list[slice]) -> None:
        super().__init__()
        self.width, self.windows = width, windows
        self.sizes = (entries,) * len(windows)
        self.tables = nn.ModuleList(Codebook(entries, len(range(width)[window])) for window in windows)

    def encode(self, x: Tensor, books: int | None = None) -> Tensor:
        codes, left = [], x.clone()
        for window, table in list(zip(self.windows, self.tables, strict=True))[:books]:
            codes.append(table.nearest(left[..., window]))
            left[..., window] -= table.entries[codes[-1]]
        return torch.stack(codes, -1)

    def vectors(self, book: int) -> Tensor:
        entries, window = self.tables[book].entries, self.windows[book]
        return F.pad(entries, (window.start, self.width - window.stop))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        left = x.clone()
        for window, table in zip(self.windows, self.tables, strict=True):
            table.start(left[:, window])
            left[:, window] -= table.entries[table.nearest(left[:, window])]

    def forward(self, x: Tensor, keep: Tensor) -> Quantized:
        left, total, codes = x.detach(), torch.zeros_like(x), []
        loss, scale = x.new_zeros(()), x.detach().var().clamp_min(1e-6)  # relative, so that shrinking gains nothing
        for book, (window, table) in enumerate(zip(self.windows, self.tables, strict=True)):
            target = left[..., window]
            index = table.nearest(target)
            vector = table.entries[index]
            if torch.is_grad_enabled():
                # The input is held to the sum of all books up to this one. (Subtracting outputs that pass their
                # gradient straight through, as EnCodec does, would leave all books but the first without a loss.)
                due = x[..., window] - x.detach()[..., window] + target
                loss = loss + (due - vector).pow(2).mean() / (scale * self.books)
                table.learn(target.flatten(0, -2), index)
            kept = F.pad(vector, (window.start, self.width - window.stop))
            left = left - kept
            total = total + kept * (book < keep)[:, None, None]
            codes.append(index)
        return Quantized(x + (total - x).detach(), torch.stack(codes, -1), loss)

    def learn(self, x: Tensor, codes: Tensor) -> None:
        self.tables[0].learn(x[:, self.windows[0]], codes)

    def fixed_point(self) -> list[str]:
        return [f"tables.{i}.entries" for i in range(self.books)]


def residual(width: int, *, books: int, entries: int) -> Cascade:
    """Return plain residual vector quantization."""
    return Cascade(width, entries, [slice(0, width)] * books)


def grouped(width: int, *, groups: int, layers: int, entries: int) -> Cascade:
    """Return group-residual vector quantization: `layers` books for each of `groups` equal parts of the channels.

    The codes of a layer stand together, [group 0, group 1, ..., of layer 0; of layer 1; ...].
    """
    return Cascade(width, entries, _parts(width, groups) * layers)


def masked(width: int, *, books: int, entries: int, parts: int = 3) -> Cascade:
    """Return mask-channel residual vector quantization: the first `parts` books code a part of the channels each.

    Language-Codec's public code masks in training but not in its `encode`; here there is one way.
    """
    if books < parts:
        raise ValueError(f"{books} books cannot cover {parts} parts of the channels")
    return Cascade(width, entries, _parts(width, parts) + [slice(0, width)] * (books - parts))


def single(width: int, *, entries: int) -> Cascade:
    """Return one large codebook: one token a frame."""
    return residual(width, books=1, entries=entries)


def _parts(width: int, count: int) -> list[slice]:
    if not 1 <= count <= width:
        raise ValueError(f"{width} channels cannot be cut into {count} parts")
    edges = [i * width // count for i in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]
