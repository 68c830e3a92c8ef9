"""The mel scale: bands of hearing over the bins of a spectrum."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=32)
def mel_bands(rate: int, window: int, bands: int) -> np.ndarray:
    """Return triangles [bands, window / 2 + 1] over 0..rate / 2, of area 1 in Hz, float32, not to be written to.

    They are those of `librosa.filters.mel(htk=False)`.
    """
    frequencies = np.linspace(0, rate / 2, window // 2 + 1)
    edges = _from_mel(np.linspace(0, _to_mel(rate / 2), bands + 2))
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    triangles = np.minimum(rising, falling).clip(0) * 2 / (edges[2:] - edges[:-2])[:, None]
    return triangles.astype(np.float32)


def _to_mel(hertz: float) -> float:
    """Slaney's scale: 200 / 3 Hz a mel up to 1 kHz, then 27 mels for a factor of 6.4."""
    return hertz * 3 / 200 if hertz < 1000 else 15 + math.log(hertz / 1000) * 27 / math.log(6.4)


def _from_mel(mels: np.ndarray) -> np.ndarray:
    return np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))
