"""One-D-Piece: rows of tokens of which any first few are a picture, on a network small enough to start in no time."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch

import codec
from codec import checkpoint
from codec.coding.coder import RateMeter
from codec.engine import units
from codec.media.image import Image
from codec.models import onedpiece
from codec.models.layers import cosine, layered_books, patches, tiled, token_prior
from codec.models.layers.layered_books import LayeredBooks
from codec.models.layers.transformer import Layer
from codec.models.onedpiece import OneDPiece
from codec.system import no_progress
from codec.training.ssimulacra import score, ssimulacra
from codec.training.visual import visual_loss

from support import picture_of

CONFIG = {
    "region": 64, "edges": [0, 2, 4, 8, 16], "depths": [3, 4, 4, 6], "entries": 64, "latents": 8, "width": 16,
    "encoder": 1, "decoder": 1, "blocks": [8, 1], "hidden": 8,
}  # fmt: skip


def crops(count: int, size: int = 128, seed: int = 0) -> torch.Tensor:
    """Crops [count, 3, size, size] of smooth pictures of different light, contrast and colour."""
    rng = np.random.default_rng(seed)
    samples = picture_of((400, 400, 3)).astype(np.float32) / 255 - 0.5
    out = []
    for _ in range(count):
        row, col = rng.integers(400 - size, size=2)
        part = samples[row : row + size, col : col + size] * rng.uniform(0.2, 1, 3) + rng.uniform(-0.3, 0.3, 3)
        out.append(part.transpose(2, 0, 1))
    return torch.from_numpy(np.stack(out)).float()


@pytest.fixture(scope="module")
def network() -> OneDPiece:
    torch.manual_seed(0)
    made = OneDPiece.from_config(CONFIG)
    made.initialize([crops(6), crops(6, seed=1)])
    return made


@pytest.fixture(scope="module")
def model(network, tmp_path_factory) -> checkpoint.ModelInfo:
    """The network after a little noise in what training would change: no part is zero."""
    torch.manual_seed(1)
    made = OneDPiece.from_config(CONFIG)
    made.load_state_dict(network.state_dict())
    for part in (made.g_a.tail, made.g_s.tail, made.g_s.last, *(prior.net[-1] for prior in made.priors)):
        torch.nn.init.normal_(part.weight, std=0.01)
    return checkpoint.save(made, tmp_path_factory.mktemp("zoo") / "tiny", config=CONFIG, facts={})


@pytest.fixture(scope="module")
def system(model) -> OneDPiece:
    return checkpoint.load(model, "cpu")


def analyzed(system: OneDPiece, samples: np.ndarray, quality: float = 100):
    return system.analyze(Image(samples), quality=quality, effort=1, progress=no_progress)


def coded(system: OneDPiece, symbols, spec) -> bytes:
    return units.encode_unit(system, spec, units.select(symbols, spec)).payload


# --- the whole system -----------------------------------------------------------------------------------------


def test_every_doubling_helps_before_any_training(network):
    batch = crops(6, seed=5)
    with torch.no_grad():
        errors = [float(network.loss(batch, torch.full((6,), n / 16))["mse"]) for n in (1, 2, 4, 8, 16)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


def test_the_closed_form_loses_nothing_that_it_keeps():
    """With as many latents as features, analysis and synthesis around the quantizer are the identity."""
    made = OneDPiece.from_config(CONFIG | {"latents": 768, "region": 32, "entries": 16})
    batch = torch.rand(4, 3, 32, 32) - 0.5
    made.initialize([torch.rand(30, 3, 96, 96) - 0.5])
    with torch.no_grad():
        features = made.features_of(codec.models.layers.wavelet.analysis(batch))
        latents = patches.joined(made.patches_of(made.coefficients_of(features)), (1, 1), made.side)
        again = made.signal_of(latents, torch.ones(4))
    assert (again - batch).abs().max() < 0.02


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (64, 64), (65, 127), (150, 200)])
def test_any_size(system, size):
    symbols, params = analyzed(system, picture_of((*size, 3)), 50)
    regions = -(-size[0] // 64) * -(-size[1] // 64)
    assert symbols["tokens"].shape == system.shapes(params)["tokens"] == (regions, 8)
    assert system.synthesize(symbols, params, progress=no_progress).samples.shape == (*size, 3)


def test_tokens_that_cost_less_are_chosen(system, monkeypatch):
    system, samples = copy.deepcopy(system), picture_of((128, 128, 3))
    for prior in system.priors:  # which know little yet
        prior.bias.data = torch.randint(-3, 4, prior.bias.shape).to(prior.bias)
    bits, error = [], []
    for price in (0.0, 1.0):
        monkeypatch.setattr(onedpiece, "_PRICE", price)
        symbols, params = analyzed(system, samples)
        bits.append(units.estimate_bits(symbols, params, system))
        out = system.synthesize(symbols, params, progress=no_progress).samples.astype(float)
        error.append(np.square(out - samples).mean())
    assert bits[1] < 0.95 * bits[0]
    assert error[0] < error[1] < 4 * error[0]


def test_effort_shows_a_picture_better(system, monkeypatch):
    monkeypatch.setattr(onedpiece, "_PRICE", 0.0)  # or it would trade what it finds
    monkeypatch.setattr(onedpiece, "_REFINING_RATE", 0.1)  # what little this network does asks for larger steps
    samples = picture_of((128, 64, 3))
    distance, scores, fractions = [], [], []
    for effort in (1, 5):
        symbols, params = system.analyze(Image(samples), quality=60, effort=effort, progress=fractions.append)
        out = system.synthesize(symbols, params, progress=no_progress).samples
        a, b = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None] / 255 - 0.5 for x in (out, samples))
        distance.append(float(visual_loss(a, b)["loss"]))
        scores.append(float(score(ssimulacra(a, b))))
    assert scores[1] > scores[0] + 2
    assert distance[1] < distance[0]
    assert fractions[-1] == 1


def test_lower_qualities_are_prefixes(system):
    samples = picture_of((100, 140, 3))
    whole, params = analyzed(system, samples)
    for quality in (0, 10, 33.3, 75):
        symbols, lower = analyzed(system, samples, quality)
        cut, cut_params = system.truncated(whole, params, lower["quality"])
        assert torch.equal(cut["tokens"], symbols["tokens"])
        assert cut_params == lower
    with pytest.raises(ValueError, match="more than"):
        system.truncated(symbols, lower, params["quality"])


def test_first_units_are_a_file_of_lower_quality(system):
    symbols, params = analyzed(system, picture_of((100, 140, 3)), 80)
    specs = system.units(params)
    assert [spec.regions["tokens"][1] for spec in specs] == [slice(0, 2), slice(2, 4), slice(4, 8), slice(8, 13)]
    payloads = [coded(system, symbols, spec) for spec in specs]
    for layers in range(1, 5):
        lower = system.layer_quality(params, layers)
        cut, cut_params = system.truncated(symbols, params, lower)
        assert [coded(system, cut, spec) for spec in system.units(cut_params)] == payloads[:layers]
    for layers in (0, 5):
        with pytest.raises(ValueError, match="1 to 4"):
            system.layer_quality(params, layers)


def test_units_decode_alone_and_cost_what_is_estimated(system):
    symbols, params = analyzed(system, np.tile(picture_of((500, 500, 3)), (2, 2, 1)))
    total = estimate = 0
    for spec in system.units(params):
        unit = units.encode_unit(system, spec, units.select(symbols, spec))
        decoded = units.decode_unit(system, spec, unit)["tokens"][0]
        assert torch.equal(decoded.int(), symbols["tokens"][spec.regions["tokens"]])
        meter = RateMeter(None, noise=False)
        with torch.no_grad():
            system.code(meter, spec.params, units.select(symbols, spec))
        total, estimate = total + 8 * len(unit.payload), estimate + float(meter.bits.sum())
    assert total == pytest.approx(estimate, rel=0.01, abs=len(system.units(params)) * 32)


def test_how_many_alphabets_are_held_changes_no_bit(system, monkeypatch):
    symbols, params = analyzed(system, picture_of((200, 200, 3)))
    payloads = [coded(system, symbols, spec) for spec in system.units(params)]
    monkeypatch.setattr(token_prior, "_AT_ONCE", 5)
    assert [coded(system, symbols, spec) for spec in system.units(params)] == payloads


def test_tiles_do_not_show(system, monkeypatch):
    symbols, params = analyzed(system, picture_of((250, 330, 3)))
    whole = system.synthesize(symbols, params, progress=no_progress).samples.astype(int)
    monkeypatch.setattr(tiled, "TILE_PIXELS", 64)
    apart = system.synthesize(symbols, params, progress=no_progress).samples
    assert np.abs(whole - apart).max() <= 1


def test_files_go_through_the_library(model, monkeypatch):
    monkeypatch.setenv("CODEC_MODELS", str(model.folder.parent))
    samples = picture_of((90, 130, 3))
    data = codec.encode(samples, model="tiny", quality=100)
    coarse = codec.encode(samples, model="tiny", quality=10)
    assert len(coarse) < len(data)
    fine, rough = (codec.psnr_of(codec.decode(part), Image(samples)) for part in (data, coarse))
    assert fine > rough
    stream = codec.open(data)
    latents = stream.latents()
    assert latents.shape == (8, 8, 12)
    assert latents.dtype == torch.float32
    assert np.abs(stream.render(latents).samples.astype(int) - stream.decode().samples).max() <= 1
    with pytest.raises(ValueError, match="shape"):
        stream.render(latents[1:])


# --- tokens ---------------------------------------------------------------------------------------------------


def test_tokens_become_symbols_again(system):
    symbols, params = analyzed(system, picture_of((100, 140, 3)), 40)
    tokens = system.tokens(symbols)
    again, made = system.of_tokens(tokens, width=140, height=100)
    assert torch.equal(again["tokens"], symbols["tokens"])
    assert system.shapes(made) == system.shapes(params)
    row, made = system.of_tokens(tokens)
    assert (made["width"], made["height"]) == (6 * 64, 64)
    assert system.shapes(made)["tokens"] == row["tokens"].shape


@pytest.mark.parametrize(
    ("tokens", "size"),
    [
        (torch.zeros(2, 17), {}),
        (torch.zeros(3), {}),
        (torch.zeros(0, 4), {}),
        (torch.full((1, 4), 64), {}),
        (torch.full((1, 4), -1), {}),
        (torch.zeros(2, 4), {"width": 200}),
    ],
)
def test_what_is_no_token_is_refused(system, tokens, size):
    with pytest.raises(ValueError, match="token"):
        system.of_tokens(tokens.int(), **size)


# --- training -------------------------------------------------------------------------------------------------


def test_training_reaches_every_part_and_lowers_the_loss(network):
    torch.manual_seed(2)
    made = OneDPiece.from_config(CONFIG)
    made.load_state_dict(network.state_dict())
    places = [layer.places.clone() for layer in made.quantizer.layers]
    entries = [layer.entries.clone() for layer in made.quantizer.layers]
    batch, t = crops(4, size=64, seed=9), torch.ones(4)
    losses = []
    for _ in range(12):
        made.zero_grad()
        outcome = made.loss(batch, t)
        outcome["loss"].backward()
        with torch.no_grad():
            for p in made.parameters():
                p.sub_(2e-3 * p.grad.sign())
        losses.append(float(outcome["loss"].detach()))
    silent = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    assert losses[-1] < 0.97 * losses[0]
    for layer, place, entry in zip(made.quantizer.layers, places, entries, strict=True):
        assert torch.equal(layer.places, place)
        assert not torch.equal(layer.entries, entry)


def test_losses_name_what_the_trainer_shows(network):
    losses, x, x_hat = network.loss_and_signals(crops(2))
    assert {"loss", "bpp", "mse"} <= losses.keys()
    assert x.shape == x_hat.shape == (2, 3, 128, 128)


def test_crops_must_be_whole_regions(network):
    with pytest.raises(ValueError, match="regions of 64"):
        network.loss(torch.zeros(1, 3, 96, 128))


def test_shapes_that_cannot_be_are_refused():
    for wrong in ({"region": 60}, {"edges": [0, 2]}, {"depths": [3, 4, 4, 600]}, {"edges": [0, 2, 4, 8, 600]}):
        with pytest.raises(ValueError, match=r"region|edges|tokens"):
            OneDPiece.from_config(CONFIG | wrong)


# --- blocks ---------------------------------------------------------------------------------------------------


def test_the_cosine_transform_is_orthonormal():
    grid = torch.randn(3, 2, 8, 8)
    coefficients = cosine.forward(grid)
    assert torch.allclose(coefficients.square().sum(), grid.square().sum(), rtol=1e-4)
    assert torch.allclose(cosine.inverse(coefficients), grid, atol=1e-5)
    assert coefficients[0, 0, 0, 0] == pytest.approx(float(grid[0, 0].sum() / 8), abs=1e-4)


def test_regions_come_apart_in_row_order():
    x = torch.arange(2 * 5 * 6 * 9).reshape(2, 5, 6, 9)
    parts = patches.apart(x, 3)
    assert parts.shape == (2 * 6, 9, 5)
    assert torch.equal(parts[1, :, 0].reshape(3, 3), x[0, 0, :3, 3:6])
    assert torch.equal(patches.joined(parts, (2, 3), 3), x)


def test_attention_looks_where_it_is_told():
    torch.manual_seed(0)
    inward, outward = Layer(64), Layer(64, looks_out=True)
    x, others = torch.randn(1, 5, 64), torch.randn(1, 7, 64)
    for layer, changed in ((inward, {"x": x.clone()}), (outward, {"x": x, "others": others.clone()})):
        before = layer(x, others) if layer is outward else layer(x)
        next(reversed(changed.values()))[:, -1] *= torch.linspace(-1, 1, 64)
        assert not torch.allclose(layer(**changed)[:, 0], before[:, 0])
    assert torch.allclose(outward(x, others)[:, :2], outward(x[:, :2], others), atol=1e-5)


@pytest.fixture(scope="module")
def books() -> tuple[LayeredBooks, torch.Tensor]:
    torch.manual_seed(3)
    made = LayeredBooks(40, (0, 2, 6), (3, 5), 32)
    y = torch.randn(3000, 40) * torch.linspace(3, 0.1, 40)
    made.initialize(y)
    return made, y


def test_layers_take_what_is_left(books):
    made, y = books
    assert sorted(made.layers[0].places.flatten().tolist()) == list(range(6))
    errors = [y.square().sum(1).mean()]
    tokens = made.encode(y, made.edges[-1])
    errors += [(y - made.decode(tokens[:, :n])).square().sum(1).mean() for n in (1, 2, 3, 4, 5, 6)]
    assert all(a > 1.01 * b for a, b in pairwise(errors))


def test_tail_drop_decodes_as_a_file_does(books):
    made, y = copy.deepcopy(books)
    y, keep = y[:5].clone().requires_grad_(), torch.tensor([1, 2, 3, 5, 6])
    codes = made.encode(y.detach(), made.edges[-1])
    expected = torch.cat([made.decode(codes[i : i + 1, :n]) for i, n in enumerate(keep)])
    quantized = made(y, keep)
    assert torch.equal(quantized.codes, codes)
    assert torch.allclose(quantized.vectors, expected, atol=1e-6)
    quantized.vectors.sum().backward()
    first = set(made.layers[0].places[0].int().tolist())
    assert set(y.grad[0].nonzero().flatten().tolist()) == first


def test_books_follow_their_vectors_and_give_up_dead_entries():
    torch.manual_seed(4)
    made = LayeredBooks(6, (0, 3), (2,), 16)
    made.initialize(torch.randn(500, 6))
    layer, moved = made.layers[0], torch.randn(400, 6) + 2
    before = (moved - made.decode(made.encode(moved, made.edges[-1]))).square().mean()
    for _ in range(layered_books._MEMORY):
        made(moved, torch.full((400,), 3))
    after = (moved - made.decode(made.encode(moved, made.edges[-1]))).square().mean()
    assert after < 0.5 * before
    assert layer.usage.sum() == pytest.approx(1, abs=0.2)
    assert layer.usage.min() > 0


def test_straight_gradients_are_those_of_what_tokens_say():
    y = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    made = LayeredBooks(40, (0, 2, 4, 8), (3, 4, 2), 16)
    made.initialize(torch.randn(2000, 40))
    for count in (1, 3, 8):
        z = y.clone().requires_grad_()
        said = made.straight(z, count)
        assert torch.equal(said, made.decode(made.encode(y, 8)[:, :count]))
        said.sum().backward()
        assert torch.equal(z.grad, (made.decode(made.encode(y, 8)[:, :count]) != 0).float())
