"""hnerv: coding of weights and embeddings, fits that improve, go on, and follow one another."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from codec import checkpoint
from codec.coding.distributions import ScaleMixture
from codec.engine import units
from codec.errors import CorruptError, RecipeError
from codec.media.video_pixels import to_rgb
from codec.models import hnerv
from codec.models.layers import frame_embeddings
from codec.models.layers.coded_weights import CodedWeights, WeightLayout, axes
from codec.models.layers.frame_decoder import OPTIONS, FrameDecoder, Shape, synthesis_macs
from codec.models.layers.frame_embeddings import FrameEmbeddings
from codec.models.layers.overfit import Fit, Plan

from support import video_of

SHAPE = Shape(4, 8, 1, frozenset({"separable"}))


@pytest.fixture(scope="module")
def system():
    return checkpoint.load(checkpoint.find_model("hnerv"), "cpu")


@pytest.fixture(scope="module")
def clip():
    return video_of(6, 48, 40)


@pytest.fixture(scope="module")
def frames(clip):
    return to_rgb(clip.frames.planes, clip.format)


def params_of(system, clip, shape=SHAPE, group=6):
    params = system.header(clip.format, quality=614, effort=1, frames=clip.length, group=group)
    return params | {"length": clip.length, "numbers": hnerv.numbers_of(shape)}


def analyze(system, frames, params, state=None, **options):
    return system.analyze_group(frames, params, state, effort=1, **options)


def psnr_of(system, symbols, params, frames, state=None):
    out = np.stack(list(system.synthesize_group(symbols, params, state))).astype(float)
    return 10 * np.log10(255**2 / np.mean((out - frames) ** 2))


def test_a_layout_gives_every_weight_the_numbers_of_its_row_and_column():
    network = torch.nn.Conv2d(3, 5, 2)
    layout = WeightLayout(network)
    assert layout.runs == [5, 3, 5, 3, 1, 1]
    bases = torch.tensor([100.0, 10.0, 1000.0, 0.0, 7.0, 8.0])
    deviations = torch.zeros(layout.entries)
    deviations[2], deviations[5 + 1] = 0.5, 0.25  # step of row 2, of column 1
    step, scale = layout.values(bases, deviations)
    weight = layout.split(step)["weight"]
    assert weight[2, 1, 0, 1] == 110.75
    assert weight[0, 0, 0, 0] == 110
    assert (layout.split(scale)["weight"] == 1000).all()
    assert (layout.split(step)["bias"] == 7).all()
    assert (layout.split(scale)["bias"] == 8).all()


def test_depthwise_kernels_and_biases_have_one_number_a_tensor():
    assert axes((8, 1, 3, 3)) == (1, 0)
    assert axes((8,)) == (1, 0)
    assert axes((8, 4, 3, 3)) == (8, 4)


@pytest.mark.parametrize("options", [(), *itertools.combinations(OPTIONS, 1), OPTIONS])
def test_every_option_is_a_network_that_starts_sane(options):
    shape = Shape(4, 8, 2, frozenset(options))
    out = FrameDecoder(shape)(torch.randn(2, 4, 2, 3), torch.zeros(2, 4, 2, 3), torch.tensor([0.0, 1.0]))
    assert out.shape == (2, 3, 32, 48)
    assert out.isfinite().all()
    assert hnerv.shape_of(hnerv.numbers_of(shape)) == shape


def test_the_time_matters_with_affine_and_the_frame_before_with_previous():
    torch.manual_seed(0)
    for option, position in (("affine", 2), ("previous", 1)):
        decoder = FrameDecoder(Shape(4, 8, 1, frozenset({option})))
        with torch.no_grad():
            for name, p in decoder.named_parameters():
                p.add_(0.1 * ("gate" in name or "of_time" in name))
        given = [torch.randn(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), torch.tensor([0.2])]
        other = list(given)
        other[position] = given[position] + 0.5
        assert not torch.allclose(decoder(*given), decoder(*other))


@pytest.mark.parametrize("option", ["separable", "pointwise"])
def test_multiply_adds_are_those_of_the_convolutions(option):
    shape = Shape(4, 8, 2, frozenset({option}))
    decoder, counted = FrameDecoder(shape), []
    count = lambda module, _, out: counted.append(out[0, 0].numel() * module.weight.numel())
    for module in decoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    decoder(torch.zeros(1, 4, 1, 1), torch.zeros(1, 4, 1, 1), torch.zeros(1))
    assert synthesis_macs(shape) == pytest.approx(sum(counted) / 16**2)


def test_pointwise_kernels_mix_channels_and_only_depthwise_ones_look_around():
    shapes = WeightLayout(FrameDecoder(Shape(4, 8, 2, frozenset({"pointwise"})))).shapes.values()
    kernels = [shape for shape in shapes if len(shape) == 4]
    assert all(shape[2:] == (1, 1) or shape[1] == 1 for shape in kernels)
    assert sum(shape[2:] == (3, 3) for shape in kernels) == 6


def test_a_fit_is_a_unit_that_reads_back_and_shows_the_frames(system, clip, frames):
    params = params_of(system, clip)
    told = []
    symbols = analyze(system, frames, params | {"frames": 6}, tell=told.append)
    (spec,) = system.units(params)
    unit = units.encode_unit(system, spec, {n: v[None].double() for n, v in symbols.items()})
    decoded = {name: v[0].int() for name, v in units.decode_unit(system, spec, unit).items()}
    assert all(torch.equal(decoded[name], symbols[name]) for name in symbols)
    assert {name: tuple(v.shape) for name, v in decoded.items()} == system.shapes(params)
    estimated = system._bits(symbols, spec.params)
    assert abs(estimated - 8 * len(unit.payload)) < 0.01 * estimated + 64
    flat = 10 * np.log10(255**2 / frames.astype(float).var())
    assert psnr_of(system, decoded, spec.params, frames) > flat + 2
    assert any("dB" in text for text in told)


def test_what_the_fit_measures_is_what_is_coded(system, clip, frames):
    x = torch.from_numpy(frames.astype(np.float32)).permute(0, 3, 1, 2) / 255 - 0.5
    torch.manual_seed(0)
    fit = Fit(FrameDecoder(SHAPE), x, frame_embeddings.principal(x, SHAPE.grid(40, 48), 4), Plan(3, 1e-3), system.shape)
    fit.run(lambda fraction: None, lambda text: None, None)
    _, psnr, error = fit.measure()
    params = params_of(system, clip) | {"frames": 6}
    assert psnr_of(system, fit.symbols(), params, frames) == pytest.approx(10 * np.log10(255**2 / error), abs=0.1)
    assert psnr > 10


class Memory:
    """A store that interrupts after some saves."""

    def __init__(self, saves=None):
        self.kept, self.left = None, saves

    def load(self):
        return self.kept

    def save(self, tensors):
        self.kept = {name: value.clone() for name, value in tensors.items()}
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


def test_an_interrupted_fit_goes_on_as_if_it_had_not_been(system, clip, frames, monkeypatch):
    monkeypatch.setattr("codec.models.layers.overfit._SAVE_EVERY", 0.0)
    params = params_of(system, clip) | {"frames": 6}
    whole = analyze(system, frames, params, store=Memory())
    store = Memory(saves=7)
    with pytest.raises(KeyboardInterrupt):
        analyze(system, frames, params, store=store)
    assert 0 < int(store.kept["step"]) < hnerv.EPOCHS[1] * 12
    store.left = None
    resumed = analyze(system, frames, params, store=store)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_differences_to_the_network_before_give_it_back():
    torch.manual_seed(0)
    layout = WeightLayout(FrameDecoder(SHAPE))
    sizes = layout.shapes_of_symbols()
    before = {name: torch.randint(-9, 9, sizes[name]) for name in ("bases", "deviations", "weights")}
    steps = {"bases": layout.is_step, "deviations": layout.is_step[layout.run_of]}
    after = {name: torch.randint(-9, 9, sizes[name]) for name in before}
    for name, which in steps.items():
        after[name] = torch.where(which, before[name], after[name])
    difference = layout.differences(after, before)
    assert all((difference[name][0][which] == 0).all() for name, which in steps.items())
    again = layout.resolve(difference, before)
    assert all(torch.equal(again[name], after[name]) for name in after)


def test_a_group_like_the_one_before_costs_less(system, clip, frames):
    params = params_of(system, clip) | {"frames": 6}
    first = analyze(system, frames, params)
    state = system.follow(first, params, None)
    second = analyze(system, frames, params | {"first": False}, state)
    assert int(second["key"]) == 0
    assert system._bits(second, params) < 0.7 * system._bits(first, params)
    better = psnr_of(system, second, params, frames, state)
    assert better > psnr_of(system, first, params, frames)
    with pytest.raises(CorruptError, match="group before"):
        list(system.synthesize_group(second, params, None))


def test_rates_and_steps_pass_gradients():
    weights = CodedWeights(FrameDecoder(SHAPE))
    step, scale = weights.log2()
    whole = weights.in_steps(step)
    (
        weights.bits(whole, scale, ScaleMixture()) + sum(t.sum() for t in weights.tensors(whole, step).values())
    ).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in weights.parameters())
    assert weights.deviations.grad.abs().sum() > 0


def test_principal_components_have_unit_variance_and_fill_up_with_zeros():
    x = torch.rand(3, 3, 32, 32) - 0.5
    start = frame_embeddings.principal(x, (2, 2), 60)
    assert start.shape == (3, 60, 2, 2)
    assert start.std((0, 2, 3), correction=0)[0] == pytest.approx(1, abs=1e-3)
    assert (start[:, 48:] == 0).all()
    flat = frame_embeddings.principal(torch.zeros(1, 3, 16, 16), (1, 1), 4)
    assert (flat == 0).all()


def test_an_embedding_that_stays_costs_little_after_the_first_frame():
    embeddings = FrameEmbeddings(torch.ones(2, 4, 3, 3))
    shape = ScaleMixture().requires_grad_(False)
    with torch.no_grad():
        embeddings.follow.fill_(1)
        embeddings.log2_later.fill_(-4)
    now = embeddings.in_steps(torch.tensor([0, 1]))
    before = embeddings.in_steps(torch.tensor([-1, 0]))
    assert (before[0] == 0).all()
    first = embeddings.bits(now[:1], before[:1], torch.tensor([0]), shape)
    later = embeddings.bits(now[1:], before[1:], torch.tensor([1]), shape)
    assert later < 0.05 * first


def test_quality_buys_a_wider_network_and_size_a_deeper_one():
    small, large = (hnerv.choose(180, 320 * 180 * 100, q) for q in (0.2, 0.9))
    assert small.width < large.width
    assert hnerv.choose(720, 1280 * 720 * 30, 0.5).stages > hnerv.choose(144, 176 * 144 * 30, 0.5).stages


@pytest.mark.parametrize("numbers", [(), (8, 4, 1), (0, 4, 1, 0), (8, 4, 1, 64), (8, 4, 9, 0), (1 << 40, 4, 1, 0)])
def test_a_header_cannot_ask_for_anything(numbers):
    with pytest.raises(CorruptError):
        hnerv.shape_of(numbers)


def test_training_is_refused_by_name(system):
    with pytest.raises(RecipeError, match="fitted"):
        system.loss(torch.zeros(1))
