"""Where things lie, and pictures made by formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
SMALL = "walloc-conformance"


def picture_of(shape: tuple[int, ...], dtype=np.uint8) -> np.ndarray:
    """A smooth picture with some texture, any shape."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    waves = np.sin(rows / 7) + np.cos(cols / 11) + 0.3 * np.sin(rows * cols / 50)
    top = np.iinfo(dtype).max
    plane = ((waves / 4.6 + 0.5) * top).clip(0, top).astype(dtype)
    return plane if len(shape) == 2 else np.stack([plane] * shape[2], -1)
