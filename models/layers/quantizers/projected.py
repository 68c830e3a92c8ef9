"""One large codebook whose entries are frozen and learn together, through a projection.

Zhu et al., "Scaling the Codebook Size of VQGAN to 100,000 with a Utilization Rate of 99%" (2024): entries that learn
one by one only move when they are chosen, so most of a large book dies; a projection moves them all with every
gradient. Their entries are features of a pretrained network; ours are k-means centres of what the encoder first gives.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codec.models.layers.quantizers.base import Quantized, Quantizer, nearest
from codec.models.layers.quantizers.books import Codebook


class Projected(Quantizer):
    """A book of frozen entries behind a learned linear map.

    Args:
        width: D.
        entries: of the book.

    Attributes:
        entries: [K, D], what codes stand for; follows the projection in training, is all that counts in files.
    """

    def __init__(self, width: int, *, entries: int) -> None:
        super().__init__()
        self.width, self.sizes = width, (entries,)
        self.register_buffer("frozen", torch.randn(entries, width) / width**0.5)
        self.register_buffer("entries", self.frozen.clone())
        self.projector = nn.Linear(width, width)
        nn.init.eye_(self.projector.weight)
        nn.init.zeros_(self.projector.bias)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        book = Codebook(*self.frozen.shape).to(x.device)
        book.start(x)
        self.frozen.copy_(book.entries)
        self.entries.copy_(book.entries)

    def encode(self, x: Tensor, books: int | None = None) -> Tensor:
        return nearest(x, self.entries)[..., None]

    def vectors(self, book: int) -> Tensor:
        return self.entries

    def chosen(self, codes: Tensor) -> Tensor:
        projected = self.projector(self.frozen)
        if torch.is_grad_enabled():
            self.entries.copy_(projected.detach())
        return projected[codes]

    def forward(self, x: Tensor, keep: Tensor) -> Quantized:
        codes = self.encode(x.detach())
        chosen = self.chosen(codes[..., 0])
        scale = x.detach().var().clamp_min(1e-6)
        loss = ((chosen - x.detach()).pow(2).mean() + (chosen.detach() - x).pow(2).mean()) / scale
        return Quantized(x + (chosen - x).detach() * (keep > 0)[:, None, None], codes, loss)

    def fixed_point(self) -> list[str]:
        return ["entries"]
