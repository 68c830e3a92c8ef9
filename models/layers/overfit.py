"""Fit a network and the embeddings of a clip to its frames, at a rate: the loss is bits + lambda * squared error.

Rounding is relaxed in two phases, after Kwan et al., "NVRC: Neural Video Representation Compression" (NeurIPS 2024):
first uniform noise on what will be rounded (weights, embeddings), then true rounding of a share that grows to all of
it, with gradients passed straight through. Weights of convolutions follow Muon (orthogonalised momentum; Jordan et al.,
2024), which needs a third of Adam's steps here, everything else Adam. The rate of the weights is counted every few
steps, times as many.

All randomness follows from the number of the step, so a fit that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codec.coding.distributions import ScaleMixture
from codec.models.layers.coded_weights import CodedWeights
from codec.models.layers.frame_decoder import FrameDecoder
from codec.models.layers.frame_embeddings import FrameEmbeddings
from codec.models.layers.precision import fast_dtype
from codec.video_system import Store, Tell

_MUON_RATE, _ADAM_RATE, _EMBEDDING_RATE, _TRAIT_RATE = 0.04, 3e-3, 2e-2, 2e-2
_WARMUP = 0.03  # of the steps
_NOISE, _ALL = 0.6, 0.9  # shares of the steps: up to which there is noise, from which on everything is rounded
_RATE_EVERY = 4  # steps
_SAVE_EVERY = 20.0  # seconds
_LOOKS = 8  # how often the fit is measured as it would be coded
_CLIP = 1.0  # largest norm of the gradient of what Adam moves
_LEAST_STEPS = 12  # that count as an epoch: a short clip needs as many as a longer one
_BATCH_PIXELS = 200_000  # a step sees about so many, and at least one frame


@dataclass(frozen=True)
class Plan:
    """How to fit.

    Attributes:
        epochs: times every frame is seen; those of a short clip more often.
        weight: lambda, of the mean squared error in 8-bit levels against bits per pixel.
    """

    epochs: int
    weight: float


class Fit:
    """A fit of one group.

    Args:
        frames: [T, 3, H, W] in -0.5..0.5.
        start: embeddings to start from, [T, C, h, w].
        before: the symbols of the network before, resolved, to continue from; None to start anew.
        shape: the family of the tables.
    """

    def __init__(
        self,
        decoder: FrameDecoder,
        frames: Tensor,
        start: Tensor,
        plan: Plan,
        shape: ScaleMixture,
        *,
        before: dict[str, Tensor] | None = None,
    ) -> None:
        self.device = frames.device
        self._decoder = decoder.to(self.device).to(memory_format=torch.channels_last)
        self._frames, self._plan, self._shape = frames, plan, shape
        self.weights = CodedWeights(decoder).to(self.device)
        if before is not None:
            self.weights.continue_from(before)
        self.embeddings = FrameEmbeddings(start).to(self.device)
        pixels = frames.shape[2] * frames.shape[3]
        self._batch = max(min(round(_BATCH_PIXELS / pixels), 4, len(frames)), 1)
        self._steps_an_epoch = -(-len(frames) // self._batch)
        self.steps = plan.epochs * max(self._steps_an_epoch, _LEAST_STEPS)
        self.step = 0
        self._optimizers = self._make_optimizers()
        self._first_rates = [[g["lr"] for g in o.param_groups] for o in self._optimizers]

    def _make_optimizers(self) -> list[torch.optim.Optimizer]:
        shapes = self.weights.layout.shapes.values()
        both = zip(self.weights.matrices, shapes, strict=True)
        matrices = [m for m, shape in both if len(shape) == 4]  # kernels; what modulates is too delicate for Muon
        others = [m for m in self.weights.matrices if all(m is not other for other in matrices)]
        traits = [p for n, p in self.embeddings.named_parameters() if n != "values"]
        traits += [self.weights.bases, self.weights.deviations]
        adam = torch.optim.Adam(
            [{"params": others, "lr": _ADAM_RATE}, {"params": [self.embeddings.values], "lr": _EMBEDDING_RATE},
             {"params": traits, "lr": _TRAIT_RATE}], betas=(0.9, 0.99),
        )  # fmt: skip
        return [torch.optim.Muon(matrices, lr=_MUON_RATE, weight_decay=0.0), adam]

    # --- one step ------------------------------------------------------------------------------------------

    def run(self, progress: Callable[[float], None], tell: Tell, store: Store | None) -> dict[str, Tensor]:
        """Fit, and return the parameters that are best as they would be coded."""
        kept = store.load() if store else None
        best, cost = ({}, math.inf) if kept is None else self._restore(kept)
        clock, saved, begun = time.monotonic(), time.monotonic(), self.step
        looks = {round(self.steps * (i + 1) / _LOOKS) for i in range(_LOOKS)}
        while self.step < self.steps:
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                torch.manual_seed(self.step)
                self._descend()
            self.step += 1
            progress(self.step / self.steps)
            left = (time.monotonic() - clock) / (self.step - begun) * (self.steps - self.step)
            if self.step in looks:
                bits, psnr, error = self.measure()
                tell(f"{bits / self._pixels:.4f} bpp, {psnr:.2f} dB, {_duration(left)} left")
                if bits / self._pixels + self._plan.weight * error < cost:
                    cost, best = bits / self._pixels + self._plan.weight * error, self._parameters()
            elif self.step - begun == _RATE_EVERY:
                tell(f"about {_duration(left)}")
            if store and time.monotonic() - saved > _SAVE_EVERY:
                store.save(self._state(best, cost))
                saved = time.monotonic()
        self._load_parameters(best)
        return best

    def _descend(self) -> None:
        done = self.step / self.steps
        factor = min(1.0, done / _WARMUP + 1e-3) * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * done)))
        for optimizer, rates in zip(self._optimizers, self._first_rates, strict=True):
            for group, first in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = first * factor
        loss = self._loss(self._index(), None if done < _NOISE else min((done - _NOISE) / (_ALL - _NOISE), 1) / 2 + 0.5)
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        loss.backward()
        adam = [p for g in self._optimizers[1].param_groups for p in g["params"]]
        torch.nn.utils.clip_grad_norm_(adam, _CLIP)
        for optimizer in self._optimizers:
            optimizer.step()

    def _index(self) -> Tensor:
        """Return the frames of this step, drawn without repetition within an epoch."""
        epoch, at = divmod(self.step, self._steps_an_epoch)
        order = torch.randperm(len(self._frames), generator=torch.Generator().manual_seed(epoch))
        return order[at * self._batch : (at + 1) * self._batch].to(self.device)

    def _loss(self, index: Tensor, share: float | None) -> Tensor:
        step, scale = self.weights.log2()
        weights = self.weights.in_steps(step)
        rounded = _relax(weights, share)
        bits = torch.zeros((), device=self.device)
        if self.step % _RATE_EVERY == 0:
            counted = rounded if share is None else _relax(weights, 1.0)
            bits = _RATE_EVERY * self.weights.bits(counted, scale, self._shape) / self._pixels
        pixels, of_batch = self._synthesize(self.weights.tensors(rounded, step), index, share)
        bits = bits + of_batch / (len(index) * self._frames.shape[2] * self._frames.shape[3])
        error = ((pixels - self._frames[index]) * 255).square().mean()
        return bits + self._plan.weight * error

    def _synthesize(self, tensors: dict[str, Tensor], index: Tensor, share: float | None) -> tuple[Tensor, Tensor]:
        """Return the pixels of some frames and what their embeddings take."""
        raw = [self.embeddings.in_steps(index - i) for i in range(2)]
        relaxed = [_relax(part, share) for part in raw]
        counted = relaxed if share is None else [_relax(part, 1.0) for part in raw]
        bits = self.embeddings.bits(*counted, index, self._shape)
        return self._decode(tensors, *map(self.embeddings.dequantized, relaxed), index), bits

    def _decode(self, tensors: dict[str, Tensor], e: Tensor, before: Tensor, index: Tensor) -> Tensor:
        """Return the pixels [B, 3, H, W] of embeddings."""
        e, before = (part.contiguous(memory_format=torch.channels_last) for part in (e, before))
        dtype = fast_dtype(self.device.type)
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            out = torch.func.functional_call(self._decoder, tensors, (e, before, time_of(index, len(self._frames))))
        return out.float()[..., : self._frames.shape[2], : self._frames.shape[3]]

    # --- what it comes to ----------------------------------------------------------------------------------

    @property
    def _pixels(self) -> int:
        return len(self._frames) * self._frames.shape[2] * self._frames.shape[3]

    @torch.no_grad()
    def measure(self) -> tuple[float, float, float]:
        """Return bits, mean PSNR in dB and mean squared error in 8-bit levels of what would be coded now."""
        step, scale = self.weights.log2()
        whole = _relax(self.weights.in_steps(step), 1.0)
        tensors = self.weights.tensors(whole, step)
        bits, errors = float(self.weights.bits(whole, scale, self._shape)), []
        for index in torch.arange(len(self._frames), device=self.device).split(self._batch):
            pixels, of_batch = self._synthesize(tensors, index, 1.0)
            levels = (pixels.clamp(-0.5, 0.5) - self._frames[index]) * 255
            errors.append(levels.square().mean((1, 2, 3)))
            bits += float(of_batch)
        error = torch.cat(errors)
        return bits, float((10 * torch.log10(255**2 / error.clamp_min(1e-3))).mean()), float(error.mean())

    def symbols(self) -> dict[str, Tensor]:
        """Return the symbols of the group, as they stand for themselves."""
        return self.weights.symbols() | self.embeddings.symbols()

    # --- interruption --------------------------------------------------------------------------------------

    def _parameters(self) -> dict[str, Tensor]:
        both = nn.ModuleDict({"weights": self.weights, "embeddings": self.embeddings})
        return {name: p.detach().clone() for name, p in both.named_parameters()}

    @torch.no_grad()
    def _load_parameters(self, values: dict[str, Tensor]) -> None:
        both = nn.ModuleDict({"weights": self.weights, "embeddings": self.embeddings})
        for name, p in both.named_parameters():
            p.copy_(values[name])

    def _state(self, best: dict[str, Tensor], cost: float) -> dict[str, Tensor]:
        out = {"step": torch.tensor(self.step), "cost": torch.tensor(cost, dtype=torch.float64)}
        out |= {f"now.{name}": value for name, value in self._parameters().items()}
        out |= {f"best.{name}": value for name, value in best.items()}
        for i, optimizer in enumerate(self._optimizers):
            for number, values in optimizer.state_dict()["state"].items():
                out |= {f"optimizer.{i}.{number}.{key}": torch.as_tensor(value) for key, value in values.items()}
        return {name: value.cpu().contiguous() for name, value in out.items()}

    def _restore(self, kept: dict[str, Tensor]) -> tuple[dict[str, Tensor], float]:
        parts: dict[str, dict[str, Tensor]] = {"now": {}, "best": {}, "optimizer": {}}
        for name, value in kept.items():
            kind, _, rest = name.partition(".")
            if rest:
                parts[kind][rest] = value.to(self.device)
        self.step = int(kept["step"])
        self._load_parameters(parts["now"])
        for i, optimizer in enumerate(self._optimizers):
            state = optimizer.state_dict()
            state["state"] = {}
            for name, value in parts["optimizer"].items():
                which, number, key = name.split(".")
                if int(which) == i:
                    state["state"].setdefault(int(number), {})[key] = value
            optimizer.load_state_dict(state)
        return parts["best"], float(kept["cost"])


def time_of(index: Tensor, count: int) -> Tensor:
    """Return the times of frames in a group of `count`, 0..1."""
    return index.float() / max(count - 1, 1)


def _relax(x: Tensor, share: float | None) -> Tensor:
    """Return numbers as if they had been rounded: with noise, or a random share of them truly rounded."""
    if share is None:
        return x + torch.rand_like(x) - 0.5
    rounded = x + (torch.floor(x + 0.5) - x).detach()
    return rounded if share >= 1 else torch.where(torch.rand_like(x) < share, rounded, x)


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
