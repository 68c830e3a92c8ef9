"""What all quantizers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from codec.coding.exact import fix

ENTRY_BITS = 12  # fraction bits of what codes stand for
NOTHING = -1  # a code that was left out or lost: it adds nothing
_AT_ONCE = 1 << 24  # distances that are held at a time


class Quantized(NamedTuple):
    """What a quantizer makes of vectors [B, T, D] in training.

    Attributes:
        vectors: [B, T, D], with the gradient of the input passed straight through.
        codes: [B, T, K], of all books, also those that `vectors` leaves out.
        loss: scalar, what keeps input and codes together.
    """

    vectors: Tensor
    codes: Tensor
    loss: Tensor


class Quantizer(nn.Module, ABC):
    """Maps vectors [..., D] to K codes each, coarse to fine, and back.

    A vector is the sum of what its codes stand for, so the first codes alone make a coarser one: encoding with fewer is
    a prefix of encoding with all. `fixed_point` tensors are whole multiples of 2**-12 when frozen: sums of vectors are
    then exact in float64, and may be the context that codes are entropy coded in.

    Attributes:
        width: D.
        sizes: entries of each of the K books.
    """

    width: int
    sizes: tuple[int, ...]

    @property
    def books(self) -> int:
        """K, the number of codes a vector."""
        return len(self.sizes)

    @abstractmethod
    def encode(self, x: Tensor, books: int | None = None) -> Tensor:
        """Return the codes [..., K] (of the first `books`) of vectors [..., D], int64."""

    @abstractmethod
    def vectors(self, book: int) -> Tensor:
        """Return what the codes of a book stand for, [entries, D]."""

    def decode(self, codes: Tensor) -> Tensor:
        """Return the vectors [..., D] of codes [..., k], k <= K; `NOTHING` adds nothing."""
        total = 0.0
        for book, column in enumerate(codes.long().unbind(-1)):
            total = total + self.contribution(book, column)
        return total

    def contribution(self, book: int, codes: Tensor) -> Tensor:
        """Return what codes [...] of one book add, [..., D]."""
        table = self.vectors(book)
        return torch.where((codes >= 0)[..., None], table[codes.clamp_min(0)], table.new_zeros(()))

    def initialize(self, x: Tensor) -> None:
        """Start from vectors [N, D] as they come from the untrained encoder."""

    @abstractmethod
    def forward(self, x: Tensor, keep: Tensor) -> Quantized:
        """Quantize vectors [B, T, D] in training, sample b with its first keep[b] books (quantizer dropout, Zeghidour
        et al., "SoundStream", 2021, III-C)."""

    def bound(self, x: Tensor) -> Tensor:
        """Return vectors [..., D] as they are compared with what codes stand for."""
        return x

    def chosen(self, codes: Tensor) -> Tensor:
        """Return what codes [...] of the first book stand for, in training: with gradients if entries learn by them."""
        return self.vectors(0)[codes]

    def learn(self, x: Tensor, codes: Tensor) -> None:
        """Move what codes [N] of the first book stand for towards the vectors [N, D] that chose them."""

    def fixed_point(self) -> Iterable[str]:
        """Return the names of the buffers that are stored as multiples of 2**-12."""
        return ()

    def freeze(self) -> None:
        """Round what decides bits."""
        self.double()
        for name in self.fixed_point():
            tensor = self.get_buffer(name)
            tensor.data = fix(tensor.data, ENTRY_BITS)


def nearest(x: Tensor, vectors: Tensor) -> Tensor:
    """Return the rows [...] of vectors [K, D] nearest to x [..., D], int64."""
    flat = x.reshape(-1, x.shape[-1])
    squares = vectors.pow(2).sum(1)
    parts = flat.split(max(1, _AT_ONCE // len(vectors)))
    found = [(squares - 2 * part @ vectors.T).argmin(1) for part in parts if len(part)]
    return torch.cat(found).reshape(x.shape[:-1]) if found else flat.new_zeros(x.shape[:-1], dtype=torch.long)
