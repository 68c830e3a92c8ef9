"""Training against discriminators: they learn, they pull, and nothing of them is left in a model."""

import dataclasses
import json
import wave

import numpy as np
import pytest
import torch

import codec
from codec.errors import RecipeError
from codec.training import recipe as recipes
from codec.training import trainer
from codec.training.critics import Critics
from codec.training.discriminators import adversarial_loss, discriminator_loss, feature_distance
from codec.training.export import export
from codec.training.run import Run
from codec.training.sound_discriminators import BandDiscriminator, PeriodDiscriminator, SoundDiscriminators
from codec.training.sounds import Sounds
from codec.training.sources import dataset

from support import TINY_RVQ as RVQ

WALLOC = """
system = "walloc-audio"
[config]
hop = 64
unit = 32
latents = 12
width = 16
blocks = 1
groups = [4, 8]
hidden = 16
far = 4
lambda_range = [0.002, 0.05]
"""
TRAIN = """
[train]
steps = 10
lr = 1e-3
warmup = 1
validation = 0
seed = 3
stages = [{ start = 0.0, batch = 2, size = 2400 }]
"""
ADVERSARY = """
[adversary]
lr = 2e-3
periods = [2, 3]
period_width = 2
windows = [128]
band_width = 2
"""
SMALL = {"periods": (2, 3), "period_width": 2, "windows": (128,), "band_width": 2}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two seconds of a voice of sorts: gliding harmonics and breath."""
    path = tmp_path_factory.mktemp("sounds")
    t, rng = np.arange(32_000) / 16_000, np.random.default_rng(1)
    voice = sum(np.sin(2 * np.pi * k * (120 * t + 20 * t**2)) / k for k in range(1, 20)) + rng.normal(size=t.size) * 0.1
    with wave.open(str(path / "voice.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(np.round(voice / np.abs(voice).max() * 20_000).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def voices(folder) -> Sounds:
    return Sounds([folder], smallest=2400, rate=16_000, channels=1)


def recipe(tmp_path, text: str = RVQ + TRAIN + ADVERSARY, **settings: str) -> recipes.Recipe:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return recipes.read(path, {name.replace("__", "."): value for name, value in settings.items()})


def run_to(step: int, plan: recipes.Recipe, data: Sounds, folder, *, resume: bool = False) -> Run:
    run = Run(plan, torch.device("cpu"))
    trainer.prepare(run, data, folder, resume=resume)
    advance(run, step, data)
    return run


def advance(run: Run, step: int, data: Sounds) -> list[dict[str, torch.Tensor]]:
    figures = []
    while run.step < step:
        figures.append(run.advance(data.signal(data.crops([run.step], 2, 2400, [0]))))
    return figures


def state(run: Run) -> dict[str, torch.Tensor]:
    """Return all numbers that a step changes."""
    parts = {"model": run.model.state_dict(), "average": run.average}
    optimizers = {"adam": run.optimizer}
    if run.critics is not None:
        parts["critics"] = run.critics.networks.state_dict()
        optimizers["critics' adam"] = run.critics.optimizer
    for name, optimizer in optimizers.items():
        parts[name] = {f"{i}.{k}": v for i, s in optimizer.state_dict()["state"].items() for k, v in s.items()}
    return {f"{part}.{name}": value.clone() for part, values in parts.items() for name, value in values.items()}


def assert_equal(a: Run, b: Run) -> None:
    left, right = state(a), state(b)
    assert left.keys() == right.keys()
    assert [name for name, value in left.items() if not torch.equal(value, right[name])] == []


# --- discriminators ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("period", "length"), [(2, 1000), (3, 1000), (11, 1001)])
def test_a_period_is_a_batch(period, length):
    layers = PeriodDiscriminator(period, 2)(torch.randn(4, length))
    rows = -(-length // period)
    sizes = [-(-rows // 3**i) for i in (1, 2, 3, 4, 4, 4)]
    widths = (2, 8, 32, 64, 64, 1)
    assert [tuple(x.shape) for x in layers] == [(4 * period, c, n) for c, n in zip(widths, sizes, strict=True)]


def test_columns_of_a_period_do_not_know_of_each_other():
    network, x = PeriodDiscriminator(3, 2), torch.randn(1, 999)
    changed = x.clone()
    changed[:, 1::3] = 0
    same = [(a == b).flatten(1).all(1).tolist() for a, b in zip(network(x), network(changed), strict=True)]
    assert same == [[True, False, True]] * 6


def test_bands_cover_the_spectrum():
    network = BandDiscriminator(256, 4)
    layers = network(torch.randn(3, 1000))
    frames = 1000 // 64 + 1
    assert len(layers) == 5 * 5 + 1
    assert [x.shape[-1] for x in layers[:-1:5]] == [12, 20, 32, 32, 33]
    assert sum(x.shape[-1] for x in layers[:-1:5]) == 129
    assert {tuple(x.shape[:3]) for x in layers[:-1]} == {(3, 4, frames)}
    assert layers[-1].shape == (3, 1, frames, sum(x.shape[-1] for x in layers[4:-1:5]))


def test_published_sizes():
    assert sum(p.numel() for p in PeriodDiscriminator(2, 32).parameters()) == 8_221_154
    assert sum(p.numel() for p in BandDiscriminator(512, 32).parameters()) == 471_330


def test_gradients_reach_every_parameter_and_the_sound():
    networks, x = SoundDiscriminators(**SMALL), torch.randn(2, 2000)
    y = torch.randn(2, 2000, requires_grad=True)
    discriminator_loss(networks(x), networks(y)).backward()
    assert [name for name, p in networks.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(value.abs().sum() > 0 for value in torch.autograd.grad(adversarial_loss(networks(y)), y))


def test_losses():
    networks, x, y = SoundDiscriminators(**SMALL), torch.randn(2, 2000), torch.randn(2, 2000)
    assert feature_distance(networks(x), networks(x)) == 0
    assert feature_distance(networks(x), networks(y)) > 0
    perfect, fooled = [[torch.ones(2)]] * 4, [[torch.zeros(2)]] * 4
    assert discriminator_loss(perfect, fooled) == 0
    assert discriminator_loss(fooled, perfect) == 8
    assert (adversarial_loss(perfect), adversarial_loss(fooled)) == (0, 4)


# --- critics -------------------------------------------------------------------------------------------------


def critics(**changes) -> Critics:
    return Critics(recipes.SoundAdversary(**SMALL | changes), torch.device("cpu"))


def test_the_discriminators_learn():
    judges, x = critics(lr=2e-3), torch.randn(4, 1, 2000) * 0.1
    x_hat = x + torch.randn_like(x) * torch.linspace(0, 0.1, 2000)
    losses = [float(judges.advance(x, x_hat, rate=1.0)[1]["discriminator"]) for _ in range(6)]
    assert losses[-1] < 0.9 * losses[0]


def test_the_pull_is_the_gradient_of_the_weighted_losses():
    judges, x = critics(adversarial=3.0, feature=5.0, reconstruction=7.0), torch.randn(2, 2, 2000).clamp(-1, 1)
    x_hat = (x * 0.5).requires_grad_()
    gradient, figures = judges.advance(x, x_hat, rate=0.0)  # they do not learn meanwhile
    assert gradient.shape == x_hat.shape
    assert x_hat.grad is None
    gain = 0.8 / x.abs().amax(-1, keepdim=True)
    sound, made = ((part - part.mean(-1, keepdim=True)).mul(gain).flatten(0, 1) for part in (x, x_hat))
    given = judges.networks(made)
    verdicts, features = adversarial_loss(given), feature_distance(judges.networks(sound), given)
    ((3 * verdicts + 5 * features) / 7).backward()
    torch.testing.assert_close(gradient, x_hat.grad)
    torch.testing.assert_close(figures["adversarial"], verdicts.detach())
    torch.testing.assert_close(figures["feature"], features.detach())


def test_silence_is_not_blown_up():
    x = torch.zeros(1, 1, 2000)
    gradient, figures = critics().advance(x, torch.randn_like(x) * 1e-6, rate=1.0)
    assert figures["feature"] < 0.1
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("broken", ["verdicts", "weights"])
def test_a_broken_adversary_does_not_stop_the_system(broken, voices, tmp_path, monkeypatch):
    run = run_to(1, recipe(tmp_path), voices, tmp_path)
    before = state(run)
    if broken == "verdicts":
        monkeypatch.setattr("codec.training.critics.discriminator_loss", lambda a, b: b[0][-1].sum() * torch.nan)
        monkeypatch.setattr("codec.training.critics.adversarial_loss", lambda a: a[0][-1].sum() * torch.inf)
    else:
        for p in run.critics.networks.parameters():
            p.data.fill_(torch.inf)
        before = state(run)
    (figures,) = advance(run, 2, voices)
    assert not torch.isfinite(figures["discriminator"])
    assert torch.isfinite(figures["loss"])
    assert torch.isfinite(figures["norm"])
    after = state(run)
    changed = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"model", "average", "adam"}
    assert all(torch.isfinite(value).all() for value in run.model.state_dict().values())


# --- runs ----------------------------------------------------------------------------------------------------


def test_ten_steps(voices, tmp_path):
    run = run_to(0, recipe(tmp_path, train__lr="1e-5"), voices, tmp_path)  # slow, so that there is something to learn
    before = state(run)
    batch = voices.signal(voices.crops([99], 2, 2400, [0]))
    figures = [run.advance(batch) for _ in range(10)]
    assert {"loss", "norm", "adversarial", "feature", "discriminator", "discriminator_norm"} <= figures[-1].keys()
    assert figures[-1]["discriminator"] < 0.9 * figures[0]["discriminator"]
    after = state(run)
    learnt = {name for name in before if name.startswith(("model.g_", "critics."))}
    assert [name for name in learnt if torch.equal(before[name], after[name])] == []


def test_a_resumed_run_is_uninterrupted(voices, tmp_path):
    plan = recipe(tmp_path)
    straight = run_to(4, plan, voices, tmp_path / "straight")
    run_to(2, plan, voices, tmp_path / "cut").save(tmp_path / "cut")
    assert_equal(straight, run_to(4, plan, voices, tmp_path / "cut", resume=True))


def test_before_they_begin_a_run_is_one_without_them(voices, tmp_path):
    late = run_to(4, recipe(tmp_path, adversary__start="0.5"), voices, tmp_path)
    plain = run_to(4, recipe(tmp_path, RVQ + TRAIN), voices, tmp_path)
    theirs = state(late)
    for name, value in state(plain).items():
        assert torch.equal(value, theirs[name]), name
    assert not any(name.startswith("critics' adam") for name in theirs)
    assert "feature" not in advance(late, 5, voices)[0]
    assert "feature" in advance(late, 6, voices)[0]


def test_a_run_goes_on_with_or_without_them(voices, tmp_path):
    plain, against = recipe(tmp_path, RVQ + TRAIN), recipe(tmp_path)
    run_to(2, plain, voices, tmp_path / "run").save(tmp_path / "run")
    held = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert held.keys() == {"recipe", "model", "average", "optimizer", "step", "seconds"}  # as it always was
    twice = [run_to(4, against, voices, tmp_path / "run", resume=True) for _ in range(2)]
    assert_equal(*twice)
    twice[0].save(tmp_path / "run")
    alone = run_to(5, plain, voices, tmp_path / "run", resume=True)
    assert (alone.step, alone.critics) == (5, None)


def test_other_discriminators_are_refused(voices, tmp_path):
    run_to(1, recipe(tmp_path), voices, tmp_path / "run").save(tmp_path / "run")
    for changes in ({"adversary__band_width": "4"}, {"adversary__periods": "[2]"}):
        with pytest.raises(RecipeError, match="other discriminators"):
            Run(recipe(tmp_path, **changes), torch.device("cpu")).load(tmp_path / "run")


def test_a_model_holds_nothing_of_them(voices, tmp_path, monkeypatch):
    against = run_to(2, recipe(tmp_path), voices, tmp_path / "run")
    plain = run_to(2, recipe(tmp_path, RVQ + TRAIN), voices, tmp_path / "run")
    plain.average = against.average
    digests = [export(run, tmp_path / name).digest for name, run in (("against", against), ("plain", plain))]
    assert digests[0] == digests[1]
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("against", "plain")]
    assert files[0] == files[1]
    assert not [name for name, _ in against.model.named_parameters() if "critics" in name]
    monkeypatch.setenv("CODEC_MODELS", str(tmp_path))
    sound = codec.Audio(np.zeros((1, 999), np.float32), 16_000)
    assert codec.decode(codec.encode(sound, model="against")).samples.shape == (1, 999)


def test_metrics(voices, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "_LOG_EVERY", 2)
    run = run_to(0, recipe(tmp_path, train__steps="6", adversary__start="0.5"), voices, tmp_path)
    trainer.train(run, voices, tmp_path / "run", report=lambda line: None, workers=1)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert ["discriminator" in line for line in lines] == [False, True, True]  # the second: of its one step of two
    assert all(line["discriminator"] > 0 and line["feature"] > 0 and line["loss"] > 0 for line in lines[1:])


def test_what_is_compiled_is_what_a_step_calls(voices, tmp_path, monkeypatch):
    compiled, calls = [], []

    def compile_(function):
        compiled.append(function)
        return lambda batch: calls.append(batch) or function(batch)

    monkeypatch.setattr(torch, "compile", compile_)
    for text, name in ((RVQ + TRAIN, "loss"), (RVQ + TRAIN + ADVERSARY, "loss_and_signals")):
        run = run_to(0, recipe(tmp_path, text, train__steps="2"), voices, tmp_path)
        trainer.train(run, voices, tmp_path / name, report=lambda line: None, workers=1, compiled=True)
        assert compiled.pop() == getattr(run.model, name)
    assert len(calls) == 4


def test_any_system_of_sound(folder, tmp_path):
    run = Run(recipe(tmp_path, WALLOC + TRAIN + ADVERSARY), torch.device("cpu"))
    data = dataset(run.model, [folder], smallest=2400)
    trainer.prepare(run, data, tmp_path, resume=False)
    for step in range(3):
        figures = run.advance(data.signal(data.crops([step], 2, 2432, [0])))
    assert torch.isfinite(figures["norm"])
    assert figures["feature"] > 0


# --- recipes -------------------------------------------------------------------------------------------------


def test_recipes(tmp_path):
    assert recipe(tmp_path, RVQ + TRAIN).adversary is None
    plan = recipe(tmp_path, adversary__lr="5e-4", adversary__windows="[64]")
    assert plan.adversary == recipes.SoundAdversary(**SMALL | {"lr": 5e-4, "windows": (64,)})
    assert recipes.fingerprint(plan) == recipes.fingerprint(dataclasses.replace(plan, adversary=None))


def test_wrong_recipes_are_refused(tmp_path):
    for text, why in (
        (RVQ + TRAIN + "[adversary]\nspeed = 9", "for rvq, .adversary. knows start"),
        (RVQ + TRAIN + "[adversary]\nwidth = 64", "'width'; for rvq, .adversary. knows start"),
        (RVQ + TRAIN + "[adversary]\nwarmup = -1", "start, warmup and share are 0 or more; for rvq"),
        (RVQ + TRAIN + "[adversary]\nscales = 2", "'scales'; for rvq, .adversary. knows start"),
        ("adversary = 3\n" + RVQ + TRAIN, "adversary. knows start"),
        (RVQ + TRAIN + "[adversary]\nwindows = 512", "adversary. knows start"),
        (RVQ + TRAIN + "[adversary]\nwindows = [4096]", "crops of .train. have 2400"),
    ):
        with pytest.raises(RecipeError, match=why):
            recipe(tmp_path, text)
    for body, setting in ((RVQ + TRAIN + ADVERSARY, "adversary__speed"), (RVQ + TRAIN, "adversary__lr")):
        with pytest.raises(RecipeError, match="no such setting"):
            recipe(tmp_path, body, **{setting: "1"})


def test_systems_that_have_no_adversaries(tmp_path, monkeypatch):
    with pytest.raises(RecipeError, match="systems of audio and image, stem is one of video"):
        recipe(tmp_path, 'system = "stem"\n[config]\n' + TRAIN + ADVERSARY)
    run = Run(recipe(tmp_path), torch.device("cpu"))
    monkeypatch.setattr(type(run.model), "loss_and_signals", codec.system.System.loss_and_signals)
    with pytest.raises(RecipeError, match="rvq cannot be trained against an adversary"):
        run.advance(torch.zeros(2, 1, 2400))


def test_a_share_where_the_system_hides_its_gradient(voices, tmp_path):
    with pytest.raises(RecipeError, match=r"adversary\.share=0"):
        run_to(1, recipe(tmp_path, adversary__share="0.3"), voices, tmp_path)
