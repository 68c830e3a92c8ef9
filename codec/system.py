"""The System interface and the registry that finds systems and models.

A system maps a signal to a small dict of named integer tensors, its symbols, and back. Everything else (coding,
file format, inspection, evaluation, training) is written once against this interface.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from codec.coding.coder import Coder, TableModels
from codec.coding.distributions import ScaleMixture, build_tables
from codec.errors import RecipeError

Progress = Callable[[float], None]  # called with the fraction done, 0..1; may raise to interrupt
Params = dict[str, Any]
Symbols = dict[str, Tensor]


def no_progress(fraction: float) -> None:
    """Report to nobody."""


@dataclass(frozen=True)
class UnitSpec:
    """One independently coded part of the symbols.

    Attributes:
        params: the stream's parameters and whatever `code` needs to know of this part (its shape).
        regions: symbol name -> slices of the whole tensor that belong to this unit.
    """

    params: Params
    regions: Mapping[str, tuple[slice, ...]]

    @property
    def empty(self) -> bool:
        """Whether it holds no symbols: it is only there to end a stream."""
        return any(part.start is not None and part.start == part.stop for r in self.regions.values() for part in r)


class System(nn.Module, ABC):
    """Base class of all systems; an instance is a system with weights.

    Class attributes:
        id, version: registered name and bitstream version. The same pair decodes in every later release; a change
            that breaks it needs a new version.
        media: kind of signal, one of `codec.params.KINDS`.
        rates: beginnings of parameter names -> learning rate, as a multiple of the recipe's; others train at 1.
        keeps_wave: samples come back near the original's; otherwise only its spectra do.
        single_rate: every model of the system is one point of rate and distortion; quality has no effect.
        compact: units are small, so a file frames them with three bytes each; see `codec.container`.
        layered: units are layers, first to last: a signal can be made of the first of them alone.
        borrows: beginning of the names of parameters that are those of another model, named `base` in the config, and
            are stored with that one alone, as are its tables; none if empty.

    Instance attributes:
        shape: the family behind the tables of symbols with location and scale; None where there are none.
        tables: what coding uses; set when a model is loaded.
        rate_weight: share of the rate that `loss` counts; training sets it, see `codec.training.recipe.Stage`.
        perceptual: a further distance [B] of pictures [B, 3, H, W] in -0.5..0.5 that the `loss` of systems for the eye
            adds; training sets it, see `codec.training.recipe.Schedule.lpips`.
    """

    id: ClassVar[str]
    version: ClassVar[int]
    media: ClassVar[str]
    rates: ClassVar[Mapping[str, float]] = {}
    keeps_wave: ClassVar[bool] = True
    single_rate: ClassVar[bool] = False
    compact: ClassVar[bool] = False
    layered: ClassVar[bool] = False
    borrows: ClassVar[str] = ""
    shape: ScaleMixture | None
    tables: TableModels
    rate_weight: float = 1.0
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> System:
        """Build the networks, untrained, from the `config` table of a recipe."""

    @abstractmethod
    def analyze(self, signal: Any, *, quality: float, effort: int, progress: Progress) -> tuple[Symbols, Params]:
        """Map a signal to symbols and header parameters. `effort` 1-10 is how hard to look for good symbols."""

    @abstractmethod
    def code(self, coder: Coder, params: Params, symbols: Symbols | None) -> Symbols:
        """Pass the symbols of one unit through `coder`: the only place that fixes order and probabilities.

        Symbols are whole numbers in float64 (floats of any kind under a RateMeter), None when decoding.
        """

    @abstractmethod
    def synthesize(self, symbols: Symbols, params: Params, *, progress: Progress) -> Any:
        """Map whole symbols to a signal."""

    @abstractmethod
    def embed(self, symbols: Symbols, params: Params) -> Tensor:
        """Map whole symbols to the float tensor that learning uses, without synthesis."""

    def render(self, latents: Tensor, params: Params) -> Any:
        """Map what `embed` returned, or what a network made of it, to a signal.

        Raises:
            ValueError: the latents have another shape, or the system cannot.
        """
        raise ValueError(f"{self.id} makes no signal of latents; models of walloc, waveprior and walloc-audio do")

    def tokens(self, symbols: Symbols) -> Tensor:
        """Return whole symbols as the integers that generative models take.

        Of sound [books, time], coarse books first; of pictures [h, w], or [regions, tokens], coarse tokens first.

        Raises:
            ValueError: the system has no codebooks.
        """
        raise ValueError(f"{self.id} has no codebooks, so no tokens; use latents, or a model of rvq, vqgan, onedpiece")

    def repair(self, symbols: Symbols, params: Params, lost: Sequence[UnitSpec]) -> Symbols:
        """Return whole symbols with those of lost units, zero now, predicted from the others.

        Raises:
            ValueError: the system cannot.
        """
        raise ValueError(f"{self.id} cannot predict what was lost; models of vqgan can")

    def layer_quality(self, params: Params, layers: int) -> int:
        """Return the quality index at which a stream is just the first `layers` units of one with `params`.

        Raises:
            ValueError: the system is not `layered`, or the stream has not as many.
        """
        raise ValueError(f"{self.id} has no layers; onedpiece has")

    def truncated(self, symbols: Symbols, params: Params, quality: int) -> tuple[Symbols, Params]:
        """Return symbols and params of a lower quality index, which are a part of those of the higher one.

        Raises:
            ValueError: the system is not `layered`, or the stream has not as many.
        """
        raise ValueError(f"{self.id} has no layers; onedpiece has")

    @abstractmethod
    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        """Return `loss` (to minimise) and what it consists of, for a training batch."""

    def loss_and_signals(self, batch: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return what `loss` returns, the signal and its reconstruction: what an adversary tells apart.

        They are sounds [B, C, n] or pictures [B, 3, H, W]; the loss is computed from that very reconstruction.

        Raises:
            RecipeError: the system cannot be trained against one.
        """
        raise RecipeError(f"{self.id} cannot be trained against an adversary; remove [adversary] from the recipe")

    def initialize(self, batches: Iterable[Tensor]) -> None:
        """Start from closed forms (KLT, k-means) found on some training batches; by default from random weights."""

    @abstractmethod
    def shapes(self, params: Params) -> dict[str, tuple[int, ...]]:
        """Return the shape of every whole symbol tensor, from the header alone."""

    @abstractmethod
    def units(self, params: Params) -> list[UnitSpec]:
        """Split the symbols into units, in coding order."""

    def export_tables(self) -> TableModels:
        """Return the integer tables to store with the weights. Systems with categorical symbols add theirs."""
        return TableModels(None if self.shape is None else build_tables(self.shape))

    def joined(self, specs: Sequence[UnitSpec]) -> Params | None:
        """Return the params by which `code` codes units of one shape at once, [B, ...]; None where it cannot."""
        return None

    @abstractmethod
    def fixed_point(self) -> dict[str, int]:
        """Return the parameters that decide bits, by name, with their fraction bits; stored as integers."""

    @abstractmethod
    def freeze(self, device: str) -> None:
        """Prepare trained networks for coding: round integer networks, choose the inference precision.

        What decides bits stays on the CPU; analysis and synthesis move to `device`.
        """
