"""Train a `walloc` model: `python models/zoo/train_walloc.py walloc-12 --data DIR --run runs/walloc-12`.

Rate-distortion loss over randomly drawn quality. The run folder holds a checkpoint every two minutes; the same
command resumes from it, so stop whenever you like. `recipe.toml` beside the weights fixes everything that decides
the result. With `--export` the averaged weights of the run become the model in the zoo.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from codec import checkpoint
from codec.models.layers import wavelet
from codec.models.walloc import BANDS, Walloc

HERE = Path(__file__).parent
SAVE_EVERY = 120  # seconds
FAST = ("log2_gain", "compand.", "prior.", "shape.")  # parameters that train at twice the rate


class Crops:
    """Random crops of photographs held decoded in memory, mirrored and transposed at random.

    Photographs smaller than `size` pixels on a side are left out.
    """

    def __init__(self, folder: Path, size: int) -> None:
        files = sorted(p for p in folder.rglob("*") if p.suffix in {".avif", ".png", ".jpg", ".webp"})
        self.images = []
        for path in files:
            with Image.open(path) as image:
                if min(image.size) >= size:
                    self.images.append(np.asarray(image.convert("RGB")))
        if not self.images:
            raise SystemExit(f"no images of {size} pixels or more under {folder}")

    def batch(self, rng: np.random.Generator, count: int, size: int) -> torch.Tensor:
        """Return [count, 3, size, size] in -0.5..0.5."""
        crops = []
        for _ in range(count):
            image = self.images[rng.integers(len(self.images))]
            row, col = (rng.integers(n - size + 1) for n in image.shape[:2])
            crop = image[row : row + size, col : col + size]
            if rng.random() < 0.5:
                crop = crop[:, ::-1]
            if rng.random() < 0.25:
                crop = crop.transpose(1, 0, 2)
            crops.append(np.ascontiguousarray(crop.transpose(2, 0, 1)))
        return torch.from_numpy(np.stack(crops)).float() / 255 - 0.5


@torch.no_grad()
def packet_statistics(crops: Crops, rng: np.random.Generator, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean [192] and covariance [192, 192] of packet coefficients, in float64."""
    total, outer, count = torch.zeros(BANDS).double(), torch.zeros(BANDS, BANDS).double(), 0
    for _ in range(32):
        y = wavelet.analysis(crops.batch(rng, 16, size)).permute(0, 2, 3, 1).reshape(-1, BANDS).double()
        total, outer, count = total + y.sum(0), outer + y.T @ y, count + len(y)
    mean = total / count
    return mean, outer / count - torch.outer(mean, mean)


class Run:
    """Everything that a checkpoint holds."""

    def __init__(self, recipe: dict[str, Any], crops: Crops, folder: Path) -> None:
        self.settings = recipe["train"]
        self.path = folder / "checkpoint.pt"
        self.log_path = folder / "metrics.jsonl"
        self.crops = crops
        torch.manual_seed(self.settings["seed"])
        self.rng = np.random.default_rng(self.settings["seed"])
        self.model = Walloc.from_config(recipe["config"])
        named = list(self.model.named_parameters())
        self.optimizer = torch.optim.Adam(
            [
                {"params": [p for name, p in named if name.startswith(FAST)], "ratio": 2.0},
                {"params": [p for name, p in named if not name.startswith(FAST)], "ratio": 1.0},
            ],
            lr=self.settings["lr"],
            betas=(0.9, 0.98),
        )
        self.step, self.seconds = 0, 0.0
        if self.path.exists():
            self._load()
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self.model.initialize(*packet_statistics(crops, self.rng, self.settings["late"][1]))
            self.average = {name: value.clone() for name, value in self.model.state_dict().items()}

    def _load(self) -> None:
        saved = torch.load(self.path, weights_only=False)  # our own file, never one from elsewhere
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.average, self.step, self.seconds = saved["average"], saved["step"], saved["seconds"]
        self.rng.bit_generator.state = saved["rng"]
        torch.set_rng_state(saved["torch_rng"])

    def save(self) -> None:
        """Write the checkpoint, replacing the last one whole."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "rng": self.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
        }
        temporary = self.path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self.path)

    def advance(self) -> dict[str, float]:
        """Do one step and return its losses."""
        settings = self.settings
        late = self.step >= settings["late_from"] * settings["steps"]
        count, size = settings["late" if late else "early"]
        rate = settings["lr"] * min(1.0, (self.step + 1) / 200)
        rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.step / settings["steps"]))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["ratio"]
        losses = self.model.loss(self.crops.batch(self.rng, count, size))
        if not torch.isfinite(losses["loss"]):
            raise SystemExit(f"the loss is {losses['loss']} at step {self.step}")
        self.optimizer.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        decay = min(0.999, self.step / (self.step + 50))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        return {name: float(value.detach()) for name, value in losses.items()}


def train(run: Run) -> None:
    """Train until the recipe's last step, logging every 100 steps."""
    started, saved_at, window = time.time() - run.seconds, time.time(), []
    with run.log_path.open("a") as log:
        while run.step < run.settings["steps"]:
            window.append(run.advance())
            run.seconds = time.time() - started
            if run.step % 100 == 0:
                means = {name: round(float(np.mean([w[name] for w in window])), 4) for name in window[0]}
                log.write(json.dumps({"step": run.step, "seconds": round(run.seconds), **means}) + "\n")
                log.flush()
                print(f"step {run.step} {means}", flush=True)
                window = []
            if time.time() - saved_at > SAVE_EVERY:
                run.save()
                saved_at = time.time()
    run.save()


def export(run: Run, recipe: dict[str, Any], folder: Path) -> None:
    """Write the averaged weights as the zoo's model."""
    run.model.load_state_dict(run.average)
    facts = recipe.get("facts", {}) | {"parameters": sum(p.numel() for p in run.model.parameters()), "steps": run.step}
    print(checkpoint.save(run.model, folder, config=recipe["config"], facts=facts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name in the zoo, or folder, with a recipe.toml")
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoint and metrics")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--export", action="store_true", help="write the run's weights to the zoo instead of training")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder = HERE / args.model if (HERE / args.model).is_dir() else Path(args.model)
    recipe = tomllib.loads((folder / "recipe.toml").read_text())
    run = Run(recipe, Crops(args.data, recipe["train"]["late"][1]), args.run)
    if args.export:
        export(run, recipe, folder)
    else:
        train(run)


if __name__ == "__main__":
    main()
