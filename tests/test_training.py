"""Training: resumable to the step, from any recipe, and what it exports is a codec."""

import json
import tarfile

import numpy as np
import pytest
import torch

import codec
from codec import checkpoint
from codec.errors import MediaError, RecipeError
from codec.training import recipe as recipes
from codec.training import trainer
from codec.training.dataset import prefetched
from codec.training.export import export, synthesis_macs
from codec.training.photos import Photos
from codec.training.run import Run

from commandline import invoke
from support import DATA, ROOT

TINY = {
    "walloc": {"latents": 12, "width": 16, "blocks": 1, "groups": [3, 4, 5], "hidden": 16},
    "waveprior": {
        "latents": 24, "width": 16, "deep": 24, "analysis": [1, 1], "synthesis": [1, 1], "groups": [8, 16],
        "hidden": 16, "far": 8, "hyper": 4, "features": 8,
    },
}  # fmt: skip


def recipe(system: str, tmp_path, **train) -> recipes.Recipe:
    """Return a recipe small enough for a test, through a file as users write it."""
    settings = {"steps": 6, "lr": 1e-3, "warmup": 1, "validation": 0, "seed": 3} | train
    lines = [f'system = "{system}"', "[config]", *(f"{k} = {v}" for k, v in TINY[system].items())]
    lines += ["lambda_range = [0.002, 0.05]", "[train]", *(f"{k} = {v}" for k, v in settings.items())]
    lines += ["stages = [{ start = 0.0, batch = 2, size = 128 }, { start = 0.6, batch = 1, size = 144 }]"]
    path = tmp_path / f"{system}.toml"
    path.write_text("\n".join(lines))
    return recipes.read(path)


@pytest.fixture(scope="module")
def photos() -> Photos:
    return Photos([DATA], smallest=144)


def run_to(step: int, plan: recipes.Recipe, photos: Photos, folder, *, resume: bool = False) -> Run:
    run = Run(plan, torch.device("cpu"))
    trainer.prepare(run, photos, folder, resume=resume)
    while run.step < step:
        stage = run.schedule.stage(run.step)
        run.advance(photos.signal(photos.crops([run.step], stage.batch, stage.size, [0])))
    return run


@pytest.mark.parametrize("system", TINY)
def test_resumed_is_uninterrupted(system, photos, tmp_path):
    plan = recipe(system, tmp_path)
    straight = run_to(4, plan, photos, tmp_path / "straight")
    run_to(2, plan, photos, tmp_path / "cut").save(tmp_path / "cut")
    resumed = run_to(4, plan, photos, tmp_path / "cut", resume=True)
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
        assert torch.equal(straight.average[name], resumed.average[name]), name


@pytest.mark.parametrize("system", TINY)
def test_step_0_is_a_codec_and_training_improves_it(system, photos, tmp_path, monkeypatch):
    run = run_to(0, recipe(system, tmp_path, steps=120, warmup=20, decay=0.5, lr=5e-4), photos, tmp_path)
    x, t = photos.signal(photos.crops([9], 4, 128, [0])), torch.linspace(0, 1, 4)
    torch.manual_seed(0)
    before = run.model.loss(x, t)
    assert 10 * np.log10(255**2 / float(before["mse"])) > 20
    lines = []
    trainer.train(run, photos, tmp_path / "run", report=lines.append)
    assert run.step == 120
    torch.manual_seed(0)
    assert run.model.loss(x, t)["loss"] < before["loss"]
    info = export(run, tmp_path / "fresh", facts={"measured": 1})
    assert info.facts["steps"] == 120
    assert info.facts["measured"] == 1
    monkeypatch.setenv("CODEC_MODELS", str(tmp_path))
    data = codec.encode(DATA / "parrots.png", model="fresh", quality=60)
    assert codec.open(data).info.width == 203
    assert codec.decode(data).samples.shape == (151, 203, 3)


@pytest.mark.parametrize("system", TINY)
def test_loss_has_gradients_everywhere(system, photos, tmp_path):
    run = run_to(0, recipe(system, tmp_path), photos, tmp_path)
    for network in (run.model.g_a, run.model.g_s):
        if hasattr(network, "tail"):
            torch.nn.init.normal_(network.tail.weight, std=0.01)
    losses = run.model.loss(photos.signal(photos.crops([1], 2, 144, [0])))
    losses["loss"].backward()
    dead = [name for name, p in run.model.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert dead == []


def test_metrics_and_validation(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "_LOG_EVERY", 2)
    monkeypatch.setattr("codec.training.photos._CENTRE", 128)
    monkeypatch.setattr(trainer, "_split", lambda count, held_out: ([0], [0]))
    run = run_to(0, recipe("walloc", tmp_path, validate_every=4), photos, tmp_path)
    seen = []
    trainer.train(run, photos, tmp_path / "run", report=seen.append)
    written = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert written == seen
    assert [line["step"] for line in seen] == [2, 4, 6]
    points = seen[1]["validation"]
    assert [p["bpp"] for p in points] == sorted(p["bpp"] for p in points)
    assert [p["psnr"] for p in points] == sorted(p["psnr"] for p in points)


def test_an_interrupted_run_has_its_checkpoint(photos, tmp_path):
    run = run_to(0, recipe("walloc", tmp_path), photos, tmp_path)
    advance, steps = run.advance, []

    def interrupted(*args):
        if len(steps) == 3:
            raise KeyboardInterrupt
        steps.append(advance(*args))
        return steps[-1]

    run.advance = interrupted
    with pytest.raises(KeyboardInterrupt):
        trainer.train(run, photos, tmp_path / "run", report=lambda line: None)
    again = Run(run.recipe, torch.device("cpu"))
    again.load(tmp_path / "run")
    assert again.step == 3


def test_a_run_folder_of_another_network_is_refused(photos, tmp_path):
    run_to(0, recipe("walloc", tmp_path), photos, tmp_path).save(tmp_path / "run")
    with pytest.raises(RecipeError, match="another network"):
        Run(recipe("waveprior", tmp_path), torch.device("cpu")).load(tmp_path / "run")
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"nonsense")
    with pytest.raises(RecipeError, match="not a checkpoint"):
        Run(recipe("walloc", tmp_path), torch.device("cpu")).load(tmp_path / "run")


def test_learning_rate_warms_up_stays_and_decays(tmp_path):
    run = Run(recipe("walloc", tmp_path, steps=100, warmup=10, decay=0.2), torch.device("cpu"))
    rates = []
    for run.step in range(101):
        rates.append(run.learning_rate())
    assert rates[0] == pytest.approx(1e-4)
    assert rates[10:80] == [1e-3] * 70
    assert rates[100] == pytest.approx(2e-5)
    assert rates[79:] == sorted(rates[79:], reverse=True)


# --- recipes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(ROOT.glob("models/zoo/*/recipe.toml")), ids=lambda p: p.parent.name)
def test_recipes_of_the_zoo_can_be_read(path):
    plan = recipes.read(path)
    system = codec.checkpoint.system_class(plan.system).from_config(plan.config)
    assert sum(p.numel() for p in system.parameters()) > 0
    assert recipes.find(path.parent.name) == path


def test_settings_override_a_recipe():
    path = recipes.find("walloc-12")
    plan = recipes.read(path, {"train.steps": "7", "config.width": "16", "train.ema": "0.5"})
    assert (plan.train.steps, plan.config["width"], plan.train.ema) == (7, 16, 0.5)
    for wrong in ("train.stepz", "width", "nothing.at.all"):
        with pytest.raises(RecipeError, match="no such setting"):
            recipes.read(path, {wrong: "1"})


def test_wrong_recipes_are_refused(tmp_path):
    path = tmp_path / "recipe.toml"
    for text in ("system = ", "system = 'walloc'", "system = 'walloc'\n[config]\n[train]\nstages = []\nspeed = 9"):
        path.write_text(text)
        with pytest.raises(RecipeError):
            recipes.read(path)
    with pytest.raises(RecipeError, match="no recipe"):
        recipes.find("nothing-of-this-name")


# --- photographs ---------------------------------------------------------------------------------------------


def test_crops_are_parts_of_photographs_and_repeatable(photos):
    crops = photos.crops([5], 3, 128, [0])
    assert crops.shape == (3, 3, 128, 128)
    assert crops.dtype == torch.uint8
    assert torch.equal(crops, photos.crops([5], 3, 128, [0]))
    assert not torch.equal(crops, photos.crops([6], 3, 128, [0]))
    samples = photos.signal(crops)
    assert -0.5 <= float(samples.min()) < float(samples.max()) <= 0.5


def test_small_photographs_are_left_out_not_enlarged():
    with pytest.raises(MediaError, match="no photographs large enough for 4000"):
        Photos([DATA], smallest=4000)


def test_tar_shards_hold_the_same_photographs(tmp_path, photos):
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for path in sorted(DATA.rglob("*")):
            if path.is_file():
                archive.add(path, arcname=path.name)
    again = Photos([tmp_path / "shard.tar"], smallest=144)
    assert len(again) == len(photos)
    assert torch.equal(again.crops([1], 2, 128, [0]), photos.crops([1], 2, 128, [0]))


def test_the_cache_of_decoded_photographs_is_bounded():
    photos = Photos([DATA], smallest=64, cache=1)
    for i in range(len(photos)):
        photos[i]
    assert len(photos._cache) == 1


def test_prefetching_keeps_the_order():
    assert list(prefetched(lambda step: step * step, 3, 40, 4)) == [i * i for i in range(3, 40)]


def test_macs_are_those_of_the_convolutions(tmp_path):
    plan = recipe("walloc", tmp_path)
    model = codec.checkpoint.system_class("walloc").from_config(plan.config)
    by_hand = (192 * 12 * 9 + 16 * 12 * 9 + 2 * 16 * 16 * 9 + 192 * 16) / 64
    assert synthesis_macs(model) == by_hand


# --- the command ---------------------------------------------------------------------------------------------


def test_the_command_trains_resumes_and_exports(tmp_path):
    recipe("walloc", tmp_path)
    words = ["train", tmp_path / "walloc.toml", "--run", tmp_path / "run"]
    assert invoke(*words)[0] == 2  # no data
    code, _, stderr = invoke(*words, "--data", DATA, "--steps", 2, "--threads", 1)
    assert code == 0, stderr
    code, _, stderr = invoke(*words, "--data", DATA)
    assert code == 1
    assert "--resume" in stderr
    assert invoke(*words, "--data", DATA, "--resume", "--set", "train.steps=3")[0] == 0
    code, stdout, _ = invoke(*words, "--export", tmp_path / "fresh", "--json")
    assert code == 0
    described = json.loads((tmp_path / "fresh" / "model.json").read_text())
    assert described["digest"] == json.loads(stdout)["digest"]
    assert described["facts"]["steps"] == 3
    assert described["facts"]["kmac_per_pixel"] > 0


def test_a_run_starts_from_a_finished_model(photos, tmp_path):
    recipe("walloc", tmp_path)
    command = ["train", tmp_path / "walloc.toml", "--data", DATA, "--threads", 1]
    assert invoke(*command, "--run", tmp_path / "a", "--steps", 2)[0] == 0
    export(run := run_to(0, recipe("walloc", tmp_path), photos, tmp_path / "a", resume=True), tmp_path / "first")
    started = Run(run.recipe, torch.device("cpu"))
    trainer.prepare(started, photos, tmp_path / "none", resume=False, start=checkpoint.find_model(f"{tmp_path}/first"))
    for name, value in run.average.items():  # but for the rounding of integers and halves
        assert torch.allclose(started.model.state_dict()[name], value, atol=2e-3, rtol=2e-3), name
    assert started.step == 0
    words = [*command, "--run", tmp_path / "b", "--start", tmp_path / "first"]
    assert invoke(*words, "--steps", 1)[0] == 0
    assert invoke(*words, "--steps", 2, "--resume")[0] == 0  # goes on, does not start again
    assert invoke("train", tmp_path / "walloc.toml", "--run", tmp_path / "b", "--export", tmp_path / "second")[0] == 0
    facts = checkpoint.find_model(f"{tmp_path}/second").facts
    assert (facts["steps"], facts["started_from"]) == (2, checkpoint.find_model(f"{tmp_path}/first").digest)
    for model, complaint in (
        ("waveprior", "of waveprior"),
        ("walloc-12", "another shape"),
        ("nothing", "not installed"),
    ):
        code, _, stderr = invoke(*command, "--run", tmp_path / "c", "--start", model)
        assert code != 0
        assert complaint in stderr


def test_the_command_says_what_is_wrong(tmp_path):
    assert invoke("train", "nothing-of-this-name")[0] == 1
    code, _, stderr = invoke("train", "walloc-12", "--set", "steps")
    assert (code, "KEY=VALUE" in stderr) == (2, True)
    code, _, stderr = invoke("train", "walloc-12", "--export", tmp_path / "m", "--run", tmp_path / "none")
    assert code == 1
    assert "holds no run yet" in stderr
