import math
import warnings
from importlib import util

import numpy as np
import pytest
import torch

import codec
from codec.errors import MediaError, MissingPackageError, ModelError
from codec.evaluation import metrics
from codec.evaluation.medium import MEDIA, medium_called
from codec.evaluation.metrics import compare
from codec.evaluation.pictures import PICTURES
from codec.evaluation.scales import SCALES, scale_of
from codec.media.image import Image

from support import picture_of

CLASSICAL = ("psnr", "mse", "ms-ssim", "ssimulacra2")


@pytest.fixture(scope="module")
def pair() -> tuple[Image, Image]:
    original = picture_of((170, 164, 3))
    noise = np.random.default_rng(1).integers(-9, 10, original.shape)
    return Image(original), Image((original.astype(int) + noise).clip(0, 255).astype(np.uint8))


def test_values(pair):
    values = compare(*pair, CLASSICAL)
    assert values["psnr"] == pytest.approx(codec.psnr_of(*pair), abs=1e-4)
    assert values["psnr"] == pytest.approx(10 * math.log10(255**2 / values["mse"]), abs=1e-5)
    assert 0.5 < values["ms-ssim"] < 1
    assert 0 < values["ssimulacra2"] < 95


def test_order_of_worse_pictures(pair):
    original, noisy = pair
    worse = Image((original.samples // 64 * 64).astype(np.uint8))
    good, bad = compare(original, noisy, CLASSICAL), compare(original, worse, CLASSICAL)
    for name in CLASSICAL:
        assert (good[name] > bad[name]) != scale_of(name).falling, name


def test_the_same_picture(pair):
    values = compare(pair[0], pair[0], CLASSICAL)
    assert values == {"psnr": None, "mse": 0, "ms-ssim": pytest.approx(1), "ssimulacra2": pytest.approx(100)}


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 300, 3), (160, 400, 1), (8, 8, 1)])
def test_pictures_too_small_have_no_value(shape):
    a = Image(picture_of(shape))
    values = compare(a, Image(255 - a.samples), CLASSICAL)
    assert values["psnr"] is not None
    assert values["ms-ssim"] is None
    assert (values["ssimulacra2"] is None) == (min(shape[:2]) < 8)


def test_gray_against_colour_and_sixteen_bits_against_eight():
    gray = Image(picture_of((20, 30))[..., None])
    colour = Image(np.repeat(gray.samples, 3, axis=2) ^ 1)
    assert compare(gray, colour, ["mse"])["mse"] == 1
    deep = Image(gray.samples.astype(np.uint16) * 257), Image((gray.samples ^ 1).astype(np.uint16) * 257)
    assert compare(*deep, ["mse"])["mse"] == pytest.approx(1)
    assert compare(*deep, ["ssimulacra2"]) == compare(gray, colour, ["ssimulacra2"])
    with pytest.raises(MediaError, match="uint16"):
        compare(deep[0], gray, ["mse"])
    with pytest.raises(MediaError, match="20x30"):
        compare(gray, Image(gray.samples.transpose(1, 0, 2)), ["mse"])


def test_every_metric_has_a_scale():
    for name in MEDIA:
        medium = medium_called(name)
        assert {*medium.metrics, *medium.columns} <= {scale.name for scale in SCALES}
        assert set(metrics.ALWAYS) <= set(medium.metrics)


def choose(asked, weights):
    return metrics.choose(asked, weights, PICTURES)


def test_choosing(monkeypatch):
    assert choose([], {})[0] == CLASSICAL
    assert choose(["ssimulacra2"], {})[0] == ("psnr", "mse", "ssimulacra2")
    with pytest.raises(ValueError, match="choose from psnr"):
        choose(["vmaf"], {})
    with pytest.raises(MissingPackageError, match="--weights lpips=FILE"):
        choose(["lpips"], {})
    with pytest.raises(ValueError, match="lpips, dists"):
        choose([], {"psnr": "x"})
    monkeypatch.setattr(metrics.util, "find_spec", lambda name: None if name == "ssimulacra2" else util)
    chosen, left_out = choose([], {})
    assert chosen == ("psnr", "mse", "ms-ssim")
    assert left_out == ["ssimulacra2 needs a package; pip install ssimulacra2"]
    with pytest.raises(MissingPackageError, match="pip install ssimulacra2"):
        choose(["ssimulacra2"], {})


class _Distance(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().mean()


def test_networks_that_the_user_brings(tmp_path, pair):
    file = str(tmp_path / "network.pt")
    example = torch.zeros(1, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(_Distance(), (example, example)).save(file)
    weights = {"lpips": file, "dists": file}
    values = compare(*pair, ["lpips", "dists"], weights)
    expected = np.abs(pair[0].samples / 255 - pair[1].samples / 255).mean()
    assert values == {"lpips": pytest.approx(2 * expected, rel=1e-4), "dists": pytest.approx(expected, rel=1e-4)}
    assert choose([], weights)[0] == (*CLASSICAL, "lpips", "dists")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ModelError, match="not a TorchScript file"):
        compare(*pair, ["lpips"], {"lpips": str(tmp_path / "text.pt")})
