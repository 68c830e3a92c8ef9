"""The float type synthesis runs in: bfloat16 where the processor multiplies it natively, else float32."""

from __future__ import annotations

import torch


def fast_dtype(device: str) -> torch.dtype:
    """Return torch.bfloat16 on a GPU and on processors with AVX512-BF16 or AMX, torch.float32 elsewhere.

    Emulated bfloat16 is slower than float32, so other processors fall back. Symbols never depend on it.
    """
    if device != "cpu":
        return torch.bfloat16
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16")
    return torch.bfloat16 if native else torch.float32
