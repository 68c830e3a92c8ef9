"""Toy systems for pictures in small units: one that predicts what is lost, one that cannot, one in layers."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from codec import checkpoint
from codec.coding.coder import TableModels
from codec.coding.distributions import build_categorical
from codec.media.image import Image
from codec.params import QUALITY_STEPS, image_params, quality_index
from codec.system import System, UnitSpec

LEVELS = 64  # a token is the mean of some pixels in so many steps


class _Gray(System):
    """What the toys share: tokens of 6 bits, one uniform table."""

    version = 1
    media = "image"
    compact = True
    shape = None

    @classmethod
    def from_config(cls, config):
        return cls()

    def export_tables(self):
        return TableModels(None, build_categorical([np.full(LEVELS, 1 / LEVELS)], [0], escape=False))

    def code(self, coder, params, symbols):
        table = torch.zeros((1, *params["size"]), dtype=torch.long)
        return {"tokens": coder.categorical(None if symbols is None else symbols["tokens"], table)}

    def embed(self, symbols, params):
        return symbols["tokens"].float()

    def loss(self, batch):
        raise NotImplementedError

    def fixed_point(self):
        return {}

    def freeze(self, device):
        self.eval()


def _means(samples: np.ndarray, side: int) -> np.ndarray:
    """Return the means of blocks, in steps."""
    height, width, _ = samples.shape
    padded = np.pad(samples.mean(2), ((0, -height % side), (0, -width % side)), "edge")
    blocks = padded.reshape(padded.shape[0] // side, side, padded.shape[1] // side, side)
    return (blocks.mean((1, 3)) * LEVELS / 256).astype(np.int32)


def _picture(means: np.ndarray, side: int, params: dict) -> Image:
    levels = (means * (256 / LEVELS)).astype(np.uint8).repeat(side, 0).repeat(side, 1)
    samples = levels[: params["height"], : params["width"], None]
    return Image(samples if params["gray"] else samples.repeat(3, 2))


class Mosaic(_Gray):
    """Symbols: `tokens` [h, w], one for 8x8 pixels; units of 2x2 tokens. Lost ones become the mean of the others."""

    id = "mosaic"
    block = 8
    UNIT = 2

    def analyze(self, signal, *, quality, effort, progress):
        tokens = torch.from_numpy(_means(signal.samples, self.block))
        return {"tokens": tokens}, image_params(signal.samples, quality_index(quality))

    def shapes(self, params):
        return {"tokens": (-(-params["height"] // self.block), -(-params["width"] // self.block))}

    def units(self, params):
        rows, cols = self.shapes(params)["tokens"]
        parts = [
            (slice(top, min(top + self.UNIT, rows)), slice(left, min(left + self.UNIT, cols)))
            for top in range(0, rows, self.UNIT)
            for left in range(0, cols, self.UNIT)
        ]
        return [UnitSpec(params | {"size": [p.stop - p.start for p in part]}, {"tokens": part}) for part in parts]

    def synthesize(self, symbols, params, *, progress):
        return _picture(symbols["tokens"].numpy(), self.block, params)

    def repair(self, symbols, params, lost):
        known = torch.ones_like(symbols["tokens"], dtype=torch.bool)
        for spec in lost:
            assert not symbols["tokens"][spec.regions["tokens"]].any()
            known[spec.regions["tokens"]] = False
        mean = int(symbols["tokens"][known].float().mean())
        return {"tokens": torch.where(known, symbols["tokens"], mean)}


class Tiled(Mosaic):
    """The same in units of a size that is common, which predicts nothing."""

    id = "tiled"
    compact = False
    repair = System.repair


class Ladder(_Gray):
    """Symbols: `tokens` [regions, n] of regions of 32x32 pixels, the first n of the means of 8x8 pixels in them."""

    id = "ladder"
    layered = True
    EDGES = (0, 1, 2, 4, 8, 16)
    analyzed = 0  # pictures

    def analyze(self, signal, *, quality, effort, progress):
        type(self).analyzed += 1
        params = image_params(signal.samples, quality_index(quality))
        means = _means(signal.samples, 8)
        means = np.pad(means, [(0, -n % 4) for n in means.shape], "edge")
        rows, cols = means.shape[0] // 4, means.shape[1] // 4
        tokens = means.reshape(rows, 4, cols, 4).transpose(0, 2, 1, 3).reshape(rows * cols, 16)
        return {"tokens": torch.from_numpy(tokens[:, : self.count(params)].copy())}, params

    @staticmethod
    def count(params):
        return max(1, round(params["quality"] / QUALITY_STEPS * 16))

    def shapes(self, params):
        return {"tokens": (-(-params["height"] // 32) * -(-params["width"] // 32), self.count(params))}

    def units(self, params):
        regions, count = self.shapes(params)["tokens"]
        ends = [min(edge, count) for edge in self.EDGES]
        return [
            UnitSpec(params | {"size": [regions, b - a]}, {"tokens": (slice(0, regions), slice(a, b))})
            for a, b in pairwise(ends)
            if a < b
        ]

    def layer_quality(self, params, layers):
        return self.EDGES[layers] * QUALITY_STEPS // 16

    def truncated(self, symbols, params, quality):
        assert quality < params["quality"]
        lower = params | {"quality": quality}
        return {"tokens": symbols["tokens"][:, : self.count(lower)]}, lower

    def synthesize(self, symbols, params, *, progress):
        tokens = symbols["tokens"].numpy()
        whole = np.concatenate([tokens, tokens[:, -1:].repeat(16 - tokens.shape[1], 1)], 1)
        rows, cols = -(-params["height"] // 32), -(-params["width"] // 32)
        return _picture(whole.reshape(rows, cols, 4, 4).transpose(0, 2, 1, 3).reshape(rows * 4, cols * 4), 8, params)


_TOYS = (Mosaic, Tiled, Ladder)


@cache
def _files(cls: type[System]) -> dict[str, bytes]:
    """Return the files of a model, which take a moment to make."""
    with tempfile.TemporaryDirectory() as folder:
        info = checkpoint.save(cls(), Path(folder) / "model", config={}, facts={"layered": cls.layered})
        return {path.name: path.read_bytes() for path in info.folder.iterdir()}


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make models `mosaic`, `tiled` and `ladder` for the time of a test."""
    own = {cls.id: cls for cls in _TOYS}
    original = checkpoint.system_class
    monkeypatch.setattr(checkpoint, "system_class", lambda name: own.get(name) or original(name))
    monkeypatch.setenv(checkpoint.PATH_VARIABLE, str(folder), prepend=os.pathsep)
    monkeypatch.setattr(Ladder, "analyzed", 0)
    for name, cls in own.items():
        (folder / name).mkdir(parents=True)
        for file, data in _files(cls).items():
            (folder / name / file).write_bytes(data)
