"""WebDataset: tars of `codec pack` are its shards, and this is the handler that decodes their .lcb members.

    dataset = webdataset.WebDataset("shards/shard-{000000..000007}.tar").decode(handler()).to_tuple("lcb", "cls")

It needs nothing of the package webdataset, and none of its own handlers knows .lcb. Damaged files raise its
`DecodingError`, which `handler=webdataset.warn_and_continue` leaves out.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from codec.packing.layout import CODED
from codec.stream import Stream

Decoded = Tensor | dict[str, Tensor]


def handler(mode: str = "latents") -> Callable[[str, bytes], Decoded | None]:
    """Return a function for `.decode(...)`, which makes latents, or `symbols`, of members that end in .lcb.

    Raises:
        ValueError: the mode is neither.
    """
    if mode not in ("latents", "symbols"):
        raise ValueError(f"mode {mode!r} is neither latents nor symbols; without a handler members stay bytes")
    return decode_latents if mode == "latents" else decode_symbols


def decode_latents(key: str, data: bytes) -> Tensor | None:
    """Return the latents of a member; None, which lets others try, if it is no .lcb file."""
    return Stream(data, device="cpu").latents() if key.endswith(f".{CODED}") else None


def decode_symbols(key: str, data: bytes) -> dict[str, Tensor] | None:
    """Return the symbols of a member; None, which lets others try, if it is no .lcb file."""
    return Stream(data, device="cpu").symbols() if key.endswith(f".{CODED}") else None
