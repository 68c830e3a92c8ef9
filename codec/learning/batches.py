"""Items of different sizes joined to batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from codec.learning.views import Item

BYTE_PADDING = 256  # what follows the end of a file among bytes 0 ... 255: an embedding has 257 rows


def collate(items: Sequence[Item]) -> dict[str, Any]:
    """Join items to a batch, each padded at its end to the largest; `collate_fn` of a DataLoader.

    Returns:
        of latents: `latents` [B, C, h, w] (sound [B, C, frames], video [B, T, C, h, w]) with zeros, `mask`, true where
            there are latents, [B, h, w] ([B, frames], [B, T, h, w]), and `sizes` [B, 2] ([B, 1], [B, 3]), int64.
        of symbols: `symbols`, name -> [B, ...] with zeros, and `sizes`, name -> [B, dimensions].
        of bytes: `bytes` [B, n] int64 with `BYTE_PADDING`, ready for an embedding, and `lengths` [B].
        in all cases `label` [B] int64 and `key`, a list; what a transform added as `default_collate` joins it.

    Raises:
        ValueError: latents differ in their channels.
    """
    batch: dict[str, Any] = {}
    for name in items[0]:
        values = [item[name] for item in items]
        if name == "latents":
            batch |= _latents(values)
        elif name == "symbols":
            padded = {part: _pad([value[part] for value in values]) for part in values[0]}
            batch["symbols"] = {part: value for part, (value, _) in padded.items()}
            batch["sizes"] = {part: sizes for part, (_, sizes) in padded.items()}
        elif name == "bytes":
            batch["bytes"], sizes = _pad([value.long() for value in values], BYTE_PADDING)
            batch["lengths"] = sizes[:, 0]
        elif name == "key":
            batch["key"] = values
        else:
            batch[name] = default_collate(values)
    return batch


def _latents(values: list[Tensor]) -> dict[str, Tensor]:
    axis = 1 if values[0].dim() == 4 else 0  # of channels
    counts = {value.shape[axis] for value in values}
    if len(counts) > 1:
        raise ValueError(f"latents of {sorted(counts)} channels in one batch; keep mono and stereo, or models, apart")
    padded, sizes = _pad(values)
    rest = [a for a in range(values[0].dim()) if a != axis]
    sizes = sizes[:, rest]
    mask = torch.ones(len(values), *[padded.shape[a + 1] for a in rest], dtype=torch.bool)
    for i, largest in enumerate(mask.shape[1:]):
        inside = torch.arange(largest) < sizes[:, i, None]
        mask &= inside.reshape(len(values), *[largest if a == i else 1 for a in range(len(rest))])
    return {"latents": padded, "mask": mask, "sizes": sizes}


def _pad(values: list[Tensor], filling: int = 0) -> tuple[Tensor, Tensor]:
    """Return tensors of the same number of dimensions as one, and their shapes [B, dimensions]."""
    sizes = torch.tensor([list(value.shape) for value in values])
    largest = sizes.amax(0).tolist()
    if all(list(value.shape) == largest for value in values):
        return torch.stack(values), sizes
    out = values[0].new_full((len(values), *largest), filling)
    for line, value in zip(out, values, strict=True):
        line[tuple(slice(n) for n in value.shape)] = value
    return out, sizes
