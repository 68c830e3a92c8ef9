"""The adversary of a run: discriminators, their optimiser, and what they ask of a reconstruction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from codec.errors import RecipeError
from codec.training import distributed
from codec.training.discriminators import Discriminators, adversarial_loss, discriminator_loss, feature_distance
from codec.training.picture_discriminators import PictureDiscriminators
from codec.training.recipe import Adversary, PictureAdversary, SoundAdversary
from codec.training.sound_discriminators import SoundDiscriminators


class Critics:
    """Discriminators that learn to tell signals from reconstructions, and pull reconstructions towards signals.

    The system sees them only as a gradient at its output, the pull. So whatever the system is, and however it is
    compiled, its own losses stay what they are, and a gradient that is not finite can be left out.

    Attributes:
        networks: the discriminators.
    """

    def __init__(self, plan: Adversary, device: torch.device) -> None:
        self.plan = plan
        with torch.random.fork_rng(devices=[]):  # until they begin, a run is the one it would be without them
            networks = _networks(plan)
        self.networks = networks.to(device)
        self.optimizer = torch.optim.Adam(
            self.networks.parameters(), lr=plan.lr, betas=plan.betas, fused=device.type == "cuda"
        )

    def advance(self, x: Tensor, x_hat: Tensor, *, rate: float) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Learn one step from signals and reconstructions, then judge.

        Args:
            x, x_hat: pictures [B, 3, H, W] in -0.5..0.5 or sounds [B, C, n] in -1..1.
            rate: multiple of the recipe's learning rate, of this step.

        Returns:
            The pull at its full size, by the weights of the recipe, None while they learn alone; figures for the log.
        """
        figures = self._learn(*self.networks.signals(x, x_hat.detach()), rate)
        if not self.heard():
            return None, figures
        pull, asked = self._pull(x, x_hat)
        return pull, figures | asked

    def backward(self, loss: Tensor, x_hat: Tensor, pull: Tensor | None) -> None:
        """Leave the gradients of the system's loss and, as far as it is heard, of the pull that `advance` returned.

        Raises:
            RecipeError: the pull shall be a share of the loss' gradient at x_hat, which has none.
        """
        if self.plan.share:
            self._backward_by_share(loss, x_hat, pull)
        elif pull is None:
            loss.backward()
        else:
            torch.autograd.backward((loss, x_hat), (None, self.heard() * pull))

    def heard(self) -> float:
        """Return the share of their pull that counts, by the steps they learnt: 0 for `warmup`, then a ramp to 1."""
        learnt = next((float(held["step"]) for held in self.optimizer.state.values()), 0.0)
        return min(max(learnt / self.plan.warmup - 1, 0.0), 1.0) if self.plan.warmup else 1.0

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
        signal, made = self.networks.signals(x, judged)
        with torch.no_grad():
            expected = self.networks(signal)
        given = self.networks(made)
        adversarial, feature = adversarial_loss(given), feature_distance(expected, given)
        wanted = (self.plan.adversarial * adversarial + self.plan.feature * feature) / self.plan.reconstruction
        (gradient,) = torch.autograd.grad(wanted, judged)
        gradient = torch.where(torch.isfinite(gradient).all(), gradient, 0)
        return gradient, {"adversarial": adversarial.detach(), "feature": feature.detach()}

    def _backward_by_share(self, loss: Tensor, x_hat: Tensor, pull: Tensor | None) -> None:
        """See `backward`. The loss' gradient passes x_hat on its way: it is measured and joined there, at no cost."""
        weight, passed = self.plan.share * self.heard(), []

        def join(own: Tensor | None) -> Tensor | None:
            if own is None:
                return None
            passed.append(own)
            return own if pull is None else own + pull * (weight * _norm(own) / _norm(pull))

        hook = x_hat.register_hook(join)
        loss.backward()
        hook.remove()
        if not passed:
            raise RecipeError(
                "the gradient of the system's loss cannot be seen at its reconstruction, so [adversary] cannot weigh "
                "against it; leave out --compile, or set adversary.share=0 for fixed weights"
            )

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


def _networks(plan: Adversary) -> Discriminators:
    match plan:
        case SoundAdversary():
            return SoundDiscriminators(
                periods=plan.periods, period_width=plan.period_width, windows=plan.windows, band_width=plan.band_width
            )
        case PictureAdversary():
            return PictureDiscriminators(width=plan.width, scales=plan.scales)
    raise TypeError(f"no discriminators for {plan = }")


def _norm(gradient: Tensor) -> Tensor:
    return torch.linalg.vector_norm(gradient.float()).clamp_min(1e-12)
