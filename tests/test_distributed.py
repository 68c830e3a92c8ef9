"""Several processes train one model: `torchrun` as users start it, on the CPU."""

import subprocess
import sys

from support import DATA

SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from codec.training import distributed, trainer
from codec.training.photos import Photos
from codec.training.recipe import read
from codec.training.run import Run

recipe, data, folder = map(Path, sys.argv[1:])
run = Run(read(recipe), distributed.start("cpu"))
photos = Photos([data], smallest=128)
trainer.prepare(run, photos, folder, resume=True)
trainer.train(run, photos, folder, report=lambda line: None, workers=1)
mine = torch.cat([p.detach().flatten() for p in run.model.parameters()])
theirs = mine.clone()
torch.distributed.broadcast(theirs, 0)
assert torch.equal(mine, theirs), "the processes have different weights"
distributed.wait()
(folder / f"rank{distributed.rank()}").write_text(f"{distributed.size()} {run.step}")
distributed.finish()
"""

RECIPE = """
system = "walloc"
[config]
latents = 12
width = 16
blocks = 1
groups = [3, 4, 5]
hidden = 16
lambda_range = [0.002, 0.05]
[train]
steps = 3
lr = 1e-3
validation = 0
stages = [{ start = 0.0, batch = 3, size = 128 }]
"""


def test_processes_keep_one_set_of_weights(tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [tmp_path / "script.py", tmp_path / "recipe.toml", DATA, tmp_path / "run"]
    result = subprocess.run([*torchrun, *map(str, words)], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert [(tmp_path / "run" / f"rank{i}").read_text() for i in range(2)] == ["2 3", "2 3"]
    assert (tmp_path / "run" / "checkpoint.pt").exists()
