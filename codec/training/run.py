"""A training run: everything a checkpoint holds, and one step of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codec.atomic import atomic_path
from codec.checkpoint import ModelInfo, fill, system_class
from codec.errors import ModelError, RecipeError
from codec.system import System
from codec.training import distributed, visual
from codec.training.critics import Critics
from codec.training.recipe import Recipe, fingerprint

CHECKPOINT = "checkpoint.pt"


class Run:
    """Model, optimiser, averaged weights and position of a run.

    Everything random in a step depends on the seed and the step alone, so a run that was interrupted continues as if it
    had not been.

    Attributes:
        model: in float32, on `device`.
        average: exponential moving average of the weights, what is exported.
        critics: the discriminators it is trained against; None without an `[adversary]` in the recipe.
        step, seconds: how far it is, and how long it took.
        start: digest of the model whose weights it started from; empty where it started from closed forms.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe, self.schedule, self.device = recipe, recipe.train, device
        torch.manual_seed(self.schedule.seed)
        self.model = system_class(recipe.system).from_config(recipe.config).to(device)
        if self.schedule.lpips:
            self.model.perceptual = visual.lpips(self.schedule.lpips, device)
        self.optimizer = torch.optim.Adam(
            _groups(self.model),
            lr=self.schedule.lr,
            betas=self.schedule.betas,
            fused=device.type == "cuda",
        )
        self.critics = None if recipe.adversary is None else Critics(recipe.adversary, device)
        self.step, self.seconds, self.start = 0, 0.0, ""
        self.average: dict[str, Tensor] = {}
        self.restart_average()

    def start_from(self, info: ModelInfo) -> None:
        """Take over the weights of a model, as it was exported; the optimiser begins anew.

        Raises:
            ModelError: it is a model of another system or shape.
        """
        if info.system != self.recipe.system:
            raise ModelError(f"{info.name} is a model of {info.system}, the recipe is for {self.recipe.system}")
        fill(self.model, info)
        self.start = info.digest
        self.restart_average()

    def restart_average(self) -> None:
        """Let the average begin at the present weights."""
        self.average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def learning_rate(self) -> float:
        """Return the rate of the next step: warm-up, constant, cosine to `floor`."""
        s = self.schedule
        decayed = max(0.0, self.step - s.steps * (1 - s.decay)) / max(s.steps * s.decay, 1)
        factor = s.floor + (1 - s.floor) * 0.5 * (1 + math.cos(math.pi * min(decayed, 1.0)))
        return s.lr * factor * min(1.0, (self.step + 1) / max(s.warmup, 1))

    @property
    def objective(self) -> Callable[[Tensor], Any]:
        """What of the model a step calls: the part that can be compiled."""
        return self.model.loss if self.critics is None else self.model.loss_and_signals

    def advance(self, batch: Tensor, forward: Any = None) -> dict[str, Tensor]:
        """Do one step on images [B, 3, H, W] in -0.5..0.5 or sounds [B, C, n] in -1..1.

        Args:
            forward: a compiled `objective`, if there is one.

        Returns:
            Its losses, still on the device. `loss` is the system's own, without what discriminators ask.
        """
        rate = self.learning_rate()
        self.model.rate_weight = self.schedule.stage(self.step).rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["ratio"]
        torch.manual_seed((self.schedule.seed * 1_000_003 + self.step) * distributed.size() + distributed.rank())
        outcome = (forward or self.objective)(batch)
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._backward(outcome, rate / self.schedule.lr)
        distributed.average_gradients(self.model)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.clip)
        if torch.isfinite(norm):  # one bad batch must not end a run of days
            self.optimizer.step()
        self.step += 1
        decay = min(self.schedule.ema, self.step / (self.step + 50))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        return {name: value.detach() for name, value in losses.items()} | {"norm": norm}

    def _backward(self, outcome: Any, rate: float) -> dict[str, Tensor]:
        """Leave the gradients of what `objective` returned and return all losses; discriminators learn on the way."""
        if self.critics is None:
            outcome["loss"].backward()
            return outcome
        losses, x, x_hat = outcome
        pull, figures = None, {}
        if self.step >= self.critics.plan.start * self.schedule.steps:
            pull, figures = self.critics.advance(x, x_hat, rate=rate)
        self.critics.backward(losses["loss"], x_hat, pull)
        return losses | figures

    # --- checkpoints ---------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the checkpoint, replacing the last one whole."""
        state = {
            "recipe": fingerprint(self.recipe),
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        if self.start:
            state["start"] = self.start
        if self.critics is not None:
            state["adversary"] = self.critics.state()
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / CHECKPOINT, overwrite=True) as temporary:
            torch.save(state, temporary)

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint.

        Discriminators it does not hold begin anew, as when a run goes on against an adversary; those the recipe no
        longer asks for are dropped.

        Raises:
            RecipeError: there is none, it belongs to another recipe, or cannot be read.
        """
        path = folder / CHECKPOINT
        try:
            state = torch.load(path, weights_only=True, map_location=self.device)
        except FileNotFoundError as exc:
            raise RecipeError(f"{folder} holds no run yet; train first, or name its folder with --run") from exc
        except Exception as exc:  # pickle, zip and torch each have errors of their own
            raise RecipeError(f"{path}: not a checkpoint of a run ({type(exc).__name__}); use another --run") from exc
        if state.get("recipe") != fingerprint(self.recipe):
            raise RecipeError(f"{path} belongs to another network; use another --run, or the recipe it was made with")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        if self.critics is not None and "adversary" in state:
            try:
                self.critics.restore(state["adversary"])
            except (RuntimeError, ValueError) as exc:
                raise RecipeError(f"{path} has other discriminators; keep the shapes of its [adversary]") from exc
        self.step, self.seconds, self.start = state["step"], state["seconds"], state.get("start", "")


def _groups(model: System) -> list[dict[str, Any]]:
    """Return Adam's parameter groups: one for every rate in `System.rates`."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        ratio = next((rate for start, rate in model.rates.items() if name.startswith(start)), 1.0)
        groups.setdefault(ratio, []).append(parameter)
    return [{"params": parameters, "ratio": ratio} for ratio, parameters in groups.items()]
