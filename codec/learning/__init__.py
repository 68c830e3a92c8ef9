"""Learning from compressed files: data sets of latents, symbols or bytes, for `torch.utils.data.DataLoader`.

    from codec.learning import LatentDataset, collate

    train = LatentDataset("shards/", crop=16, flip=True)     # a folder of `codec pack`, of .lcb files; tars; a list
    loader = DataLoader(train, 64, shuffle=True, num_workers=2, collate_fn=collate)
    batch = next(iter(loader))                               # latents [B, C, H, W], mask, sizes, label [B], key

`IterableLatentDataset` reads tars from front to back and divides them among workers and ranks. The modules
`codec.learning.webdataset` and `codec.learning.hugging_face` bring latents to those libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codec.learning.batches import BYTE_PADDING, collate
    from codec.learning.dataset import LatentDataset
    from codec.learning.streaming import IterableLatentDataset

_HOME = {  # public name -> module that defines it
    "BYTE_PADDING": "codec.learning.batches",
    "IterableLatentDataset": "codec.learning.streaming",
    "LatentDataset": "codec.learning.dataset",
    "collate": "codec.learning.batches",
}
__all__ = ["BYTE_PADDING", "IterableLatentDataset", "LatentDataset", "collate"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'codec.learning' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
