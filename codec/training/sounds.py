"""Sound for training: stretches varied in level, sides, pitch and company."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from codec.media import audio
from codec.media.resample import resample
from codec.training.dataset import Dataset

_CENTRE = 1 << 16  # samples of a stretch for validation
_MIXED = 0.5  # share of stretches of several channels that two files make together
_DECIBELS = 18.0  # levels vary from this much below full scale to full scale
_BENT = 0.12  # largest change of pitch and speed, of single channels
_SUDDEN = 0.1  # share of single channels that begin in silence, as files do


class Sounds(Dataset):
    """Sound; `smallest` and sizes are samples, samples [C, n] int16, crops [count, C, size] float32.

    Files shorter than a crop are repeated; there are loops and short sounds among the best of them. Two channels are
    music: sides are swapped and files mixed. One is speech: it is bent in pitch, and begins.

    Args:
        rate: samples a second to convert to; None to take each file as it is.
        channels: 1 or 2.
    """

    suffixes = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"})
    what = "sounds"

    def __init__(self, sources: list[Path], *, smallest: int, rate: int | None = None, channels: int = 2) -> None:
        self._rate, self._channels = rate, channels
        super().__init__(sources, smallest=smallest)

    def crops(self, seed: list[int], count: int, size: int, indices: list[int]) -> Tensor:
        rng = np.random.default_rng(seed)
        make = self._mixture if self._channels == 2 else self._voice
        return torch.from_numpy(np.stack([make(rng, size, indices) for _ in range(count)]))

    def _mixture(self, rng: np.random.Generator, size: int, indices: list[int]) -> np.ndarray:
        mixture = np.zeros((2, size), np.float32)
        for _ in range(1 + (rng.random() < _MIXED)):
            part = self._part(rng, size, indices)
            mixture += part[:: rng.choice([-1, 1])] * np.float32(rng.choice([-1, 1]) * rng.uniform(0.3, 1))
        return _at_some_level(rng, mixture)

    def _voice(self, rng: np.random.Generator, size: int, indices: list[int]) -> np.ndarray:
        taken = round(size * rng.uniform(1 - _BENT, 1 + _BENT))
        voice = _stretched(self._part(rng, taken, indices), size) * np.float32(rng.choice([-1, 1]))
        if rng.random() < _SUDDEN:
            voice[:, : rng.integers(size // 2)] = 0
        return _at_some_level(rng, voice)

    def _part(self, rng: np.random.Generator, size: int, indices: list[int]) -> np.ndarray:
        """Return a stretch [C, size] of a file, in 16-bit levels."""
        sound = self[indices[rng.integers(len(indices))]]
        start = rng.integers(max(sound.shape[1] - size, 0) + 1)
        return np.stack([np.resize(plane[start : start + size], size) for plane in sound]).astype(np.float32)

    def centres(self, indices: list[int]) -> Tensor:
        stretches = []
        for index in indices:
            sound = self[index]
            start = max(sound.shape[1] - _CENTRE, 0) // 2
            stretches.append(np.stack([np.resize(plane[start : start + _CENTRE], _CENTRE) for plane in sound]))
        return torch.from_numpy(np.stack(stretches).astype(np.float32) / 32768)

    def signal(self, crops: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """Return sound [B, C, n] in -1..1."""
        return crops.to(device, non_blocking=True)

    def _fits(self, data: bytes, smallest: int) -> bool:
        return True  # short sounds are repeated

    def _decode(self, data: bytes) -> np.ndarray:
        sound = audio.read(data)
        samples = sound.samples
        if self._channels == 1:
            samples = samples.mean(0, keepdims=True)
        elif len(samples) != 2:
            samples = samples[[0, -1]]
        samples = resample(samples, sound.rate, self._rate or sound.rate)
        return np.round(samples * 32767).clip(-32768, 32767).astype(np.int16)


def _at_some_level(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Return sound in -1..1 of a random level."""
    return x * np.float32(10 ** (-rng.uniform(0, _DECIBELS) / 20) / max(np.abs(x).max(), 1))


def _stretched(x: np.ndarray, size: int) -> np.ndarray:
    """Return a period [C, n] as `size` samples."""
    return np.fft.irfft(np.fft.rfft(x)[:, : size // 2 + 1], size).astype(np.float32) * np.float32(size / x.shape[1])
