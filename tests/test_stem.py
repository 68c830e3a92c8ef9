import json
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from codec import checkpoint
from codec.coding.coder import Writer
from codec.engine import units
from codec.errors import CorruptError, MissingModelError, ModelError
from codec.media.video import VideoFormat
from codec.models.layers import pyramid
from codec.models.stem import Stem
from codec.system import no_progress

CONFIG = {
    "base": "waveprior",
    "image": {
        "latents": 12, "width": 8, "deep": 8, "analysis": [1, 1], "synthesis": [1, 1], "groups": [4, 8], "hidden": 8,
        "far": 4, "hyper": 4, "features": 4, "lambda_range": [0.0015, 0.09], "hyper_width": 8,
    },
    "groups": [4, 8],
    "hidden": 8,
    "motion_hidden": 8,
}  # fmt: skip


def scene(frames: int = 4, height: int = 40, width: int = 48, *, speed: int = 2, seed: int = 0) -> np.ndarray:
    """A gray picture of smooth waves that pans, [T, H, W, 3]."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:height, : width + speed * frames]
    waves = np.zeros(rows.shape)
    for _ in range(8):
        angle, length, phase = rng.uniform(0, 2 * np.pi), rng.uniform(18, 60), rng.uniform(0, 2 * np.pi)
        waves += np.cos(2 * np.pi * (np.cos(angle) * rows + np.sin(angle) * cols) / length + phase)
    wide = (128 + 24 * waves).clip(0, 255).astype(np.uint8)
    return np.stack([wide[:, speed * i : speed * i + width] for i in range(frames)])[..., None].repeat(3, -1)


def made(path: Path, *, between: bool) -> Path:
    """Write a model whose image part is a transform codec in closed form, its priors random; return its folder."""
    torch.manual_seed(0)
    config = CONFIG | {"between": between}
    model = Stem.from_config(config)
    pictures = np.concatenate([scene(2, 96, 96, seed=seed) for seed in range(8)])
    model.image.initialize([torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255 - 0.5])
    for _, out in model.prior.residual.heads:
        out.bias.data.fill_(1.0)  # wide enough for what it has not learned to expect
    checkpoint.save(model.image, path / "tiny-image", config=CONFIG["image"], facts={})
    checkpoint.save(model, path / "tiny-stem", config=config | {"base": str(path / "tiny-image")}, facts={})
    return path / "tiny-stem"


@pytest.fixture(scope="module", params=[False, True], ids=["chain", "pyramids"])
def folder(request, tmp_path_factory) -> Path:
    return made(tmp_path_factory.mktemp("models"), between=request.param)


@pytest.fixture(scope="module")
def stem(folder) -> Stem:
    return checkpoint.load(checkpoint.find_model(str(folder)), "cpu")


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Stem:
    """A model of frames that each follow the last."""
    return checkpoint.load(checkpoint.find_model(str(made(tmp_path_factory.mktemp("chain"), between=False))), "cpu")


@pytest.fixture(scope="module")
def pyramids(tmp_path_factory) -> Stem:
    """A model with frames between two others."""
    return checkpoint.load(checkpoint.find_model(str(made(tmp_path_factory.mktemp("pyramids"), between=True))), "cpu")


def params_of(stem: Stem, frames: np.ndarray, *, quality: int = 600, group: int | None = None) -> dict:
    pixels = "rgb24" if frames.dtype == np.uint8 else "rgb48le"
    form = VideoFormat(frames.shape[2], frames.shape[1], Fraction(25), pixels)
    return stem.header(form, quality=quality, effort=1, frames=None, group=group) | {"length": len(frames)}


def encode(stem: Stem, frames: np.ndarray, **options) -> tuple[dict, dict, list]:
    params = params_of(stem, frames, **options)
    parts = [
        stem.analyze_group(frames[a:b], stem.unit_params(params, a, b), None, effort=1) for a, b in stem.groups(params)
    ]
    symbols = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return symbols, params, units.encode(symbols, params, stem)


def decode(stem: Stem, params: dict, coded: list) -> dict:
    parts = [units.decode_unit(stem, spec, unit) for spec, unit in zip(stem.units(params), coded, strict=True)]
    return {name: torch.cat([part[name][0] for part in parts]).int() for name in parts[0]}


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (40, 48), (16, 130)])
@pytest.mark.parametrize("frames", [1, 3])
def test_any_size(stem, size, frames):
    clip = scene(frames, *size)
    symbols, params, coded = encode(stem, clip)
    assert {name: tuple(values.shape) for name, values in symbols.items()} == stem.shapes(params)
    decoded = decode(stem, params, coded)
    assert all(torch.equal(decoded[name], symbols[name]) for name in symbols)
    out = stem.synthesize(decoded, params, progress=no_progress)
    assert out.shape == clip.shape
    assert out.dtype == np.uint8


def test_groups_are_independent(stem):
    clip = scene(5)
    symbols, _, coded = encode(stem, clip, group=2)
    assert len(coded) == 3
    assert not symbols["head"][2].any()
    alone, _, _ = encode(stem, clip[2:4], group=2)
    assert all(torch.equal(alone[name], symbols[name][2:4]) for name in symbols)


def test_deep_samples(stem):
    clip = scene(2).astype(np.uint16) * 257
    symbols, params, _ = encode(stem, clip)
    out = stem.synthesize(symbols, params, progress=no_progress)
    assert out.dtype == np.uint16
    assert np.abs(out.astype(int) - clip).mean() < 257 * 12


def test_threads_do_not_matter(stem):
    symbols, params, coded = encode(stem, scene())
    before = torch.get_num_threads()
    pictures = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            decoded = decode(stem, params, coded)
            pictures.append(stem.synthesize(decoded, params, progress=no_progress).astype(int))
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(decoded[name], symbols[name]) for name in symbols)
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_another_process_decodes_the_same(stem, folder, tmp_path):
    symbols, params, coded = encode(stem, scene())
    torch.save((params, [(unit.payload, unit.check) for unit in coded]), tmp_path / "stream")
    script = (
        "import sys, torch; from codec import checkpoint\n"
        "from codec.container import Unit; from codec.engine import units\n"
        "stem = checkpoint.load(checkpoint.find_model(sys.argv[1]), 'cpu')\n"
        "params, coded = torch.load(sys.argv[2])\n"
        "parts = [units.decode_unit(stem, s, Unit(*u)) for s, u in zip(stem.units(params), coded)]\n"
        "torch.save({n: torch.cat([p[n][0] for p in parts]).int() for n in parts[0]}, sys.argv[3])\n"
    )
    out = tmp_path / "symbols"
    subprocess.run([sys.executable, "-c", script, str(folder), str(tmp_path / "stream"), str(out)], check=True)
    decoded = torch.load(out)
    assert all(torch.equal(decoded[name], symbols[name]) for name in symbols)


def test_estimated_and_real_bits_agree():
    """Of the model that ships: what a network has not learned falls outside its tables, where estimates are rough."""
    trained = checkpoint.load(checkpoint.find_model("stem"), "cpu")
    symbols, params, coded = encode(trained, scene(3, 96, 128), quality=900)
    real = 8 * sum(len(unit.payload) for unit in coded)
    assert abs(units.estimate_bits(symbols, params, trained) - real) < 0.01 * real + 64


def test_the_first_frame_costs_what_an_image_costs(stem):
    clip = scene(1)
    symbols, params, coded = encode(stem, clip)
    writer = Writer(stem.tables)
    image = {"grid": (1, *symbols["y"].shape[1:3]), "quality": params["numbers"][0]}
    with torch.no_grad():
        stem.image.code(writer, image, {name: symbols[name].double() for name in ("y", "z")})
    assert writer.finish() == coded[0].payload


def test_what_stands_still_is_nearly_free(stem):
    still = scene(1).repeat(6, 0)
    symbols, params, _ = encode(stem, still)
    assert not symbols["m"].any()
    out = stem.synthesize(symbols, params, progress=no_progress)
    unchanged = ~symbols["c"].flatten(1).any(1).numpy()
    assert unchanged.any()
    for turn in pyramid.turns(6, 8 if stem.config.between else 1)[1:]:
        if unchanged[turn.index]:
            sources = out[[turn.past, turn.past if turn.ahead is None else turn.ahead]].astype(int)
            assert np.abs(out[turn.index] - sources.mean(0)).max() <= 0.5 * (turn.ahead is not None)


def test_motion_predicts_what_moves(chain):
    """The latents that are to be coded of a pan are smaller for vectors that follow it."""
    clip = scene(3, 64, 96)
    symbols, _, _ = encode(chain, clip)
    inner = symbols["m"][2, 1:-1, 2:-4] + symbols["head"][2, 1:]
    assert (inner == torch.tensor([0, 8])).all(-1).float().mean() > 0.8
    residual, latents = symbols["y"][2].abs().float().mean(), symbols["y"][0].abs().float().mean()
    assert residual < 0.5 * latents


def test_cuts_begin_an_image(chain):
    clip = np.concatenate([np.full_like(scene(2, 64, 96), 255), scene(2, 64, 96)])
    symbols, params, coded = encode(chain, clip)
    assert symbols["head"][:, 0].tolist() == [0, 0, 1, 0]
    assert not symbols["m"][2].any()
    decoded = decode(chain, params, coded)
    assert all(torch.equal(decoded[name], symbols[name]) for name in symbols)
    after, _, _ = encode(chain, clip[2:])
    assert torch.equal(after["y"], symbols["y"][2:])


def test_frames_between_two_are_predicted_from_both(pyramids):
    """What is neither in the frame before nor in the one ahead, but in their mean, is not coded again."""
    clip = scene(3, 64, 96)
    symbols, _, _ = encode(pyramids, clip)
    fields = symbols["m"][1, 1:-1, 4:-4] + symbols["head"][1, 1:]
    assert (fields == torch.tensor([0, 8, 0, -8])).all(-1).float().mean() > 0.8
    amount = symbols["y"].abs().flatten(1).float().mean(1)
    assert amount[1] < 0.5 * amount[0]


def test_each_side_of_a_cut_is_predicted_from_its_own(pyramids):
    white = np.full_like(scene(2, 64, 96), 255)
    clip = np.concatenate([white[:1], scene(2, 64, 96)])
    symbols, params, coded = encode(pyramids, clip)
    assert symbols["head"][:, 0].tolist() == [0, 0, 1]
    assert (symbols["d"][1] == 1).all()
    decoded = decode(pyramids, params, coded)
    assert all(torch.equal(decoded[name], symbols[name]) for name in symbols)


@pytest.mark.parametrize("numbers", [(), (700,), (700, 0), (700, 64, *[500] * 7), (700, 8, 500), (700, 1, 500, 400)])
def test_numbers_that_describe_no_pyramids(pyramids, numbers):
    params = params_of(pyramids, scene(3)) | {"numbers": numbers}
    with pytest.raises(CorruptError, match="pyramids"):
        pyramids.code(Writer(pyramids.tables), pyramids.unit_params(params, 0, 3), None)


def test_the_decoder_sees_what_the_encoder_saw(stem):
    """Errors do not add up over frames: the last is as good as the second."""
    clip = scene(8, 48, 64, speed=1)
    symbols, params, _ = encode(stem, clip, quality=900)
    error = np.square(stem.synthesize(symbols, params, progress=no_progress).astype(float) - clip).mean((1, 2, 3))
    assert error[-1] < 3 * error[1] + 4


def test_embedding(stem):
    symbols, params, _ = encode(stem, scene(3))
    latents = stem.embed(symbols, params)
    assert latents.shape == (3, 12, 3, 3)
    assert latents.dtype == torch.float32
    quality = torch.tensor([params["numbers"][0] / 1024])
    assert torch.equal(latents[0], stem.image._dequantize(symbols["y"][:1], quality)[0])


def test_weights_round_trip(stem, folder, tmp_path):
    config = CONFIG | {"base": str(folder.parent / "tiny-image"), "between": stem.config.between}
    copy = Stem.from_config(config)
    copy.load_state_dict(stem.state_dict())
    again = checkpoint.load(checkpoint.save(copy, tmp_path / "again", config=config, facts={}), "cpu")
    for (name, a), (_, b) in zip(stem.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_what_is_borrowed_is_not_stored_and_must_be_there(folder, tmp_path):
    tensors = safetensors.torch.load((folder / "model.safetensors").read_bytes())
    assert tensors
    assert all(name.startswith("prior.") for name in tensors)
    alone = shutil.copytree(folder, tmp_path / "alone")
    description = json.loads((alone / "model.json").read_text())
    description["config"]["base"] = "waveprior"  # which has another digest
    (alone / "model.json").write_text(json.dumps(description))
    with pytest.raises(MissingModelError, match="builds on a waveprior with digest"):
        checkpoint.load(checkpoint.find_model(str(alone)), "cpu")


@pytest.mark.parametrize("between", [False, True])
def test_only_the_prior_of_frames_learns(between):
    torch.manual_seed(0)
    model = Stem.from_config(CONFIG | {"between": between})
    batch = torch.from_numpy(np.stack([scene(3, 48, 48), scene(3, 48, 48, seed=1)]))
    batch = batch.permute(0, 1, 4, 2, 3).float() / 255 - 0.5
    model.image.initialize([batch[:, 0]])
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses, learned = [], set()
    for _ in range(20):
        loss = model.loss(batch, t=torch.full((2,), 0.9))
        optimizer.zero_grad()
        loss["loss"].backward()
        learned |= {name for name, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        losses.append(float(loss["loss"].detach()))
    rare = {name for name in learned if "copied" in name}  # asked only where vectors around differ
    assert learned - rare == {f"prior.{n}" for n, _ in model.prior.named_parameters() if "copied" not in n}
    assert min(losses[-5:]) < 0.9 * losses[0]


def test_weights_start_from_the_image_codec():
    info = checkpoint.find_model("waveprior")
    model = Stem.from_config(CONFIG | {"image": info.config, "groups": [100, 124]})
    model.initialize([])
    theirs = checkpoint.load(info, "cpu").prior.state_dict()
    for name, value in model.image.prior.state_dict().items():
        assert torch.equal(value.double(), theirs[name]), name
    with pytest.raises(ModelError, match="another shape"):
        Stem.from_config(CONFIG).initialize([])
    other = info.config | {"lambda_range": [0.002, 0.05]}  # no weight tells
    with pytest.raises(ModelError, match="another shape"):
        Stem.from_config(CONFIG | {"image": other, "groups": [100, 124]}).initialize([])


def test_groups_fit_into_memory(stem):
    size = lambda w, h, frames=None: stem.header(
        VideoFormat(w, h, Fraction(25)), quality=0, effort=1, frames=frames, group=None
    )["group"]
    assert size(320, 180) == 150
    assert 8 < size(1920, 1080) < 150
    assert size(16000, 9000) == 8
