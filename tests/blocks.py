"""Toy systems for video, so that what is around systems is tested without any: frames are means of 8 x 8 blocks."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from codec import checkpoint
from codec.coding.distributions import ScaleMixture
from codec.params import QUALITY_STEPS, video_params
from codec.video_system import VideoSystem, no_progress, tell_nobody

SIDE = 8  # pixels of a block


class Blocks(VideoSystem):
    """Symbols: `y` [frames, h, w, 3], means of blocks in steps that shrink with the quality."""

    id = "blocks"
    version = 1

    def __init__(self) -> None:
        super().__init__()
        self.shape = ScaleMixture()

    @classmethod
    def from_config(cls, config):
        return cls()

    def header(self, format, *, quality, effort, frames, group):
        return video_params(format, quality, group or 4, (SIDE, quality))

    def group_shapes(self, params, frames):
        return {"y": (frames, -(-params["height"] // SIDE), -(-params["width"] // SIDE), 3)}

    def analyze_group(self, frames, params, state, *, effort, progress=no_progress, tell=tell_nobody, store=None):
        count, height, width, _ = frames.shape
        padded = np.pad(frames, ((0, 0), (0, -height % SIDE), (0, -width % SIDE), (0, 0)), "edge")
        blocks = padded.reshape(count, padded.shape[1] // SIDE, SIDE, padded.shape[2] // SIDE, SIDE, 3)
        means = blocks.mean((2, 4)) / (1 if frames.dtype == np.uint8 else 257)
        values = torch.from_numpy(np.rint(means / self._step(params)).astype(np.int32))
        progress(0.5)
        return {"y": values if state is None else values - state}

    def code(self, coder, params, symbols):
        given = None if symbols is None else symbols["y"]
        shape = (1, *self.group_shapes(params, params["frames"])["y"])
        y = coder(given, torch.zeros(shape).double(), torch.full(shape, 3.0).double())
        return {"y": y}

    def synthesize_group(self, symbols, params, state):
        values = symbols["y"] if state is None else symbols["y"] + state
        deep = params["pixels"] in (1, 3)
        for means in values:
            levels = means.numpy() * self._step(params) * (257 if deep else 1)
            whole = levels.repeat(SIDE, 0).repeat(SIDE, 1)[: params["height"], : params["width"]]
            yield np.rint(whole).clip(0, 65535 if deep else 255).astype(np.uint16 if deep else np.uint8)

    def embed(self, symbols, params):
        return symbols["y"].float().permute(0, 3, 1, 2)

    def loss(self, batch):
        raise NotImplementedError

    def fixed_point(self):
        return {}

    def freeze(self, device):
        pass

    @staticmethod
    def _step(params):
        return 1 + 15 * (1 - params["quality"] / QUALITY_STEPS)


class ChainedBlocks(Blocks):
    """Every group is coded as its difference to the last frame of the group before; slowly, with a store."""

    id = "chained-blocks"
    chained = True
    fits = True
    STEPS = 3
    steps = 0  # taken by all fits together
    fail_after: int | None = None

    def analyze_group(self, frames, params, state, *, effort, progress=no_progress, tell=tell_nobody, store=None):
        assert params["first"] == (state is None)
        saved = store.load() if store else None
        for step in range(int(saved["step"]) if saved else 0, self.STEPS):
            if self.fail_after is not None and type(self).steps >= self.fail_after:
                raise KeyboardInterrupt
            type(self).steps += 1
            tell(f"step {step}")
            progress(step / self.STEPS)
            if store:
                store.save({"step": torch.tensor(step + 1)})
        return super().analyze_group(frames, params, state, effort=effort)

    def follow(self, symbols, params, state):
        values = symbols["y"] if state is None else symbols["y"] + state
        return values[-1]


@cache
def _files(cls: type[Blocks]) -> dict[str, bytes]:
    """Return the files of a model, which take a second to make."""
    with tempfile.TemporaryDirectory() as folder:
        info = checkpoint.save(cls(), Path(folder) / "model", config={}, facts={})
        return {path.name: path.read_bytes() for path in info.folder.iterdir()}


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make models `blocks` and `chained-blocks` for the time of a test."""
    own = {cls.id: cls for cls in (Blocks, ChainedBlocks)}
    original = checkpoint.system_class
    monkeypatch.setattr(checkpoint, "system_class", lambda name: own.get(name) or original(name))
    monkeypatch.setenv(checkpoint.PATH_VARIABLE, str(folder), prepend=os.pathsep)
    monkeypatch.setattr(ChainedBlocks, "steps", 0)
    for name, cls in own.items():
        (folder / name).mkdir(parents=True)
        for file, data in _files(cls).items():
            (folder / name / file).write_bytes(data)
