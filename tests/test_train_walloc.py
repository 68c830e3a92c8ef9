"""The training script: resumable to the step, and what it exports is a codec."""

import json
import tomllib

import numpy as np
import pytest
import torch

import codec
from codec.models.zoo.train_walloc import Crops, Run, export, train

from support import DATA, ROOT

RECIPE = tomllib.loads((ROOT / "bitstreams" / "models" / "walloc-conformance" / "recipe.toml").read_text())


@pytest.fixture(scope="module")
def crops() -> Crops:
    return Crops(DATA, 128)


def make(crops: Crops, folder, steps: int) -> Run:
    recipe = RECIPE | {"train": RECIPE["train"] | {"steps": 6, "early": [2, 128], "late": [1, 128]}}
    run = Run(recipe, crops, folder)
    for _ in range(steps):
        run.advance()
    return run


def test_crops_are_parts_of_photographs(crops):
    assert len(crops.images) == 1  # the others are too small
    batch = crops.batch(np.random.default_rng(0), 3, 128)
    assert batch.shape == (3, 3, 128, 128)
    assert -0.5 <= float(batch.min()) < float(batch.max()) <= 0.5
    with pytest.raises(SystemExit, match="no images"):
        Crops(DATA, 4000)


def test_resumed_is_uninterrupted(crops, tmp_path):
    straight = make(crops, tmp_path / "straight", 4)
    make(crops, tmp_path / "cut", 2).save()
    resumed = make(crops, tmp_path / "cut", 2)
    assert resumed.step == 4
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
        assert torch.equal(straight.average[name], resumed.average[name]), name


def test_step_0_is_a_codec_and_training_improves_it(crops, tmp_path):
    run = make(crops, tmp_path / "run", 0)
    x, t = crops.batch(np.random.default_rng(1), 4, 128), torch.linspace(0, 1, 4)
    torch.manual_seed(0)
    before = run.model.loss(x, t)
    assert 10 * np.log10(255**2 / float(before["mse"])) > 20
    train(run)
    torch.manual_seed(0)
    assert run.model.loss(x, t)["loss"] < before["loss"]
    export(run, RECIPE, tmp_path / "models" / "fresh")
    facts = json.loads((tmp_path / "models" / "fresh" / "model.json").read_text())["facts"]
    assert facts["steps"] == 6
    data = codec.encode(DATA / "parrots.png", model=str(tmp_path / "models" / "fresh"), quality=60)
    assert codec.open(data).info.width == 203
