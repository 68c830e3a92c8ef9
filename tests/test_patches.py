"""Training pictures against patch discriminators: they learn alone first, then pull, as hard as they may."""

import dataclasses
import json

import pytest
import torch
from torch.nn import functional as F

from codec.errors import RecipeError
from codec.training import recipe as recipes
from codec.training import trainer
from codec.training.critics import Critics
from codec.training.discriminators import adversarial_loss, discriminator_loss
from codec.training.photos import Photos
from codec.training.picture_discriminators import PatchDiscriminator, PictureDiscriminators
from codec.training.run import Run

from commandline import invoke
from support import DATA, TINY_WALLOC

WALLOC = (
    TINY_WALLOC
    + """
[train]
steps = 10
lr = 1e-3
warmup = 1
validation = 0
seed = 3
stages = [{ start = 0.0, batch = 2, size = 64 }]
"""
)
ADVERSARY = """
[adversary]
lr = 2e-3
warmup = 2
width = 4
"""
SMALL = {"width": 4, "scales": 2, "lr": 2e-3, "warmup": 0}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def photos() -> Photos:
    return Photos([DATA], smallest=64)


def recipe(tmp_path, text: str = WALLOC + ADVERSARY, **settings: str) -> recipes.Recipe:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return recipes.read(path, {name.replace("__", "."): value for name, value in settings.items()})


def run_to(step: int, plan: recipes.Recipe, photos: Photos, folder, *, resume: bool = False) -> Run:
    run = Run(plan, torch.device("cpu"))
    trainer.prepare(run, photos, folder, resume=resume)
    advance(run, step, photos)
    return run


def advance(run: Run, step: int, photos: Photos) -> list[dict[str, torch.Tensor]]:
    return [run.advance(photos.signal(photos.crops([i], 2, 64, [0]))) for i in range(run.step, step)]


def weights(run: Run) -> torch.Tensor:
    """Return what a step changes, of the system."""
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


def critics(**changes) -> Critics:
    return Critics(recipes.PictureAdversary(**SMALL | changes), torch.device("cpu"))


def textures(count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sharp pictures [B, 3, 48, 48] and the same blurred."""
    sharp = F.interpolate(torch.rand(count, 3, 24, 24) - 0.5, scale_factor=2)
    return sharp, blurred(sharp)


def blurred(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(x, 5, 1, 2, count_include_pad=False)


def detail(x: torch.Tensor) -> torch.Tensor:
    """Return how far neighbouring pixels are from each other."""
    return x.diff(dim=-1).abs().mean()


def practised(**changes) -> tuple[Critics, list[float]]:
    """Return discriminators that looked at sharp and blurred pictures for some steps, and their losses."""
    judges = critics(width=8, **changes)
    return judges, [float(judges.advance(*textures(), rate=1.0)[1]["discriminator"]) for _ in range(60)]


# --- networks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(64, 128), (61, 127), (1, 1)])
def test_a_verdict_for_every_16x16_pixels(height, width):
    layers = PatchDiscriminator(2)(torch.randn(3, 3, height, width))
    sizes = [(-(-height // cell), -(-width // cell)) for cell in (4, 8, 16, 16)]
    assert [tuple(x.shape) for x in layers] == [(3, c, *size) for c, size in zip((2, 4, 8, 1), sizes, strict=True)]
    assert layers[-1].dtype == torch.float32


def test_a_verdict_is_on_68_pixels():
    x = torch.randn(1, 3, 160, 160, requires_grad=True)
    PatchDiscriminator(4)(x)[-1][0, 0, 5, 5].backward()
    rows = x.grad.abs().amax((0, 1, 3)).nonzero().flatten()
    assert (rows.min(), rows.max() - rows.min()) == (5 * 16 - 32, 67)


def test_each_scale_sees_half_the_size():
    layers = PictureDiscriminators(width=2, scales=3)(torch.randn(2, 3, 100, 64))
    assert [tuple(of_one[0].shape) for of_one in layers] == [(2, 2, 25, 16), (2, 2, 13, 8), (2, 2, 7, 4)]


def test_where_they_look_is_drawn_anew_the_same_for_both():
    networks, x = PictureDiscriminators(width=2, scales=1), torch.rand(1, 3, 40, 48) - 0.5
    sizes = set()
    for _ in range(40):
        a, b = networks.signals(x, x)
        assert torch.equal(a, b)
        assert torch.equal(a, 2 * x[..., 40 - a.shape[2] :, 48 - a.shape[3] :])
        sizes.add(a.shape[2:])
    assert len(sizes) > 30
    assert {40 - h for h, _ in sizes} <= set(range(16))
    assert networks.signals(x[..., :1, :1], x[..., :1, :1])[0].shape == (1, 3, 1, 1)


def test_the_pull_has_no_pattern_in_one_place():
    judges, x = critics(feature=0.0), torch.zeros(1, 3, 64, 64)
    pulls = [judges.advance(x, x, rate=0.0)[0][0, :, 24:40, 24:40] for _ in range(60)]
    spread = torch.stack(pulls).mean(0).std() / torch.stack(pulls).std(correction=0)
    assert spread < 0.4  # of one that does not move: 1


def test_gradients_reach_every_parameter_and_the_picture():
    networks, x = PictureDiscriminators(width=4, scales=2), torch.randn(2, 3, 64, 64)
    y = torch.randn(2, 3, 64, 64, requires_grad=True)
    discriminator_loss(networks(x), networks(y)).backward()
    assert [name for name, p in networks.named_parameters() if p.grad is None or not p.grad.any()] == []
    (gradient,) = torch.autograd.grad(adversarial_loss(networks(y)), y)
    assert (gradient != 0).float().mean() > 0.99


# --- critics -------------------------------------------------------------------------------------------------


def test_they_learn_to_tell_blurred_from_sharp():
    judges, losses = practised()
    assert losses[-1] < 0.3 * losses[0]
    with torch.no_grad():
        sharp, soft = (judges.networks(x) for x in judges.networks.signals(*textures()))
    for a, b in zip(sharp, soft, strict=True):
        assert a[-1].min() > b[-1].max()


@pytest.mark.parametrize(("adversarial", "feature"), [(1.0, 0.0), (0.0, 1.0)], ids=["verdicts", "features"])
def test_the_pull_sharpens(adversarial, feature):
    judges, _ = practised(adversarial=adversarial, feature=feature)
    sharp, picture = textures()
    before = picture
    asked = []
    for _ in range(30):
        pull, figures = judges.advance(sharp, picture, rate=0.0)
        asked.append(float(adversarial * figures["adversarial"] + feature * figures["feature"]))
        picture = picture - 0.3 * pull / pull.norm()
    assert sum(asked[-5:]) < 0.9 * sum(asked[:5])
    assert detail(picture) > 1.05 * detail(before)
    if feature:  # which are those of this picture, not of any sharp one
        assert (picture - sharp).square().mean() < (before - sharp).square().mean()


def test_they_learn_alone_then_are_heard_more_and_more():
    judges = critics(warmup=4)
    heard, pulled = [], []
    for _ in range(10):
        pull, figures = judges.advance(*textures(), rate=1.0)
        heard.append(judges.heard())
        pulled.append(pull is not None)
        assert ("adversarial" in figures) == pulled[-1]
    assert heard == [0, 0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert pulled == [False] * 4 + [True] * 6


@pytest.mark.parametrize("learnt", [4, 5, 6, 9])
def test_the_pull_is_a_share_of_the_gradient_it_joins(learnt):
    judges, x = critics(share=0.25, warmup=4), torch.randn(2, 3, 32, 32, requires_grad=True)
    target, _ = textures(2)
    for _ in range(learnt):
        pull, _ = judges.advance(target, F.interpolate(x, 48), rate=1.0)
    x_hat = F.interpolate(x, 48)
    x_hat.retain_grad()
    judges.backward((x_hat - target).square().sum(), x_hat, pull)
    own = 2 * (x_hat - target).detach()
    share = 0.25 * min((learnt - 4) / 4, 1)
    torch.testing.assert_close((x_hat.grad - own).norm(), share * own.norm(), rtol=1e-3, atol=1e-4)
    if share:
        torch.testing.assert_close(x_hat.grad, own + pull * share * own.norm() / pull.norm())
        expected = torch.autograd.grad(F.interpolate(x, 48), x, x_hat.grad)[0]
        torch.testing.assert_close(x.grad, expected)


def test_fixed_weights_grow_as_well():
    judges, x = critics(share=0.0, warmup=2), torch.zeros(1, 3, 48, 48, requires_grad=True)
    for _ in range(3):
        pull, _ = judges.advance(textures(1)[0], x, rate=1.0)
    judges.backward(x.sum(), x, pull)
    torch.testing.assert_close(x.grad, 1 + 0.5 * pull)


class Compiled(torch.autograd.Function):
    """A system as `torch.compile` leaves it: one node that yields both the loss and the reconstruction."""

    @staticmethod
    def forward(ctx, x):
        return x.sum(), 2 * x

    @staticmethod
    def backward(ctx, of_loss, of_picture):
        return of_loss + 2 * of_picture


def test_a_share_of_a_gradient_that_cannot_be_seen():
    x = torch.zeros(1, 3, 8, 8, requires_grad=True)
    for loss, x_hat in ((x.sum(), x * 1), Compiled.apply(x)):
        with pytest.raises(RecipeError, match=r"leave out --compile, or set adversary\.share=0"):
            critics().backward(loss, x_hat, None)


def test_what_is_compiled_takes_fixed_weights():
    x, pull = torch.zeros(1, 3, 8, 8, requires_grad=True), torch.rand(1, 3, 8, 8)
    critics(share=0.0).backward(*Compiled.apply(x), pull)
    torch.testing.assert_close(x.grad, 1 + 2 * pull)


# --- runs ----------------------------------------------------------------------------------------------------


def test_a_run_before_they_are_heard_is_one_without_them(photos, tmp_path):
    alone = run_to(2, recipe(tmp_path), photos, tmp_path)
    plain = run_to(2, recipe(tmp_path, WALLOC), photos, tmp_path)
    assert torch.equal(weights(alone), weights(plain))
    assert alone.critics.optimizer.state  # though they learnt
    assert "adversarial" in advance(alone, 3, photos)[0]
    advance(plain, 3, photos)
    assert not torch.equal(weights(alone), weights(plain))


def test_a_resumed_run_is_uninterrupted(photos, tmp_path):
    plan = recipe(tmp_path)
    straight = run_to(5, plan, photos, tmp_path / "straight")
    run_to(3, plan, photos, tmp_path / "cut").save(tmp_path / "cut")
    resumed = run_to(5, plan, photos, tmp_path / "cut", resume=True)
    assert torch.equal(weights(straight), weights(resumed))
    assert straight.critics.heard() == resumed.critics.heard() == 1
    for name, value in straight.critics.networks.state_dict().items():
        assert torch.equal(value, resumed.critics.networks.state_dict()[name]), name


def test_a_run_that_goes_on_against_them_does_not_follow_them_untrained(photos, tmp_path):
    run_to(5, recipe(tmp_path, WALLOC), photos, tmp_path / "run").save(tmp_path / "run")
    run = run_to(6, recipe(tmp_path), photos, tmp_path / "run", resume=True)
    assert run.critics.heard() == 0
    assert ["adversarial" in figures for figures in advance(run, 9, photos)] == [False, True, True]


def test_the_whole_command(tmp_path):
    (tmp_path / "recipe.toml").write_text(WALLOC + ADVERSARY)
    words = ["train", tmp_path / "recipe.toml", "--run", tmp_path / "run", "--data", DATA, "--threads", 1]
    assert invoke(*words, "--steps", 3)[0] == 0
    held = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert (held["step"], len(held["adversary"]["networks"])) == (3, 2 * 4 * 3)
    code, _, stderr = invoke(*words, "--resume", "--set", "adversary.width=6")
    assert code == 1
    assert "other discriminators" in stderr
    assert invoke(*words, "--resume", "--steps", 6)[0] == 0
    assert invoke(*words, "--export", tmp_path / "model")[0] == 0
    assert json.loads((tmp_path / "model" / "model.json").read_text())["facts"]["steps"] == 6


# --- recipes -------------------------------------------------------------------------------------------------


def test_recipes(tmp_path):
    plan = recipe(tmp_path, adversary__share="0.5")
    assert plan.adversary == recipes.PictureAdversary(lr=2e-3, warmup=2, width=4, share=0.5)
    assert recipes.fingerprint(plan) == recipes.fingerprint(dataclasses.replace(plan, adversary=None))


def test_fields_of_sound_are_refused(tmp_path):
    for name, value in (("periods", "[2, 3]"), ("windows", "[512]"), ("band_width", "2")):
        with pytest.raises(RecipeError, match=f"'{name}'; for walloc, .adversary. knows .* width, scales$") as error:
            recipe(tmp_path, WALLOC + ADVERSARY + f"{name} = {value}\n")
        assert "\n" not in str(error.value)
        with pytest.raises(RecipeError, match="no such setting"):
            recipe(tmp_path, **{f"adversary__{name}": value})


def test_wrong_shapes_are_refused(tmp_path):
    for line in ("scales = 0", "width = -1"):
        with pytest.raises(RecipeError, match="width and scales are 1 or more; for walloc"):
            recipe(tmp_path, WALLOC + "[adversary]\n" + line)
