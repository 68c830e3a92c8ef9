"""Models on disk: `model.safetensors` beside `model.json`, found by name or by digest, loaded without pickle.

    <zoo>/<name>/model.safetensors   networks, integer parts of the prior, probability tables
    <zoo>/<name>/model.json          system, version, config, SHA-256 digest, facts for `codec list`

A model may build on another (`System.borrows`). It then holds the digest of that model instead of its weights, so its
own digest stands for both.

Looking models up reads only the json files and imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codec.atomic import atomic_path
from codec.errors import CorruptError, MissingModelError, ModelError, ModelMismatchError, UnknownSystemError

if TYPE_CHECKING:
    from torch import Tensor

    from codec.coding.coder import TableModels
    from codec.system import System

DIGEST_BYTES = 4  # of the SHA-256, in a stream's header
# By kind of signal.
DEFAULT_MODELS = {"image": "waveprior", "audio": "walloc-audio", "speech": "rvq-speech", "video": "stem"}
SPEECH_RATE = 24_000  # samples a second up to which one channel counts as speech
_BASE = "base"  # in the metadata of a weights file: digest of the model it builds on
PATH_VARIABLE = "CODEC_MODELS"  # folders of further models, separated like PATH


@dataclass(frozen=True)
class ModelInfo:
    """What is known of an installed model without loading it.

    Attributes:
        name: folder name in the zoo; the command line's `-m`.
        system, version: registered id and bitstream version.
        media: kind of signal.
        digest: SHA-256 of the weights file, hexadecimal.
        config: the system's configuration.
        facts: what `codec list models` shows (parameters, kMAC a pixel, measured rate and distortion).
        folder: where it lies.
    """

    name: str
    system: str
    version: int
    media: str
    digest: str
    config: dict[str, Any]
    facts: dict[str, Any]
    folder: Path

    @property
    def short_digest(self) -> bytes:
        """The bytes a stream's header holds."""
        return bytes.fromhex(self.digest)[:DIGEST_BYTES]


def installed_systems() -> dict[str, metadata.EntryPoint]:
    """Return the registered systems (entry-point group `codec.systems`), not yet imported."""
    return {entry.name: entry for entry in metadata.entry_points(group="codec.systems")}


def system_class(name: str) -> type[System]:
    """Import a system.

    Raises:
        UnknownSystemError: no installed package provides it.
    """
    entry = installed_systems().get(name)
    if entry is None:
        known = ", ".join(sorted(installed_systems())) or "none"
        raise UnknownSystemError(
            f"system {name!r} is not installed (installed: {known}); update codec or add its package"
        )
    return entry.load()


def model_folders() -> Iterator[Path]:
    """Yield the folders models are looked for in: those of `CODEC_MODELS`, then the zoo."""
    for extra in os.environ.get(PATH_VARIABLE, "").split(os.pathsep):
        if extra:
            yield Path(extra)
    yield Path(import_module("codec.models").__path__[0]) / "zoo"


def installed_models() -> list[ModelInfo]:
    """Return all installed models, sorted by name; the first folder that has a name wins."""
    found: dict[str, ModelInfo] = {}
    for folder in model_folders():
        for path in sorted(folder.glob("*/model.json")):
            found.setdefault(path.parent.name, _read_info(path))
    return [found[name] for name in sorted(found)]


def _read_info(path: Path) -> ModelInfo:
    try:
        raw = json.loads(path.read_text())
        return ModelInfo(path.parent.name, raw["system"], raw["version"], raw["media"], raw["digest"], raw["config"],
                         raw.get("facts", {}), path.parent)  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ModelError(f"{path}: not a model description ({exc!r})") from exc


def find_model(name: str) -> ModelInfo:
    """Return the model of that name, or in that folder.

    Raises:
        MissingModelError: there is none.
    """
    if os.sep in name and (Path(name) / "model.json").exists():
        return _read_info(Path(name).resolve() / "model.json")
    for info in installed_models():
        if info.name == name:
            return info
    known = ", ".join(info.name for info in installed_models()) or "none"
    raise MissingModelError(f"model {name!r} is not installed (installed: {known}); see `codec list models`")


def sound_model(channels: int, rate: int) -> str:
    """Return the name of the model for sound of some channels at `rate` samples a second."""
    return DEFAULT_MODELS["speech" if channels == 1 and rate <= SPEECH_RATE else "audio"]


def find_digest(system: str, version: int, digest: bytes, kind: str) -> ModelInfo:
    """Return the installed model a stream's header names, for the kind of signal it says it holds.

    Raises:
        CorruptError: the model is for another kind.
        UnknownSystemError: the system itself is not installed.
        MissingModelError: the system is, but not this model.
    """
    wanted = system, version, digest
    info = _known(wanted) or next(
        (i for i in installed_models() if (i.system, i.version, i.short_digest) == wanted), None
    )
    if info is not None:
        if info.media != kind:
            raise CorruptError(f"the header speaks of {kind}, its model {info.name} is for {info.media}")
        _found[wanted] = os.environ.get(PATH_VARIABLE, ""), _stamp(info), info
        return info
    if system not in installed_systems():
        system_class(system)
    raise MissingModelError(
        f"the stream needs a {system} (version {version}) model with digest {digest.hex()}..., which is not installed; "
        f"add its folder to {PATH_VARIABLE} or update codec"
    )


# Streams are opened by the thousand, so what was found is kept, for as long as its description stays as it is.
_found: dict[tuple[str, int, bytes], tuple[str, tuple[int, int, int], ModelInfo]] = {}


def _known(wanted: tuple[str, int, bytes]) -> ModelInfo | None:
    """Return the model that was found before, if it is still there and would still be looked at."""
    path, stamp, info = _found.get(wanted, ("", (), None))
    with suppress(OSError):
        if info is not None and path == os.environ.get(PATH_VARIABLE, "") and stamp == _stamp(info):
            return info
    return None


def _stamp(info: ModelInfo) -> tuple[int, int, int]:
    """Return what changes when a model's description is replaced."""
    facts = os.stat(os.path.join(info.folder, "model.json"))  # noqa: PTH116, PTH118 - a tenth of pathlib's time
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


@lru_cache(maxsize=4)
def _load(folder: Path, digest: str, system: str, version: int, config: str, device: str) -> System:
    import safetensors

    cls = system_class(system)
    if version != cls.version:
        raise MissingModelError(f"{folder.name} is for {system} version {version}, installed is {cls.version}")
    try:
        instance = cls.from_config(json.loads(config))
        tables = _fill(instance, folder, digest, json.loads(config))
    except (safetensors.SafetensorError, KeyError, RuntimeError, TypeError) as exc:
        raise ModelError(f"{folder}: weights do not fit {system} ({exc})") from exc
    instance.freeze(device)
    instance.tables = tables
    return instance


def _fill(system: System, folder: Path, digest: str, config: dict[str, Any]) -> TableModels:
    """Give a system the weights of a model of its shape and return the model's tables."""
    tensors = _read_tensors(folder, digest)
    if system.borrows:
        base = _base_of(folder, config["base"])
        borrowed = _read_tensors(base.folder, base.digest)
        tensors |= {name if _is_table(name) else system.borrows + name: value for name, value in borrowed.items()}
    tables = _unpack_tables(tensors)
    scales = {name: 2.0**-fraction_bits for name, fraction_bits in system.fixed_point().items()}
    system.load_state_dict({k: v.double() * scales[k] if k in scales else v.float() for k, v in tensors.items()})
    return tables


def fill(system: System, info: ModelInfo) -> None:
    """Give a system that is to be trained the weights of a model of its shape.

    Raises:
        ModelMismatchError: the weights file is not the one described.
        MissingModelError: the model it builds on is not installed.
        ModelError: the model has another shape.
    """
    import safetensors

    try:
        _fill(system, info.folder, info.digest, info.config)
    except (safetensors.SafetensorError, KeyError, RuntimeError, TypeError) as exc:
        raise ModelError(f"{info.name} has another shape than the recipe says; copy its [config]") from exc


def _read_tensors(folder: Path, digest: str) -> dict[str, Tensor]:
    """Return what a weights file holds.

    Raises:
        ModelMismatchError: it is not the one described.
    """
    import safetensors.torch

    data = (folder / "model.safetensors").read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise ModelMismatchError(f"{folder / 'model.safetensors'} does not have the digest in model.json; reinstall it")
    return safetensors.torch.load(data)


def _base_of(folder: Path, name: str) -> ModelInfo:
    """Return the model that a model builds on: the one of that name, or any that has the digest it holds.

    Raises:
        MissingModelError: it is not installed.
    """
    import safetensors

    with safetensors.safe_open(folder / "model.safetensors", "pt") as file:
        digest = (file.metadata() or {}).get(_BASE)
    candidates = installed_models()
    with suppress(MissingModelError):
        candidates = [find_model(name), *candidates]
    for info in candidates:
        if info.digest == digest:
            return info
    raise MissingModelError(
        f"{folder.name} builds on a {name} with digest {digest}, which is not installed; "
        f"add its folder to {PATH_VARIABLE}"
    )


def _is_table(name: str) -> bool:
    return name.startswith(("tables.", "categorical."))


def _unpack_tables(tensors: dict[str, Tensor]) -> TableModels:
    """Take the tables out of a model's tensors."""
    from codec.coding.coder import TableModels
    from codec.coding.distributions import CategoricalTables, Tables

    kinds = []
    for prefix, cls in (("tables", Tables), ("categorical", CategoricalTables)):
        names = {field.name: f"{prefix}.{field.name}" for field in fields(cls)}
        present = any(name in tensors for name in names.values())
        kinds.append(cls(**{key: tensors.pop(name).numpy() for key, name in names.items()}) if present else None)
    return TableModels(*kinds)


def _pack_tables(tables: TableModels) -> dict[str, Tensor]:
    import torch

    kinds = {"tables": tables.tables, "categorical": tables.categorical and tables.categorical.tables}
    return {
        f"{prefix}.{field.name}": torch.from_numpy(getattr(kind, field.name))
        for prefix, kind in kinds.items()
        if kind is not None
        for field in fields(kind)
    }


def load(info: ModelInfo, device: str = "auto") -> System:
    """Return a model ready for coding; models are kept, so a second call is free.

    Args:
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one. Symbols are coded on the CPU in any case.

    Raises:
        ModelError: that device is not there.
        ModelMismatchError: the weights file is not the one described.
        MissingModelError: the weights are for another version of the system.
        ModelError: the weights do not fit.
    """
    import torch

    with torch.inference_mode(False):  # models are kept: they must serve callers that need gradients, too
        return _load(info.folder, info.digest, info.system, info.version, json.dumps(info.config), _device(device))


def _device(name: str) -> str:
    import torch

    available = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if available else "cpu"
    if name not in ("cpu", "cuda") or (name == "cuda" and not available):
        raise ModelError(f"device {name!r} is not available; use --device auto")
    return name


def save(
    system: System, folder: Path, *, config: dict[str, Any], facts: dict[str, Any], half: bool = True
) -> ModelInfo:
    """Write a trained system as a model: networks, integers for what decides bits, tables as data.

    Args:
        half: store networks in float16; otherwise as they are.

    Raises:
        MissingModelError: the model it builds on is not installed.
    """
    import safetensors.torch
    import torch

    fixed, borrows = system.fixed_point(), system.borrows
    tensors = {} if borrows else _pack_tables(system.export_tables())
    for name, value in system.state_dict().items():
        if borrows and name.startswith(borrows):
            continue
        if name in fixed:
            value = torch.floor(value.double() * 2.0 ** fixed[name] + 0.5).to(torch.int32)
            if value.abs().max() < 1 << 15:
                value = value.to(torch.int16)
        elif half and value.is_floating_point():
            value = value.half()
        tensors[name] = value.contiguous()
    data = safetensors.torch.save(tensors, metadata={_BASE: find_model(config["base"]).digest} if borrows else None)
    description = {
        "system": system.id,
        "version": system.version,
        "media": system.media,
        "digest": hashlib.sha256(data).hexdigest(),
        "config": config,
        "facts": facts,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(data)
    _describe(folder, description)
    return _read_info(folder / "model.json")


def annotate(info: ModelInfo, facts: dict[str, Any]) -> None:
    """Add facts to a model's description, replacing those of the same name. Its digest, and so its files, stay."""
    description = json.loads((info.folder / "model.json").read_text())
    _describe(info.folder, description | {"facts": description.get("facts", {}) | facts})


def _describe(folder: Path, description: dict[str, Any]) -> None:
    with atomic_path(folder / "model.json", overwrite=True) as temporary:
        temporary.write_text(json.dumps(description, indent=1) + "\n")
