"""Where things lie, pictures made by formula, a network that trains in no time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
SMALL = "walloc-conformance"
TINY_RVQ = """
system = "rvq"
[config]
rate = 16000
hop = 80
unit = 25
window = 160
latents = 6
encoder = [8, 1]
decoder = [8, 1]
hidden = 8
quantizer = { kind = "residual", books = 2, entries = 16 }
"""


def picture_of(shape: tuple[int, ...], dtype=np.uint8) -> np.ndarray:
    """A smooth picture with some texture, any shape."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    waves = np.sin(rows / 7) + np.cos(cols / 11) + 0.3 * np.sin(rows * cols / 50)
    top = np.iinfo(dtype).max
    plane = ((waves / 4.6 + 0.5) * top).clip(0, top).astype(dtype)
    return plane if len(shape) == 2 else np.stack([plane] * shape[2], -1)
