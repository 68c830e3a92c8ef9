"""Systems whose bitstreams serve a task, not eyes or ears, and what comes out of them.

    signal --analyze--> symbols --code--> .lcb --code--> symbols --predict--> logits [K] --> Prediction

Everything else is as with other systems; only `synthesize` is closed. The idea: Matsubara et al., "Supervised
Compression for Resource-Constrained Edge Computing Systems" (WACV 2022).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from codec.errors import NoSignalError
from codec.system import Params, Progress, Symbols, System

_THINGS = {"image": "picture", "audio": "sound", "video": "video"}


@dataclass(frozen=True)
class Prediction:
    """What a file stands for; `str` of it is the label.

    Attributes:
        label: the most probable class.
        probabilities: class -> 0..1, the most probable first; they sum to 1.
    """

    label: str
    probabilities: dict[str, float]

    def __str__(self) -> str:
        return self.label


class TaskSystem(System):
    """Base class of systems that serve a task.

    Instance attributes:
        classes: their names, in the order of the logits.
    """

    classes: tuple[str, ...]

    @abstractmethod
    def predict(self, symbols: Symbols, params: Params) -> Tensor:
        """Map whole symbols to the logits [K] of the classes."""

    def synthesize(self, symbols: Symbols, params: Params, *, progress: Progress) -> Any:
        """Refuse: there is no signal.

        Raises:
            NoSignalError: always.
        """
        raise NoSignalError(f"{self.id} serves a task and has no {_THINGS[self.media]}; use `codec predict FILE`")


def predict(system: System, symbols: Callable[[], Symbols], params: Params) -> Prediction:
    """Return what symbols stand for.

    Args:
        symbols: returns whole symbols; called only where they can be used.

    Raises:
        ValueError: the system does not serve a task.
    """
    if not isinstance(system, TaskSystem):
        thing = _THINGS[system.media]
        raise ValueError(
            f"{system.id} predicts nothing, its files hold a {thing}; decode it, or use a model for a task"
        )
    with torch.no_grad():
        logits = system.predict(symbols(), params)
    shares = torch.softmax(logits.double().cpu(), 0)
    order = torch.argsort(shares, descending=True, stable=True).tolist()
    probabilities = {system.classes[i]: float(shares[i]) for i in order}
    return Prediction(system.classes[order[0]], probabilities)
