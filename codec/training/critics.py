"""The adversary of a run: discriminators, their optimiser, and what they ask of a reconstruction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from codec.training import distributed
from codec.training.discriminators import Discriminators, adversarial_loss, discriminator_loss, feature_distance
from codec.training.recipe import Adversary

_PEAK = 0.8  # of the sound as discriminators hear it (Kumar et al., 2023)
_SILENCE = 1e-3  # -60 dB: quieter sound is not made louder than such


class Critics:
    """Discriminators that learn to tell sounds from reconstructions, and pull reconstructions towards sounds.

    The system sees them only as a gradient at its output. So whatever the system is, and however it is compiled, its
    own losses stay what they are, and a gradient that is not finite can be left out.

    Attributes:
        networks: the discriminators; they take signals of several channels one by one.
    """

    def __init__(self, plan: Adversary, device: torch.device) -> None:
        self.plan = plan
        with torch.random.fork_rng(devices=[]):  # until they begin, a run is the one it would be without them
            networks = Discriminators(
                periods=plan.periods, period_width=plan.period_width, windows=plan.windows, band_width=plan.band_width
            )
        self.networks = networks.to(device)
        self.optimizer = torch.optim.Adam(
            self.networks.parameters(), lr=plan.lr, betas=plan.betas, fused=device.type == "cuda"
        )

    def advance(self, x: Tensor, x_hat: Tensor, *, rate: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Learn one step from sounds and reconstructions [B, C, n], then judge.

        Args:
            rate: multiple of the recipe's learning rate, of this step.

        Returns:
            What to add to the gradient of the system's loss at x_hat, and figures for the log.
        """
        figures = self._learn(*_heard(x, x_hat.detach()), rate)
        gradient, asked = self._pull(x, x_hat)
        return gradient, figures | asked

    def _learn(self, x: Tensor, x_hat: Tensor, rate: float) -> dict[str, Tensor]:
        self.optimizer.param_groups[0]["lr"] = self.plan.lr * rate
        loss = discriminator_loss(self.networks(x), self.networks(x_hat))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        distributed.average_gradients(self.networks)
        norm = torch.nn.utils.clip_grad_norm_(self.networks.parameters(), self.plan.clip)
        if torch.isfinite(norm):  # as for the system: one bad batch must not end a run of days
            self.optimizer.step()
        return {"discriminator": loss.detach(), "discriminator_norm": norm}

    def _pull(self, x: Tensor, x_hat: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        judged = x_hat.detach().requires_grad_()
        sound, made = _heard(x, judged)
        with torch.no_grad():
            expected = self.networks(sound)
        given = self.networks(made)
        adversarial, feature = adversarial_loss(given), feature_distance(expected, given)
        wanted = (self.plan.adversarial * adversarial + self.plan.feature * feature) / self.plan.reconstruction
        (gradient,) = torch.autograd.grad(wanted, judged)
        gradient = torch.where(torch.isfinite(gradient).all(), gradient, 0)
        return gradient, {"adversarial": adversarial.detach(), "feature": feature.detach()}

    # --- checkpoints ---------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of them."""
        return {"networks": self.networks.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned.

        Raises:
            RuntimeError, ValueError: it is of other networks.
        """
        self.networks.load_state_dict(state["networks"])
        self.optimizer.load_state_dict(state["optimizer"])


def _heard(x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
    """Return sounds and reconstructions [B, C, n] as discriminators hear them: [B * C, n], without offset, loud.

    Both get the gain of the sound, so that a reconstruction too loud or too quiet is heard to be, and one of silence is
    not blown up.
    """
    x, x_hat = x.flatten(0, 1), x_hat.flatten(0, 1).float()
    gain = _PEAK / x.abs().amax(-1, keepdim=True).clamp_min(_SILENCE)
    return (x - x.mean(-1, keepdim=True)) * gain, (x_hat - x_hat.mean(-1, keepdim=True)) * gain
