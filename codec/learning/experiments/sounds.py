"""Clips and what networks get to see of them: frames of samples, transforms, energies in bands."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import codec
from codec.atomic import atomic_path
from codec.errors import MediaError
from codec.evaluation.audio_anchors import decode, encode_opus
from codec.mel import mel_bands

_NAME = re.compile(r"(\d)-.*\.\w+")  # fold, then whatever ESC-10 says of the recording
_LOWEST, _HIGHEST = 6.0, 256.0  # kbit/s that Opus takes for each channel
_CLOSE = 0.01  # of a wanted size
_HALVINGS = 10


@dataclass(frozen=True)
class Clips:
    """Short recordings in classes and folds.

    Attributes:
        files: where they came from.
        samples: [1, n] float32 each, mixed to one channel.
        rate: samples a second of all of them.
        labels, folds: [n] int64; labels are positions in `classes`.
        classes: names of the folders.
    """

    files: list[Path]
    samples: list[np.ndarray]
    rate: int
    labels: Tensor
    folds: Tensor
    classes: tuple[str, ...]


def read(folder: Path) -> Clips:
    """Read all clips of a folder of classes; the fold is the first digit of a file's name.

    Raises:
        MediaError: there are none, or their sample rates differ.
    """
    classes = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    files = [path for name in classes for path in sorted((folder / name).iterdir()) if _NAME.fullmatch(path.name)]
    if not files:
        raise MediaError(f"{folder} holds no clips; name the one whose folders are the classes of ESC-10")
    sounds = [codec.read(path) for path in files]
    rates = {sound.rate for sound in sounds}
    if len(rates) > 1:
        raise MediaError(f"the clips have sample rates {sorted(rates)}; convert them to one")
    labels = torch.tensor([classes.index(path.parent.name) for path in files])
    folds = torch.tensor([int(path.name[0]) for path in files])
    samples = [sound.samples.mean(0, keepdims=True) for sound in sounds]
    return Clips(files, samples, rates.pop(), labels, folds, classes)


def kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return the bytes of a file, which is made if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_bytes(make())
    return path.read_bytes()


def opus(kbps: float, samples: np.ndarray, rate: int) -> bytes:
    """Return an .opus file of samples [channels, n]."""
    return encode_opus(samples, rate, kbps)


def opus_samples(data: bytes) -> np.ndarray:
    """Return the samples [channels, n] of an .opus file."""
    return decode(data)[0]


def opus_rate(probe: Sequence[np.ndarray], rate: int, target: float) -> float:
    """Return the kbit/s at which Opus takes `target` bytes a clip of `probe` on average, or its lowest."""
    low, high = _LOWEST, _HIGHEST * len(probe[0])
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        size = float(np.mean([len(opus(middle, x, rate)) for x in probe]))
        low, high = (low, middle) if size > target else (middle, high)
        if abs(size / target - 1) < _CLOSE:
            return middle
    return low


# --- what a network gets -----------------------------------------------------------------------------------


def energies(x: Tensor, frames: int, quiet: float) -> Tensor:
    """Return the log of the mean square of each channel [C, n] over so many frames, [C, n / frames]."""
    power = F.avg_pool1d(x.square()[None], frames)[0]
    return torch.log(power + quiet**2)


def folded(x: Tensor, size: int) -> Tensor:
    """Return channels of so many samples (or frames) each in its own channel: [C, n] -> [C * size, n / size]."""
    count = x.shape[1] // size
    return x[:, : count * size].unflatten(1, (count, size)).transpose(1, 2).flatten(0, 1)


def log_mel(samples: np.ndarray, rate: int, *, hop: int, bands: int, quiet: float) -> Tensor:
    """Return the log of the energy in mel bands of samples [1, n], from windows of two hops, [bands, 1 + n / hop]."""
    window = torch.hann_window(2 * hop)
    x = torch.from_numpy(samples[0])
    power = torch.stft(x, 2 * hop, hop, window=window, return_complex=True).abs().square()
    return torch.log(_bands(rate, 2 * hop, bands) @ power + quiet)


@lru_cache(maxsize=4)
def _bands(rate: int, window: int, bands: int) -> Tensor:
    return torch.from_numpy(mel_bands(rate, window, bands).copy())


# --- a transform that samples come back from ----------------------------------------------------------------


@lru_cache(maxsize=4)
def _cosines(hop: int) -> Tensor:
    """Return the windowed cosines of the MDCT, [2 * hop, hop] (Malvar, 1990)."""
    n, k = np.arange(2 * hop)[:, None] + 0.5, np.arange(hop)[None] + 0.5
    window = np.sin(np.pi / (2 * hop) * n)
    return torch.from_numpy(window * np.sqrt(2 / hop) * np.cos(np.pi / hop * (n + hop / 2) * k)).float()


def mdct(x: Tensor, hop: int) -> Tensor:
    """Map samples [channels, n] to coefficients [channels * hop, ceil(n / hop) + 1], orthonormal."""
    padded = F.pad(x, (hop, hop + -x.shape[1] % hop))
    return (padded.unfold(1, 2 * hop, hop) @ _cosines(hop)).transpose(1, 2).flatten(0, 1)


def inverse_mdct(y: Tensor, hop: int, length: int) -> Tensor:
    """Map what `mdct` returns back to samples [channels, length]."""
    late, early = (y.unflatten(0, (-1, hop)).transpose(1, 2) @ _cosines(hop).T).chunk(2, -1)
    return (late[:, 1:] + early[:, :-1]).flatten(1)[:, :length]
