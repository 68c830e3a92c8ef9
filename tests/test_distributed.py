"""Several processes train one model: `torchrun` as users start it, on the CPU."""

import subprocess
import sys
import wave

import numpy as np
import pytest

from support import DATA, TINY_RVQ, TINY_WALLOC

SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from codec.training import distributed, trainer
from codec.training.recipe import read
from codec.training.run import Run
from codec.training.sources import dataset

recipe, data, folder = map(Path, sys.argv[1:])
run = Run(read(recipe), distributed.start("cpu"))
files = dataset(run.model, [data], smallest=128)
trainer.prepare(run, files, folder, resume=True)
trainer.train(run, files, folder, report=lambda line: None, workers=1)
networks = [run.model] if run.critics is None else [run.model, run.critics.networks]
mine = torch.cat([p.detach().flatten() for network in networks for p in network.parameters()])
theirs = mine.clone()
torch.distributed.broadcast(theirs, 0)
assert torch.equal(mine, theirs), "the processes have different weights"
distributed.wait()
(folder / f"rank{distributed.rank()}").write_text(f"{distributed.size()} {run.step}")
distributed.finish()
"""

IMAGES = (
    TINY_WALLOC
    + """
[train]
steps = 3
lr = 1e-3
validation = 0
stages = [{ start = 0.0, batch = 3, size = 128 }]
"""
)
AGAINST_AN_ADVERSARY = (
    TINY_RVQ
    + """
[train]
steps = 3
lr = 1e-3
validation = 0
stages = [{ start = 0.0, batch = 3, size = 2400 }]
[adversary]
periods = [2]
period_width = 2
windows = [128]
band_width = 2
"""
)


@pytest.mark.parametrize("recipe", [IMAGES, AGAINST_AN_ADVERSARY], ids=["images", "against an adversary"])
def test_processes_keep_one_set_of_weights(recipe, tmp_path):
    (tmp_path / "recipe.toml").write_text(recipe)
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [
        tmp_path / "script.py",
        tmp_path / "recipe.toml",
        DATA if recipe is IMAGES else noise(tmp_path),
        tmp_path / "run",
    ]
    result = subprocess.run([*torchrun, *map(str, words)], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert [(tmp_path / "run" / f"rank{i}").read_text() for i in range(2)] == ["2 3", "2 3"]
    assert (tmp_path / "run" / "checkpoint.pt").exists()


def noise(folder):
    """Return a sound file of a second."""
    samples = np.random.default_rng(1).normal(size=16_000) * 3000
    with wave.open(str(folder / "noise.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return folder / "noise.wav"
