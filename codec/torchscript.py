"""Networks that users bring as TorchScript, such as LPIPS: they hold no code that Python would run."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

from codec.errors import ModelError

if TYPE_CHECKING:
    import torch


@lru_cache(maxsize=4)
def load(file: str) -> torch.jit.ScriptModule:
    """Return the network of a file, on the CPU.

    Raises:
        ModelError: it holds none.
    """
    import torch

    try:
        with warnings.catch_warnings():  # deprecated, but the one format that holds a network without its source
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(file, map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError) as exc:
        raise ModelError(f"{file}: not a TorchScript file; see codec eval --help") from exc
