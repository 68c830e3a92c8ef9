import subprocess
import sys

import numpy as np
import pytest
import torch

import codec
from codec import checkpoint
from codec.errors import CorruptError
from codec.models.vqgan import VQGAN

from support import DATA, picture_of

CONFIG = {
    "latents": 6, "width": 16, "deep": 24, "analysis": [1, 1], "synthesis": [1, 1], "smallest": 4, "unit": 4,
    "hidden": 16, "blocks": 1, "quantizer": {"kind": "single", "entries": 64},
}  # fmt: skip
QUANTIZERS = {
    "single": CONFIG["quantizer"],
    "projected": {"kind": "projected", "entries": 64},
    "fsq": {"kind": "fsq", "levels": [4, 3, 2, 2, 2, 2]},
}


def batches(count: int = 6) -> list[torch.Tensor]:
    """Pictures [4, 3, 96, 96] of waves and noise."""
    rng = np.random.default_rng(0)
    whole = picture_of((500, 700, 3)).transpose(2, 0, 1) / 255 - 0.5
    crops = [whole[:, r : r + 96, c : c + 96] for r, c in rng.integers(0, 400, (4 * count, 2))]
    tint = rng.uniform(0.4, 1, (4 * count, 3, 1, 1))
    return list(torch.from_numpy(np.stack(crops) * tint).float().split(4))


def made(kind: str = "single", **options) -> VQGAN:
    torch.manual_seed(0)
    system = VQGAN.from_config(CONFIG | {"quantizer": QUANTIZERS[kind]} | options)
    system.initialize(batches())
    return system


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Name of an installed vqgan: linear transforms, k-means, a prior that knows nothing."""
    folder = tmp_path_factory.mktemp("models")
    checkpoint.save(made(), folder / "tiny", config=CONFIG, facts={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(checkpoint.PATH_VARIABLE, str(folder))
        yield "tiny"


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_step_0_is_a_codec(kind):
    system = made(kind).eval()
    with torch.no_grad():
        losses = [system.loss(batches(1)[0], t=torch.full((4,), t)) for t in (0.0, 0.5, 1.0)]
    errors = [float(loss["mse"]) for loss in losses]
    assert errors[0] > errors[1] > errors[2]
    batch = batches(1)[0]
    flat = float(((batch - batch.mean((2, 3), keepdim=True)) * 255).square().mean())
    assert errors[2] < (0.5 if kind != "fsq" else 0.85) * flat  # a lattice is no k-means
    bits = np.log2(system.clusters.sizes[-1])
    assert float(losses[0]["bpp"]) < float(losses[2]["bpp"]) <= 1.05 * bits / 256  # the prior knows nothing yet


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_everything_learns(kind):
    system = made(kind)
    for last in (system.g_a.tail, system.g_s.tail):  # zero at first, which keeps gradients from what is before
        torch.nn.init.normal_(last.weight, std=0.02)
    system.loss(batches(1)[0])["loss"].backward()
    assert [name for name, p in system.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_batch_is_learned_by_heart():
    system, batch = made(), batches(1)[0]
    optimizer = torch.optim.Adam(system.parameters(), 1e-2)
    before = validated(system)
    for _ in range(30):
        losses = system.loss(batch, t=torch.ones(4))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert validated(system) < 0.95 * before


@torch.no_grad()
def validated(system: VQGAN) -> float:
    return float(system.loss(batches(1)[0], t=torch.ones(4))["loss"])


def test_the_adversary_is_given_pictures():
    batch = batches(1)[0]
    losses, x, x_hat = made().loss_and_signals(batch)
    assert x is batch
    assert x_hat.shape == batch.shape
    assert x_hat.requires_grad
    assert losses["loss"].requires_grad


def test_it_starts_from_another_model():
    """Its networks are taken over, and a few components of its latents make a picture."""
    info = codec.find_model("waveprior")
    shape = {name: info.config[name] for name in ("width", "deep", "analysis", "synthesis")}
    whole = codec.read(DATA / "parrots.png").samples[:96, :160]
    batch = torch.from_numpy(whole.transpose(2, 0, 1)[None] / 255 - 0.5).float()
    system = VQGAN.from_config(CONFIG | shape | {"latents": 24, "start": "waveprior"}).eval()
    system.initialize([batch])
    weight = system.g_s.fine[0].a.weight
    torch.testing.assert_close(weight, checkpoint.load(info, "cpu").g_s.fine[0].a.weight.float())
    top = torch.ones(1)
    with torch.no_grad():
        error = float((system.signal_of(system.latents_of(batch, top), top) - batch).square().mean())
    assert error < 0.1 * float(batch.var())


def test_more_than_one_book_is_refused():
    with pytest.raises(ValueError, match="one codebook"):
        VQGAN.from_config(CONFIG | {"quantizer": {"kind": "residual", "books": 2, "entries": 16}})


@pytest.mark.parametrize("size", [(1, 1), (17, 40), (64, 64), (130, 79)])
@pytest.mark.parametrize("quality", [0, 60, 100])
def test_any_size_comes_back(model, size, quality):
    data = codec.encode(picture_of((*size, 3)), model=model, quality=quality)
    stream = codec.open(data)
    tokens = stream.tokens()
    assert tokens.shape == (-(-size[0] // 16), -(-size[1] // 16))
    assert tokens.max() < {0: 4, 60: 16, 100: 64}[quality]
    assert stream.decode().samples.shape == (*size, 3)
    assert stream.latents().shape == (6, *tokens.shape)


def test_another_process_reads_the_same(model, tmp_path):
    (tmp_path / "a.lcb").write_bytes(codec.encode(picture_of((100, 140, 3)), model=model, quality=80))
    script = "import codec, sys; print(codec.open(sys.argv[1]).symbols_digest())"
    run = [sys.executable, "-c", script, str(tmp_path / "a.lcb")]
    result = subprocess.run(run, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == codec.open(tmp_path / "a.lcb").symbols_digest()


def test_tokens_are_a_picture(model):
    picture = picture_of((80, 100, 3))
    stream = codec.open(codec.encode(picture, model=model, quality=100))
    system = checkpoint.load(codec.find_model(model))
    symbols, params = system.of_tokens(torch.from_numpy(stream.tokens()), width=100, height=80)
    again = system.synthesize(symbols, params, progress=lambda f: None)
    assert np.abs(again.samples.astype(int) - stream.decode().samples).max() <= 1
    for tokens, width in ((torch.zeros(2, 3, 4), None), (torch.full((2, 3), 64), None), (torch.zeros(2, 3), 80)):
        with pytest.raises(ValueError, match=r"tokens|token"):
            system.of_tokens(tokens.long(), width=width)


def test_lost_units_are_predicted(model):
    picture = picture_of((128, 192, 3))
    system = checkpoint.load(codec.find_model(model))
    stream = codec.open(codec.encode(picture, model=model, quality=100))
    _, _, params = stream.coded()
    symbols, specs = stream.symbols(), system.units(params)
    assert len(specs) == 6
    damaged = {"tokens": symbols["tokens"].clone()}
    damaged["tokens"][specs[1].regions["tokens"]] = 0
    fixed = system.repair(damaged, params, [specs[1]])["tokens"]
    others = torch.ones_like(fixed, dtype=torch.bool)
    others[specs[1].regions["tokens"]] = False
    assert torch.equal(fixed[others], symbols["tokens"][others])
    assert fixed.dtype == torch.int32
    assert fixed.max() < 64


def test_a_damaged_payload_is_noticed(model):
    data = bytearray(codec.encode(picture_of((128, 192, 3)), model=model, quality=100))
    data[-20] ^= 0xFF
    with pytest.raises(CorruptError):
        codec.open(bytes(data))
