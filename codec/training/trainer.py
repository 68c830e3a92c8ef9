"""The training loop: batches in, metrics and checkpoints out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from codec.checkpoint import ModelInfo
from codec.lines import append_line
from codec.training import distributed
from codec.training.dataset import Dataset, prefetched
from codec.training.run import CHECKPOINT, Run

METRICS = "metrics.jsonl"
_LOG_EVERY = 100  # steps
_INITIAL_BATCHES = 32  # for closed forms
_QUALITIES = (0.1, 0.3, 0.5, 0.7, 0.9)  # that validation looks at

Report = Callable[[dict[str, Any]], None]


def prepare(run: Run, data: Dataset, folder: Path, *, resume: bool, start: ModelInfo | None = None) -> None:
    """Load the run's checkpoint, or start from the weights of a model, or else from closed forms.

    Raises:
        RecipeError: the checkpoint does not fit.
        ModelError: nor does the model.
    """
    if resume and (folder / CHECKPOINT).exists():
        run.load(folder)
        return
    if start is not None:
        run.start_from(start)
        return
    stage = run.schedule.stages[-1]
    everything = list(range(len(data)))
    batches = (
        data.signal(data.crops([run.schedule.seed, 0, i], 8, stage.size, everything), run.device)
        for i in range(_INITIAL_BATCHES)
    )
    run.model.initialize(batches)
    run.restart_average()


def train(run: Run, data: Dataset, folder: Path, *, report: Report, workers: int = 2, compiled: bool = False) -> None:
    """Train to the recipe's last step.

    Every 100 steps a line goes to `metrics.jsonl` and to `report`: step, seconds, steps a second, lr and the means of
    what `Run.advance` returns; every `validate_every` steps also `validation`, see `validate`. A checkpoint is written
    every `save_every` seconds, at the end, and when the loop is left by an exception.

    Args:
        folder: of the run.
        workers: threads that decode files.
        compiled: run the loss through `torch.compile`.
    """
    schedule = run.schedule
    training, held_out = _split(len(data), schedule.validation)
    forward = torch.compile(run.objective) if compiled else None
    first = distributed.rank() == 0
    started, saved_at = time.time() - run.seconds, time.time()
    begun_at, begun_step, window = time.time(), run.step, []

    def make(step: int) -> torch.Tensor:
        stage = schedule.stage(step)
        return data.crops([schedule.seed, 1, step, distributed.rank()], _share(stage.batch), stage.size, training)

    try:
        for crops in prefetched(make, run.step, schedule.steps, workers):
            window.append(run.advance(data.signal(crops, run.device), forward))
            if run.step % _LOG_EVERY == 0:
                run.seconds = time.time() - started
                line = {"step": run.step, "seconds": round(run.seconds), "lr": run.learning_rate()}
                line["steps_per_second"] = round((run.step - begun_step) / (time.time() - begun_at), 3)
                line |= {k: round(float(torch.stack([w[k] for w in window if k in w]).mean()), 4) for k in window[-1]}
                if not math.isfinite(line["loss"]):
                    raise FloatingPointError(f"the loss is {line['loss']} at step {run.step}; lower train.lr")
                if run.step % schedule.validate_every == 0 and held_out:
                    line["validation"] = validate(run, data, held_out)
                if first:
                    append_line(folder / METRICS, line)
                    report(line)
                begun_at, begun_step, window = time.time(), run.step, []
            if first and time.time() - saved_at > schedule.save_every:
                run.seconds = time.time() - started
                run.save(folder)
                saved_at = time.time()
    finally:
        if first:
            run.seconds = time.time() - started
            run.save(folder)
    distributed.wait()


@torch.no_grad()
def validate(run: Run, data: Dataset, held_out: list[int]) -> list[dict[str, float]]:
    """Return rate, PSNR of the mean error (dB) where there is one, and what else `System.loss` returns, of the averaged
    weights on held-out crops, at five qualities.
    """
    present = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.model.load_state_dict(run.average)
    torch.manual_seed(0)
    out, unit = [], run.model.rate_name
    for quality in _QUALITIES:
        means: dict[str, float] = {}
        for start in range(0, len(held_out), 8):
            crops = data.centres(held_out[start : start + 8])
            losses = run.model.loss(
                data.signal(crops, run.device), t=torch.full((len(crops),), quality, device=run.device)
            )
            for name, value in losses.items():
                means[name] = means.get(name, 0.0) + float(value) * len(crops) / len(held_out)
        figures = {unit: means.pop(unit)}
        if "mse" in means:  # what comes back is a signal
            figures["psnr"] = 10 * math.log10(run.model.peak**2 / means.pop("mse"))
        figures |= means
        out.append({"quality": quality} | {name: round(value, 4) for name, value in figures.items()})
    run.model.load_state_dict(present)
    return out


def _split(count: int, held_out: int) -> tuple[list[int], list[int]]:
    """Return indices to train on and every n-th held out; small sets are used whole."""
    if held_out == 0 or count < 4 * held_out:
        return list(range(count)), []
    kept = set(range(0, count, count // held_out)[:held_out])
    return [i for i in range(count) if i not in kept], sorted(kept)


def _share(batch: int) -> int:
    """Return this process's part of a batch."""
    size = distributed.size()
    return batch // size + (distributed.rank() < batch % size)
