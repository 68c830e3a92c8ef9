"""Sound for training: stretches of two channels, varied in level, sides and company."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from codec.media import audio
from codec.training.dataset import Dataset

_CENTRE = 1 << 16  # samples of a stretch for validation
_MIXED = 0.5  # share of stretches that two files make together
_DECIBELS = 18.0  # levels vary from this much below full scale to full scale


class Sounds(Dataset):
    """Sound at the rate it has; `smallest` and sizes are samples, samples [2, n] int16, crops [count, 2, size] float32.

    Files shorter than a crop are repeated; there are loops and short sounds among the best of them.
    """

    suffixes = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"})
    what = "sounds"

    def crops(self, seed: list[int], count: int, size: int, indices: list[int]) -> Tensor:
        rng = np.random.default_rng(seed)
        return torch.from_numpy(np.stack([self._mixture(rng, size, indices) for _ in range(count)]))

    def _mixture(self, rng: np.random.Generator, size: int, indices: list[int]) -> np.ndarray:
        mixture = np.zeros((2, size), np.float32)
        for _ in range(1 + (rng.random() < _MIXED)):
            sound = self[indices[rng.integers(len(indices))]]
            start = rng.integers(max(sound.shape[1] - size, 0) + 1)
            part = np.resize(sound[0, start : start + size], size), np.resize(sound[1, start : start + size], size)
            part = np.stack(part[:: rng.choice([-1, 1])]) * np.float32(rng.choice([-1, 1]) * rng.uniform(0.3, 1))
            mixture += part
        peak = np.abs(mixture).max()
        return mixture * np.float32(10 ** (-rng.uniform(0, _DECIBELS) / 20) / max(peak, 1))

    def centres(self, indices: list[int]) -> Tensor:
        stretches = []
        for index in indices:
            sound = self[index]
            start = max(sound.shape[1] - _CENTRE, 0) // 2
            stretches.append(np.stack([np.resize(plane[start : start + _CENTRE], _CENTRE) for plane in sound]))
        return torch.from_numpy(np.stack(stretches).astype(np.float32) / 32768)

    def signal(self, crops: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """Return sound [B, 2, n] in -1..1."""
        return crops.to(device, non_blocking=True)

    def _fits(self, data: bytes, smallest: int) -> bool:
        return True  # short sounds are repeated

    def _decode(self, data: bytes) -> np.ndarray:
        samples = audio.read(data).samples
        pair = samples[[0, -1]] if len(samples) != 2 else samples
        return np.round(pair * 32767).clip(-32768, 32767).astype(np.int16)
