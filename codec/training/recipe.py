"""Recipes: small TOML files beside a model that fix everything which decides what training yields.

system = "waveprior"
[config]   shape of the network, passed to `System.from_config`
[train]    see `Schedule`
[adversary], if there shall be one: see `SoundAdversary` and `PictureAdversary`
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codec.checkpoint import model_folders, system_class
from codec.errors import RecipeError


@dataclass(frozen=True)
class Stage:
    """Crops a step from some point on.

    Attributes:
        start: share of the steps after which this stage begins.
        batch: crops a step, over all processes together.
        size: pixels a side.
        rate: share of the rate that counts. Below 1 for networks that first have to find something worth its bits.
    """

    start: float
    batch: int
    size: int
    rate: float = 1.0


@dataclass(frozen=True)
class Schedule:
    """How to train.

    Attributes:
        steps: in all.
        lr: of Adam, after a warm-up of `warmup` steps, constant until the last `decay` of the steps, in which it falls
            to `floor` of itself along a cosine (Haegele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed
            Training Durations", NeurIPS 2024): a run can be stopped, extended and annealed at any length.
        betas, clip: of Adam; largest norm of a gradient.
        ema: decay of the averaged weights, which are what is exported.
        stages: crop sizes, first to last.
        validation: photographs held out, every n-th so that there are this many.
        validate_every, save_every: steps, seconds.
        seed: of initialisation, crops and noise.
        lpips: file of a network that systems for the eye are trained with, too, see `visual.lpips`; none if empty.
    """

    steps: int
    lr: float
    stages: tuple[Stage, ...]
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 5.0
    warmup: int = 200
    decay: float = 0.3
    floor: float = 0.02
    ema: float = 0.999
    validation: int = 16
    validate_every: int = 1000
    save_every: float = 120.0
    seed: int = 1
    lpips: str = ""

    def stage(self, step: int) -> Stage:
        """Return the stage that a step belongs to."""
        return [s for s in self.stages if step >= s.start * self.steps or s is self.stages[0]][-1]


@dataclass(frozen=True)
class Adversary:
    """How to train against discriminators, of any kind of signal.

    What they ask reaches the system as a gradient at its reconstruction, the pull; the loss of the system stays as it
    is. Without `share` only the ratios of the three weights count. With it `reconstruction` does not: the pull is
    scaled to a share of the gradient that the system's own loss has there (VQGAN's adaptive weight, Esser et al.,
    2021, equation 7, taken at the reconstruction instead of the last layer), so it needs no tuning when that loss
    changes, and cannot take over. `--compile` hides that gradient: use fixed weights with it.

    Attributes:
        start: share of the steps after which they begin to learn.
        warmup: steps they learn alone; for as many further ones their pull grows to its full size. Counted from when
            they began, so that a run that goes on against new ones does not follow them untrained either.
        share: norm of the pull, as a multiple of that of the system's own gradient at the reconstruction; 0 for fixed
            weights.
        adversarial, feature, reconstruction: weights of verdicts, of feature matching and of the system's own loss.
        lr, betas, clip: of their Adam, largest norm of their gradient; lr falls as that of the system does.
    """

    start: float = 0.0
    warmup: int = 0
    share: float = 0.0
    adversarial: float = 1.0
    feature: float = 2.0
    reconstruction: float = 15.0
    lr: float = 1e-4
    betas: tuple[float, float] = (0.8, 0.99)
    clip: float = 10.0

    def __post_init__(self) -> None:
        if min(self.start, self.warmup, self.share) < 0:
            raise ValueError("start, warmup and share are 0 or more")

    def smallest_crop(self) -> int:
        """Return how many samples, or pixels a side, the networks need."""
        return 1


@dataclass(frozen=True)
class SoundAdversary(Adversary):
    """How to train against discriminators of sound.

    Weights and shapes are those of Kumar et al., "High-Fidelity Audio Compression with Improved RVQGAN" (2023).

    Attributes:
        periods, period_width: of the period discriminators, in samples and channels; see `sound_discriminators`.
        windows, band_width: of those of bands of spectra, in samples and channels.
    """

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    period_width: int = 32
    windows: tuple[int, ...] = (2048, 1024, 512)
    band_width: int = 32

    def smallest_crop(self) -> int:
        return max(self.windows, default=0)


@dataclass(frozen=True)
class PictureAdversary(Adversary):
    """How to train against discriminators of pictures.

    Attributes:
        width: channels of their first layers; see `picture_discriminators`.
        scales: how many there are: of the picture, of the picture at half its size, and so on.
    """

    warmup: int = 500
    share: float = 0.3
    width: int = 64
    scales: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.width, self.scales) < 1:
            raise ValueError("width and scales are 1 or more")


_ADVERSARIES = {"audio": SoundAdversary, "image": PictureAdversary}  # by `System.media`


@dataclass(frozen=True)
class Recipe:
    """A recipe as read from a file."""

    system: str
    config: dict[str, Any]
    train: Schedule
    facts: dict[str, Any]
    adversary: Adversary | None = None


def read(path: Path, overrides: dict[str, str] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        path: the TOML file.
        overrides: dotted names to values in TOML or plain text, `{"train.steps": "100"}`.

    Raises:
        RecipeError: it is not a recipe, or an override names nothing in it.
    """
    try:
        raw = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise RecipeError(f"{path}: not a recipe ({exc})") from exc
    for name, value in (overrides or {}).items():
        _override(raw, name, value)
    try:
        train = dict(raw["train"])
        train["stages"] = tuple(Stage(**stage) for stage in train["stages"])
        schedule = Schedule(**_tuples(train))
        recipe = Recipe(raw["system"], raw["config"], schedule, raw.get("facts", {}))
    except (KeyError, TypeError) as exc:
        raise RecipeError(f"{path}: {exc}; [train] knows {_names(Schedule)}") from exc
    return recipe if "adversary" not in raw else _with_adversary(recipe, raw["adversary"], path)


def find(name: str) -> Path:
    """Return the recipe file of that name: a file, a folder with a `recipe.toml`, or a model of the zoo.

    Raises:
        RecipeError: there is none.
    """
    candidates = [Path(name), Path(name) / "recipe.toml"]
    candidates += [folder / name / "recipe.toml" for folder in model_folders()]
    for path in candidates:
        if path.is_file():
            return path
    raise RecipeError(
        f"no recipe {name!r}: give a TOML file, a folder with recipe.toml, or the name of a model in the zoo"
    )


def _with_adversary(recipe: Recipe, table: Any, path: Path) -> Recipe:
    kind = _adversary_of(recipe.system)
    try:
        adversary = kind(**_tuples(table))
        needed = adversary.smallest_crop()
    except (TypeError, AttributeError, ValueError) as exc:
        raise RecipeError(f"{path}: {exc}; for {recipe.system}, [adversary] knows {_names(kind)}") from exc
    smallest = min(stage.size for stage in recipe.train.stages)
    if needed > smallest:
        raise RecipeError(
            f"{path}: [adversary] looks at windows of {needed} samples, the crops of [train] have "
            f"{smallest}; use larger crops or smaller windows"
        )
    return dataclasses.replace(recipe, adversary=adversary)


def _adversary_of(system: str) -> type[Adversary]:
    """Return the kind of adversary that a system is trained against."""
    media = system_class(system).media
    if media not in _ADVERSARIES:
        raise RecipeError(f"[adversary] is for systems of {' and '.join(_ADVERSARIES)}, {system} is one of {media}")
    return _ADVERSARIES[media]


def _tuples(table: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}


def _names(table: type) -> str:
    return ", ".join(field.name for field in dataclasses.fields(table))


def _override(raw: dict[str, Any], name: str, text: str) -> None:
    *tables, key = name.split(".")
    place = raw
    for table in tables:
        place = place.get(table) if isinstance(place, dict) else None
    table = ".".join(tables)
    settings = Schedule if table == "train" else _adversary_of(str(raw.get("system"))) if table == "adversary" else None
    known = set(place or ()) if settings is None else {field.name for field in dataclasses.fields(settings)}
    if not isinstance(place, dict) or key not in known:
        raise RecipeError(
            f"--set {name}: there is no such setting; try train.steps or config.{next(iter(raw['config']))}"
        )
    try:
        place[key] = tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        place[key] = text


def fingerprint(recipe: Recipe) -> str:
    """Return what two runs must share to be continued into each other: the network, not the schedule."""
    return json.dumps([recipe.system, recipe.config], sort_keys=True)
