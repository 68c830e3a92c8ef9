"""Tests that need compressai: an environment of their own, see `.ci/run`. Elsewhere nothing here is collected."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from support import DATA

collect_ignore_glob = [] if find_spec("compressai") else ["test_*.py"]

SIZES = {"cheng2020-anchor": (16,), "cheng2020-attn": (16,)}


def random_network(arch: str) -> torch.nn.Module:
    """Return a small network whose latents, scales and means vary as those of a trained one do."""
    import codec
    from codec import foreign

    torch.manual_seed(sum(arch.encode()))
    network = foreign.architecture(arch)(*SIZES.get(arch, (16, 24))).eval()
    photo = torch.tensor(codec.read(DATA / "parrots.png").samples[:128, :192]).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        y = _spread(network.g_a, photo, 3.0)
        x = _spread(network.g_s, y.round(), 0.25)
        _last(network.g_s).bias += 0.5 - x.mean((0, 2, 3)).repeat_interleave(len(_last(network.g_s).bias) // 3)
        if hasattr(network, "h_a"):
            z = _spread(network.h_a, y, 4.0)
            _spread(network.h_s, z.round(), 0.7)
            _positive_scales(network, network.h_s if arch in ("mbt2018-mean", "bmshj2018-hyperprior") else None)
    network.update(force=True, update_quantiles=True)
    return network


def _last(layers: torch.nn.Module) -> torch.nn.Module:
    """Return the last convolution that runs."""
    return [m for m in layers.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)][-1]


def _spread(layers: torch.nn.Module, x: torch.Tensor, deviation: float) -> torch.Tensor:
    """Scale the last convolution until the output has that deviation, and return the output."""
    factor = deviation / layers(x).std()
    _last(layers).weight *= factor
    return layers(x)


def _positive_scales(network: torch.nn.Module, layers: torch.nn.Module | None) -> None:
    """Let predicted scales lie around what the latents need."""
    last = _last(network.entropy_parameters if layers is None else layers)
    if layers is None:
        last.weight *= 6
    last.bias[: network.M] += torch.linspace(0.5, 4, network.M)


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory):
    """Return a function from architecture to the path of a checkpoint; made once each."""
    folder, made = tmp_path_factory.mktemp("checkpoints"), {}

    def path(arch: str) -> Path:
        if arch not in made:
            torch.save(random_network(arch).state_dict(), folder / f"{arch}.pth.tar")
            made[arch] = folder / f"{arch}.pth.tar"
        return made[arch]

    return path


@pytest.fixture(scope="session")
def model_of(checkpoint_of, tmp_path_factory):
    """Return a function from architecture to (ModelInfo, loaded system)."""
    from codec import checkpoint
    from codec.models.compressai import import_checkpoint

    folder, made = tmp_path_factory.mktemp("models"), {}

    def model(arch: str):
        if arch not in made:
            made[arch] = import_checkpoint(checkpoint_of(arch), arch, folder / arch)
        return made[arch], checkpoint.load(made[arch], "cpu")

    return model
