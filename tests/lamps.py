"""A toy system that serves a task: is the picture bright or dark? And pictures in folders named after that."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from codec import checkpoint
from codec.coding.distributions import ScaleMixture
from codec.params import image_params, quality_index
from codec.system import UnitSpec
from codec.task import TaskSystem

from support import picture_of

_MIDDLE = 128  # level


class Lamp(TaskSystem):
    """Symbols: `y` [1], the mean level of the picture."""

    id = "lamp"
    version = 1
    media = "image"

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.classes = classes
        self.shape = ScaleMixture()

    @classmethod
    def from_config(cls, config):
        return cls(tuple(config["classes"]))

    def analyze(self, signal, *, quality, effort, progress):
        mean = round(float(signal.samples.mean()) - _MIDDLE)
        params = image_params(signal.samples, quality_index(quality))
        return {"y": torch.tensor([mean], dtype=torch.int32)}, params

    def code(self, coder, params, symbols):
        given = None if symbols is None else symbols["y"]
        return {"y": coder(given, torch.zeros(1, 1).double(), torch.full((1, 1), 5.0).double())}

    def predict(self, symbols, params):
        level = symbols["y"][0].float() / 16
        return torch.stack([-level, level, torch.tensor(-20.0)])

    def embed(self, symbols, params):
        return symbols["y"].float()

    def loss(self, batch):
        raise NotImplementedError

    def shapes(self, params):
        return {"y": (1,)}

    def units(self, params):
        return [UnitSpec(params, {"y": (slice(None),)})]

    def fixed_point(self):
        return {}

    def freeze(self, device):
        self.eval()


@cache
def _files() -> dict[str, bytes]:
    """Return the files of the model, which take a second to make."""
    config = {"classes": ["dark", "bright", "green"]}
    with tempfile.TemporaryDirectory() as folder:
        info = checkpoint.save(Lamp.from_config(config), Path(folder) / "model", config=config, facts={})
        return {path.name: path.read_bytes() for path in info.folder.iterdir()}


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a model `lamp-1` for the time of a test."""
    original = checkpoint.system_class
    monkeypatch.setattr(checkpoint, "system_class", lambda name: Lamp if name == "lamp" else original(name))
    monkeypatch.setenv(checkpoint.PATH_VARIABLE, str(folder), prepend=os.pathsep)
    (folder / "lamp-1").mkdir(parents=True)
    for name, data in _files().items():
        (folder / "lamp-1" / name).write_bytes(data)


def lit(path: Path, level: int) -> Path:
    """Write a picture whose mean level is about `level`."""
    texture = picture_of((24, 32, 3)).astype(int) // 4
    samples = (texture - texture.mean() + level).round().clip(0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(samples).save(path)
    return path


def album(folder: Path) -> Path:
    """Four pictures in folders named after their classes, of which one is in the wrong folder."""
    for name, level in (("bright/a", 200), ("bright/b", 180), ("dark/a", 60), ("dark/wrong", 190)):
        lit(folder / f"{name}.png", level)
    return folder
