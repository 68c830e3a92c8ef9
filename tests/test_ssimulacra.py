from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codec.training.ssimulacra import score, ssimulacra

PICTURE = Image.open(Path(__file__).parent / "data" / "parrots.png").convert("RGB").resize((331, 270))


def tensor(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 255 - 0.5


@pytest.mark.parametrize("quality", [5, 30, 90])
@pytest.mark.parametrize("size", [(331, 270), (256, 256)])
def test_scores_are_those_of_the_package(quality, size, tmp_path):
    package = pytest.importorskip("ssimulacra2")
    picture = PICTURE.crop((0, 0, *size))
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.jpg", quality=quality)
    expected = package.compute_ssimulacra2(tmp_path / "a.png", tmp_path / "b.jpg")
    found = score(ssimulacra(tensor(Image.open(tmp_path / "b.jpg")), tensor(picture)))
    assert float(found) == pytest.approx(expected, abs=0.1)


def test_a_copy_has_the_highest_score_and_descent_finds_it():
    x = tensor(PICTURE)
    assert float(score(ssimulacra(x, x))) == pytest.approx(100, abs=0.1)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    x_hat = (x + 0.1 * noise).requires_grad_()
    optimizer, first = torch.optim.Adam([x_hat], 0.01), float(score(ssimulacra(x_hat, x).detach()))
    for _ in range(20):
        optimizer.zero_grad()
        ssimulacra(x_hat, x).sum().backward()
        assert x_hat.grad.isfinite().all()
        optimizer.step()
    assert float(score(ssimulacra(x_hat, x).detach())) > first + 20


def test_pictures_of_a_batch_are_judged_one_by_one():
    x = tensor(PICTURE)
    worse = (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(-0.5, 0.5)
    together = ssimulacra(torch.cat([x, worse]), torch.cat([x, x]))
    assert together.tolist() == pytest.approx(
        [float(ssimulacra(x, x)), float(ssimulacra(worse, x))], rel=1e-4, abs=1e-4
    )
