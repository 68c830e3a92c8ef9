"""What happens where compressai is not installed; with it, see compressai_env/."""

from importlib.util import find_spec

import pytest

from codec import foreign
from codec.errors import MissingPackageError, ModelError
from codec.models.compressai import ARCHITECTURES, CompressAI, import_checkpoint

absent = pytest.mark.skipif(find_spec("compressai") is not None, reason="compressai is installed")


@absent
def test_a_missing_package_is_an_error_with_a_command():
    with pytest.raises(MissingPackageError, match="pip install --no-deps compressai"):
        foreign.compressai()
    with pytest.raises(MissingPackageError):
        CompressAI.from_config({"arch": "mbt2018-mean", "sizes": [16, 24], "scales": 64})


def test_an_unknown_architecture_names_those_known(tmp_path):
    with pytest.raises(ModelError, match=r"vgg.*cheng2020-attn"):
        import_checkpoint(tmp_path / "none.pth", "vgg", tmp_path)
    with pytest.raises(ModelError, match="bmshj2018"):
        CompressAI.from_config({"arch": "vgg", "sizes": [1, 1], "scales": 0})
    assert len(ARCHITECTURES) == 7
