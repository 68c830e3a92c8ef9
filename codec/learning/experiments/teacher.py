"""The classifier of photographs that `student` is taught by and that decoded files are judged with.

Trained on pixels alone, from random weights. What is kept is the network with its normalisations folded in.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from codec.learning.experiments import pictures
from codec.learning.experiments.fitting import Plan, accuracy, fit
from codec.learning.experiments.work import megamacs
from codec.learning.networks import Classifier, Shape, fold, folded

PLAN = Plan(epochs=70, batch=64, lr=2e-3, decay=0.05, smoothing=0.1, mixup=0.2)


def network_for(classes: int) -> Classifier:
    """Return the teacher in the form that is kept, untrained."""
    return folded(_shape(classes))


def run(data: Path, out: Path, *, plan: Plan = PLAN, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Train on DATA/train, write `teacher.safetensors`, and return a row with its accuracy in per cent on
    DATA/validation and DATA/test.

    Raises:
        MediaError: there are no photographs.
    """
    import safetensors.torch

    training = pictures.read(data / "train")
    varied = lambda chosen, rng: pictures.varied([training.pixels[i] for i in chosen], rng, pictures.SIDE)
    draw = lambda chosen, rng: (varied(chosen, rng), training.labels[chosen])
    make = lambda: Classifier(_shape(len(training.classes)))
    network, seconds = fit(make, draw, len(training.files), plan, tell)
    network = fold(network)
    work = megamacs(network, torch.zeros(1, 3, pictures.SIDE, pictures.SIDE))
    row = {"input": "pixels", "epochs": plan.epochs, "epoch_seconds": round(seconds, 2), "mmac": round(work, 1)}
    for part in ("validation", "test"):
        held_out = pictures.read(data / part)
        inputs = [pictures.signal(x) for x in held_out.pixels]
        row[part] = round(100 * accuracy(network, inputs, held_out.labels), 2)
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    safetensors.torch.save_file(weights, out / "teacher.safetensors", {"classes": "\n".join(training.classes)})
    return [row]


def _shape(classes: int) -> Shape:
    return Shape(3, classes, stem=(24, 48), widths=(48, 96, 192), blocks=2)
