"""The compressai package: imported although torchvision cannot be, and its checkpoints read without running code.

compressai 1.2.8 imports torchvision for a list of class names alone. torchvision from PyPI does not import beside a CPU
build of torch (pytorch/vision issues 9077 and 9085), and `pip install compressai` brings it, so where it is missing or
broken an empty stand-in takes its place while compressai is imported, and is taken away again.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from codec.errors import MissingPackageError, ModelError

if TYPE_CHECKING:
    from torch import nn

# Without its own requirements: they hold numpy below 2 and bring a torchvision that does not import.
INSTALL = (
    "pip install --no-deps compressai==1.2.8 && pip install einops pandas pytorch-msssim scipy torch-geometric tqdm"
)
_NESTED = ("network", "state_dict", "model_state_dict")  # where training scripts keep the weights in a checkpoint


@lru_cache(maxsize=1)
def compressai() -> ModuleType:
    """Import compressai.

    Raises:
        MissingPackageError: it, or something it imports, is not installed.
    """
    with _torchvision(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, which torch-geometric will learn in time
        try:
            package = import_module("compressai")
            import_module("compressai.zoo")
        except ImportError as exc:
            raise MissingPackageError(f"compressai cannot be imported ({exc}); run: {INSTALL}") from exc
    return package


@contextmanager
def _torchvision() -> Iterator[None]:
    """Let `import torchvision.transforms` succeed inside the block; a stand-in does not outlive it."""
    try:
        import_module("torchvision.transforms")
    except (ImportError, RuntimeError):  # RuntimeError: operator torchvision::nms does not exist
        before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "torchvision"}
        package, transforms = ModuleType("torchvision"), ModuleType("torchvision.transforms")
        package.transforms = transforms
        for name in before:
            del sys.modules[name]
        sys.modules |= {"torchvision": package, "torchvision.transforms": transforms}
        try:
            yield
        finally:
            del sys.modules["torchvision"], sys.modules["torchvision.transforms"]
    else:
        yield


def architecture(name: str) -> type[nn.Module]:
    """Return a model class of compressai by its registered name, e.g. `mbt2018-mean`."""
    compressai()
    return import_module("compressai.registry").MODELS[name]


def load_network(path: Path, name: str) -> nn.Module:
    """Return a network with the weights of a checkpoint and freshly made tables, as compressai's own evaluation does.

    Args:
        path: a state dict saved by torch, alone or inside a training checkpoint, or the same as .safetensors.
        name: architecture.

    Raises:
        MissingPackageError: compressai is not installed.
        ModelError: the file cannot be read without running code, or its weights are not of that architecture.
    """
    cls = architecture(name)
    weights = _state_dict(path)
    try:
        weights = import_module("compressai.zoo").load_state_dict(weights)
        network = cls.from_state_dict(weights)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as exc:
        raise ModelError(f"{path}: weights are not those of a {name} network ({exc}); try another --arch") from exc
    network.update(force=True)
    return network.eval()


def _state_dict(path: Path) -> dict[str, Any]:
    import safetensors.torch
    import torch

    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of protocols torch might not read; if so it raises, too
            found = torch.load(path, map_location="cpu", weights_only=True)  # never unpickles
    except (pickle.UnpicklingError, safetensors.SafetensorError, RuntimeError, EOFError, ValueError) as exc:
        raise ModelError(
            f"{path}: not a checkpoint that can be read without running code; save net.state_dict() alone"
        ) from exc
    for key in _NESTED:
        if isinstance(found, dict) and key in found:
            return found[key]
    return found
