"""Integer networks give the same bits however they are run."""

import hashlib
import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codec.coding import exact
from codec.coding.exact import ExactLinear, exp2, fix
from codec.errors import ModelError

from support import ROOT

SCRIPT = """
from test_exact import network, inputs, digest
print(digest(network()(inputs())))
"""


def network() -> torch.nn.Sequential:
    torch.manual_seed(3)
    layers = torch.nn.Sequential(
        ExactLinear(144, 96, relu=True), ExactLinear(96, 96, relu=True), ExactLinear(96, 24, relu=False)
    )
    for layer in layers:
        layer.freeze()
    return layers


def inputs() -> torch.Tensor:
    torch.manual_seed(4)
    return fix(torch.randn(4, 200, 144).double() * 9, exact.ACTIVATION_BITS)


def digest(x: torch.Tensor) -> str:
    return hashlib.sha256(x.detach().contiguous().numpy().tobytes()).hexdigest()


@pytest.fixture
def expected() -> str:
    return digest(network()(inputs()))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads(threads, expected):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert digest(network()(inputs())) == expected
    finally:
        torch.set_num_threads(before)


def test_batch_sizes(expected):
    layers, x = network(), inputs()
    assert digest(torch.cat([layers(x[i : i + 1]) for i in range(4)])) == expected
    assert digest(torch.cat([layers(x[:, i : i + 7]) for i in range(0, 200, 7)], 1)) == expected


def test_memory_layout(expected):
    x = inputs().reshape(4, 10, 20, 144).permute(0, 3, 1, 2)
    for layout in (torch.contiguous_format, torch.channels_last):
        y = network()(x.contiguous(memory_format=layout).permute(0, 2, 3, 1).flatten(1, 2))
        assert digest(y) == expected


def test_order_of_summation(expected):
    layers, x = network(), inputs()
    order = torch.randperm(144)
    layers[0].weight.data = layers[0].weight.data[:, order]
    assert digest(layers(x[..., order])) == expected


def test_another_process(expected):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.strip() == expected


def test_agrees_with_integer_arithmetic():
    layer = ExactLinear(30, 5, relu=False)
    layer.freeze()
    x = fix(torch.randn(50, 30).double(), exact.ACTIVATION_BITS)
    weight, bias, whole = ((t * 1024).round().long() for t in (layer.weight.detach(), layer.bias.detach(), x))
    total = whole @ weight.T + bias * 1024
    assert torch.equal(layer(x) * 1024, ((total + 512) >> 10).clamp(-65536, 65536).double())


def test_fast_and_plain_path_agree():
    layer = ExactLinear(30, 5, relu=True)
    layer.freeze()
    x = fix(torch.randn(2, 50, 30).double() * 9, exact.ACTIVATION_BITS)
    fast = layer.requires_grad_(False)(x)
    layer.frozen = False
    assert torch.equal(layer(x), fast)


def test_overflow_is_refused():
    layer = ExactLinear(4, 4, relu=True)
    layer.weight.data.fill_(1e12)
    with pytest.raises(ModelError, match="overflow"):
        layer.freeze()


def test_training_twin_is_close_and_has_gradients():
    layer = ExactLinear(20, 10, relu=True)
    x = torch.randn(5, 20, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert x.grad.abs().sum() > 0
    assert layer.weight.grad.abs().sum() > 0
    plain = (x @ layer.weight.T + layer.bias).relu()
    assert (y - plain).abs().max() < 0.05


@given(st.integers(-20 * 256, 20 * 256))
def test_exp2(index):
    x = index / 256
    value = float(exp2(torch.tensor(x, dtype=torch.float64)))
    assert value == pytest.approx(2.0**x, rel=2**-20)
    assert (value * 2.0**40).is_integer()


def test_exp2_table_is_correctly_rounded():
    for i, value in enumerate(exact._exp2_table(8, 20)):
        assert abs(value - 2 ** (i / 256) * 2**20) <= 0.5 + 1e-6
    assert math.isqrt(2 << 40) == exact._exp2_table(1, 20)[1]


def test_fix_rounds_ties_up():
    assert fix(torch.tensor([0.5, -0.5, 1.25, -1.75]).double(), 0).tolist() == [1, 0, 1, -2]
