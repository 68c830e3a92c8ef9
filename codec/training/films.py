"""Short films for training, made of photographs that move.

A film shows a photograph under a camera that stands still, pans, turns or zooms; sometimes pieces of another photograph
pass in front of it; sometimes the light changes or the sensor is noisy. Nothing is sharper than its photograph.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from codec.training.photos import _CENTRE, Photos

_STILL = 0.3  # share of cameras and of objects that do not move
_SPEED, _SPREAD, _FASTEST = 1.2, 1.3, 16.0  # pixels a frame: median, its standard deviation in nats, limit
_TURNING = 0.25  # share of cameras that turn and zoom
_TURN, _ZOOM = 0.012, 0.015  # standard deviations a frame, in radians and as a share
_OBJECTS = (0.5, 0.8)  # shares of films with none, with at most one object; the rest has two
_FADING, _FADE = 0.12, 0.03  # share of films whose light changes; standard deviation a frame
_NOISY, _NOISE = 0.4, 3.0  # share of films with sensor noise; its largest standard deviation in levels
_SCALES = (0.8, 2.2)  # pixels of a film that a pixel of its photograph becomes


class _Path(NamedTuple):
    """Where something is in a frame: its scale, angle and centre (down, right)."""

    scale: float
    angle: float
    row: float
    col: float


class Films(Photos):
    """Photographs as films: samples [H, W, 3] uint8, crops [count, frames, 3, size, size] uint8."""

    def __init__(self, sources: list[Path], *, smallest: int, frames: int) -> None:
        self.frames = frames
        super().__init__(sources, smallest=smallest)

    def crops(self, seed: list[int], count: int, size: int, indices: list[int]) -> Tensor:
        rng = np.random.default_rng(seed)
        films = []
        for _ in range(count):
            photos = [_planes(self[indices[rng.integers(len(indices))]]) for _ in range(2)]
            films.append(_film(rng, photos, size, self.frames))
        return torch.stack(films)

    def centres(self, indices: list[int]) -> Tensor:
        films = []
        for index in indices:
            photos = [_planes(self[i]) for i in (index, indices[indices.index(index) - 1])]
            films.append(_film(np.random.default_rng([7, index]), photos, _CENTRE, self.frames))
        return torch.stack(films)


def _planes(samples: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(samples.transpose(2, 0, 1)))[None].float()


def _film(rng: np.random.Generator, photos: list[Tensor], size: int, frames: int) -> Tensor:
    """Return a film [frames, 3, size, size] uint8 of two photographs [1, 3, H, W]."""
    scale = rng.uniform(*_SCALES)
    camera = _travel(rng, photos[0], scale, frames, turning=rng.random() < _TURNING)
    shots = torch.cat([_shot(photos[0], path, size) for path in camera])
    for _ in range(int(np.searchsorted(_OBJECTS, rng.random()))):
        shots = _with_object(rng, shots, photos[1], scale, camera)
    if rng.random() < _FADING:
        gain, offset = rng.normal(0, _FADE, 2)
        times = torch.arange(frames, dtype=torch.float32)[:, None, None, None]
        shots = shots * (1 + gain * times) + 128 * offset * times
    if rng.random() < _NOISY:
        noise = rng.standard_normal(shots.shape, np.float32) * np.float32(rng.uniform(0, _NOISE))
        shots = shots + torch.from_numpy(noise)
    return shots.round().clamp(0, 255).to(torch.uint8)


def _speed(rng: np.random.Generator) -> tuple[float, float]:
    """Return a velocity (down, right) in pixels a frame; whole numbers now and then, as of text that scrolls."""
    if rng.random() < _STILL:
        return 0.0, 0.0
    speed = min(_SPEED * math.exp(_SPREAD * rng.standard_normal()), _FASTEST)
    angle = rng.choice([rng.uniform(0, 2 * math.pi), 0.0, math.pi])  # cameras like to pan along the horizon
    return speed * math.sin(angle), speed * math.cos(angle)


def _travel(rng: np.random.Generator, photo: Tensor, scale: float, frames: int, *, turning: bool) -> list[_Path]:
    """Return where a camera looks on a photograph."""
    down, right = _speed(rng)
    turn, zoom = rng.normal(0, 1, 2) * (_TURN, _ZOOM) if turning else (0.0, 0.0)
    row, col = (rng.uniform(0.2, 0.8) * n for n in photo.shape[-2:])
    times = np.arange(frames) + rng.normal(0, 0.1, frames) * (rng.random() < 0.3)  # some hands shake
    start = rng.choice([0.0, rng.normal(0, 0.1)])
    return [
        _Path(scale * (1 + zoom) ** t, start + turn * t, row + down * t / scale, col + right * t / scale) for t in times
    ]


def _shot(photo: Tensor, path: _Path, size: int) -> Tensor:
    """Return what a camera sees, [1, 3, size, size]."""
    height, width = photo.shape[-2:]
    axis = (torch.arange(size, dtype=torch.float32) - (size - 1) / 2) / path.scale
    rows, cols = torch.meshgrid(axis, axis, indexing="ij")
    cos, sin = math.cos(path.angle), math.sin(path.angle)
    row, col = path.row + cos * rows - sin * cols, path.col + sin * rows + cos * cols
    grid = torch.stack([col * (2 / (width - 1)) - 1, row * (2 / (height - 1)) - 1], -1)[None]
    mode = "bilinear" if path.scale < 1 else "bicubic"
    return F.grid_sample(photo, grid, mode=mode, padding_mode="reflection", align_corners=True)


def _with_object(rng: np.random.Generator, shots: Tensor, photo: Tensor, scale: float, camera: list[_Path]) -> Tensor:
    """Return shots [frames, 3, size, size] with an ellipse of another photograph that moves in front."""
    size, frames = shots.shape[-1], len(shots)
    down, right = _speed(rng)
    row, col = rng.uniform(0, size, 2)
    radii = size * rng.uniform(0.06, 0.3, 2)
    angle, soft = rng.uniform(0, math.pi), rng.uniform(0.7, 2)  # pixels over which its edge fades
    still = _Path(scale, 0.0, *(rng.uniform(0.3, 0.7) * n for n in photo.shape[-2:]))
    follows = rng.random() < 0.3  # the camera follows it instead of standing still
    axis = torch.arange(size, dtype=torch.float32)
    out = []
    for t in range(frames):
        r0, c0 = (row, col) if follows else (row + down * t, col + right * t)
        rows, cols = torch.meshgrid(axis - r0, axis - c0, indexing="ij")
        a, b = (math.cos(angle) * rows + math.sin(angle) * cols, math.cos(angle) * cols - math.sin(angle) * rows)
        distance = (1 - ((a / radii[0]) ** 2 + (b / radii[1]) ** 2).sqrt()) * float(radii.min())
        mask = (distance / soft + 0.5).clamp(0, 1)
        there = _Path(scale, 0.0, still.row - (r0 - row) / scale, still.col - (c0 - col) / scale)
        out.append(shots[t : t + 1] * (1 - mask) + _shot(photo, there, size) * mask)
    return torch.cat(out)
