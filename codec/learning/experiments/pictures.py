"""Photographs in folders of classes, decoded once and augmented as they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.nn import functional as F

from codec.errors import MediaError

SIDE = 128  # pixels of the shorter side; larger photographs are reduced, smaller ones enlarged
_SMALLEST = 0.35  # share of the area a random crop keeps
_ASPECT = 4 / 3  # largest change of shape
_JITTER = 0.3  # of brightness, contrast and saturation


@dataclass(frozen=True)
class Pictures:
    """Decoded photographs.

    Attributes:
        files: where they came from.
        pixels: [3, H, W] uint8 each.
        labels: [n] int64, positions in `classes`.
        classes: names of the folders.
    """

    files: list[Path]
    pixels: list[Tensor]
    labels: Tensor
    classes: tuple[str, ...]


def read(folder: Path) -> Pictures:
    """Read all photographs of a folder of classes.

    Raises:
        MediaError: there are none.
    """
    classes = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir())) if folder.is_dir() else ()
    files = [path for name in classes for path in sorted((folder / name).iterdir()) if path.is_file()]
    if not files:
        raise MediaError(f"{folder} holds no folders of photographs; name the one whose folders are the classes")
    pixels = []
    for path in files:
        with PIL.Image.open(path) as picture:
            samples = np.array(_sized(picture.convert("RGB")))
        pixels.append(torch.from_numpy(samples).permute(2, 0, 1).contiguous())
    labels = torch.tensor([classes.index(path.parent.name) for path in files])
    return Pictures(files, pixels, labels, classes)


def _sized(picture: PIL.Image.Image) -> PIL.Image.Image:
    shorter = min(picture.size)
    if shorter == SIDE:
        return picture
    size = [max(round(n * SIDE / shorter), SIDE) for n in picture.size]
    return picture.resize(size, PIL.Image.Resampling.LANCZOS, reducing_gap=3.0)


def varied(pixels: Sequence[Tensor], rng: np.random.Generator, side: int) -> Tensor:
    """Return a batch [B, 3, side, side] in -0.5..0.5 of random crops, mirrored, with other light and colours.

    After Szegedy et al., "Going Deeper with Convolutions" (CVPR 2015), section 6.
    """
    crops = []
    for picture in pixels:
        height, width = picture.shape[1:]
        area = rng.uniform(_SMALLEST, 1.0) * min(height, width) ** 2
        aspect = np.exp(rng.uniform(-np.log(_ASPECT), np.log(_ASPECT)))
        h, w = (
            min(round(n), whole) for n, whole in ((np.sqrt(area / aspect), height), (np.sqrt(area * aspect), width))
        )
        row, col = rng.integers(height - h + 1), rng.integers(width - w + 1)
        crop = picture[None, :, row : row + h, col : col + w].float()
        crop = F.interpolate(crop, (side, side), mode="bilinear", align_corners=False)
        crops.append(crop.flip(-1) if rng.random() < 0.5 else crop)
    x = torch.cat(crops) / 255 - 0.5
    light, contrast, saturation = torch.from_numpy(rng.uniform(1 - _JITTER, 1 + _JITTER, (3, len(x), 1, 1, 1))).float()
    x = (x - x.mean((1, 2, 3), keepdim=True)) * contrast + x.mean((1, 2, 3), keepdim=True) + (light - 1) * 0.5
    gray = x.mean(1, keepdim=True)
    return ((x - gray) * saturation + gray).clamp_(-0.5, 0.5)


def signal(picture: Tensor) -> Tensor:
    """Return [3, H, W] uint8 as float32 in -0.5..0.5."""
    return picture.float() / 255 - 0.5
