import pytest
import torch
from torch.nn import functional as F

from codec.errors import ModelError
from codec.training.visual import lpips, visual_loss

TERMS = {"l1", "ssim", "texture", "loss"}


@pytest.fixture
def picture() -> torch.Tensor:
    """Noise that is smooth here and rough there."""
    noise = torch.rand(2, 3, 96, 112, generator=torch.Generator().manual_seed(0)) - 0.5
    smooth = F.avg_pool2d(noise, 9, 1, 4) * 3
    return torch.cat([smooth[..., :48], noise[..., 48:]], -1).clamp(-0.5, 0.5)


def test_nothing_is_lost_by_a_copy(picture):
    terms = visual_loss(picture, picture)
    assert terms.keys() == TERMS
    assert all(float(value) == pytest.approx(0, abs=1e-5) for value in terms.values())


def test_more_blur_is_worse(picture):
    blurred = [F.avg_pool2d(picture, k, 1, k // 2) for k in (3, 5, 9)]
    for name in TERMS:
        values = [float(visual_loss(b, picture)[name]) for b in blurred]
        assert values == sorted(values)
        assert values[0] > 0.002


def test_texture_of_its_kind_is_near_in_statistics_alone(picture):
    """Other noise of the same strength: as far as can be in place, near in kind; blurred: the other way round."""
    other = torch.rand(picture.shape, generator=torch.Generator().manual_seed(1)) - 0.5
    moved, blurred = other.clone(), F.avg_pool2d(picture, 5, 1, 2)
    moved[..., :48] = picture[..., :48]
    moved, blurred = visual_loss(moved, picture), visual_loss(blurred, picture)
    assert float(moved["l1"]) > float(blurred["l1"])
    assert float(moved["texture"]) < 0.6 * float(blurred["texture"])


def test_colour_counts(picture):
    tinted = picture.clone()
    tinted[:, 0] += 0.1
    tinted[:, 2] -= 0.1
    assert float(visual_loss(tinted, picture)["loss"]) > 0.05


class Contrast(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a.std((1, 2, 3)) - b.std((1, 2, 3))).abs()


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_network_of_the_user_counts(picture, tmp_path):
    torch.jit.script(Contrast()).save(tmp_path / "lpips.pt")
    distance = lpips(str(tmp_path / "lpips.pt"), torch.device("cpu"))
    x = (picture * 0.5).requires_grad_()
    with_it, without = visual_loss(x, picture, distance), visual_loss(x, picture)
    assert float(with_it["lpips"].detach()) == pytest.approx(float(picture.std((1, 2, 3)).mean()), rel=1e-4)
    assert float((with_it["loss"] - without["loss"]).detach()) == pytest.approx(float(with_it["lpips"].detach()))
    with_it["lpips"].backward()
    assert x.grad.any()
    (tmp_path / "none.pt").write_text("nothing")
    with pytest.raises(ModelError, match="TorchScript"):
        lpips(str(tmp_path / "none.pt"), torch.device("cpu"))


def test_gradients_are_finite_even_at_the_target(picture):
    x = picture.clone().requires_grad_()
    visual_loss(x, picture)["loss"].backward()
    assert torch.isfinite(x.grad).all()


def test_descent_comes_nearer(picture):
    x = torch.zeros_like(picture).requires_grad_()
    optimizer, first = torch.optim.Adam([x], 0.05), float(visual_loss(x, picture)["loss"].detach())
    for _ in range(30):
        loss = visual_loss(x, picture)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5 * first
