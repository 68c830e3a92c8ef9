"""Photographs for training: cropped at random, mirrored and transposed, never upscaled."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from codec.training.dataset import Dataset

_CENTRE = 256  # pixels a side of a crop for validation, where pictures have as many
_WHOLE = 16  # pixels that all systems divide a side into


class Photos(Dataset):
    """Photographs; `smallest` and sizes are pixels a side, samples [H, W, 3] uint8, crops [count, 3, size, size]."""

    suffixes = frozenset({".avif", ".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"})
    what = "photographs"

    def crops(self, seed: list[int], count: int, size: int, indices: list[int]) -> Tensor:
        rng = np.random.default_rng(seed)
        crops = []
        for _ in range(count):
            image = self[indices[rng.integers(len(indices))]]
            row, col = (rng.integers(n - size + 1) for n in image.shape[:2])
            crop = image[row : row + size, col : col + size]
            if rng.random() < 0.5:
                crop = crop[:, ::-1]
            if rng.random() < 0.25:
                crop = crop.transpose(1, 0, 2)
            crops.append(np.ascontiguousarray(crop.transpose(2, 0, 1)))
        return torch.from_numpy(np.stack(crops))

    def centres(self, indices: list[int]) -> Tensor:
        images, crops = [self[index] for index in indices], []
        side = min(_CENTRE, *(n for image in images for n in image.shape[:2]))
        side -= side % _WHOLE
        for image in images:
            row, col = ((n - side) // 2 for n in image.shape[:2])
            crops.append(image[row : row + side, col : col + side].transpose(2, 0, 1))
        return torch.from_numpy(np.stack(crops))

    def signal(self, crops: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """Return images [B, 3, H, W] in -0.5..0.5."""
        return crops.to(device, non_blocking=True).float().div_(255).sub_(0.5)

    def _fits(self, data: bytes, smallest: int) -> bool:
        with PIL.Image.open(io.BytesIO(data)) as image:
            return min(image.size) >= smallest

    def _decode(self, data: bytes) -> np.ndarray:
        with PIL.Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
