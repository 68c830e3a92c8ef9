"""The package beside a CPU build of torch, and checkpoints that may be hostile."""

import pickle
import subprocess
import sys
from importlib import import_module

import pytest
import safetensors.torch
import torch

from codec import checkpoint, foreign
from codec.errors import MissingPackageError, ModelError
from codec.models.compressai import ARCHITECTURES, import_checkpoint

ARCH = "bmshj2018-hyperprior"


def test_the_stand_in_for_torchvision_does_not_outlive_the_import():
    script = (
        "import sys\n"
        "from codec import foreign\n"
        "package = foreign.compressai()\n"
        "assert package.__name__ == 'compressai'\n"
        "from importlib.metadata import version\n"
        "found = sys.modules.get('torchvision')\n"
        "assert found is None or found.__file__, found\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_a_broken_torchvision_is_replaced(tmp_path, monkeypatch):
    """What PyPI's torchvision does beside torch+cpu: it raises RuntimeError half-way, leaving modules behind."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "from torchvision import half\nraise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    (tmp_path / "torchvision" / "half.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    with foreign._torchvision():
        assert vars(import_module("torchvision.transforms")).get("Compose") is None
    assert not [name for name in sys.modules if name.partition(".")[0] == "torchvision"]


def test_a_missing_dependency_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "compressai", None)
    with pytest.raises(MissingPackageError, match="torch-geometric"):
        foreign.compressai.__wrapped__()


def test_every_supported_architecture_exists():
    for arch in ARCHITECTURES:
        assert foreign.architecture(arch)


def test_forms_of_checkpoints(checkpoint_of, tmp_path):
    weights = torch.load(checkpoint_of(ARCH), weights_only=True)
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in weights.items()}}, tmp_path / "nested.pth")
    safetensors.torch.save_file({k: v.contiguous() for k, v in weights.items()}, tmp_path / "plain.safetensors")
    digests = {
        import_checkpoint(path, ARCH, tmp_path / "out").digest
        for path in (checkpoint_of(ARCH), checkpoint_of(ARCH), tmp_path / "nested.pth", tmp_path / "plain.safetensors")
    }
    assert len(digests) == 1  # importing again gives the same model, so files decode again


class _Evil:
    def __reduce__(self):
        return print, ("this must not run",)


def test_code_in_a_checkpoint_does_not_run(tmp_path, capsys):
    torch.save({"state_dict": _Evil()}, tmp_path / "evil.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(_Evil()))
    (tmp_path / "noise.pth").write_bytes(b"\x80\x02noise")
    (tmp_path / "empty.pth").write_bytes(b"")
    for path in tmp_path.glob("*.pth"):
        with pytest.raises(ModelError, match="without running code"):
            import_checkpoint(path, ARCH, tmp_path / "out")
    assert "must not run" not in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_weights_of_something_else_are_refused(checkpoint_of, tmp_path):
    for arch in ("mbt2018", "cheng2020-attn", "bmshj2018-factorized"):
        with pytest.raises(ModelError, match=arch):
            import_checkpoint(checkpoint_of(ARCH), arch, tmp_path / "out")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="try another"):
        import_checkpoint(tmp_path / "list.pth", ARCH, tmp_path / "out")


def test_weights_beyond_the_integers_are_refused(checkpoint_of, tmp_path):
    weights = torch.load(checkpoint_of(ARCH), weights_only=True)
    weights["h_s.0.weight"] *= 1e7
    torch.save(weights, tmp_path / "large.pth")
    with pytest.raises(ModelError, match="overflow"):
        checkpoint.load(import_checkpoint(tmp_path / "large.pth", ARCH, tmp_path / "out"))
