"""Integer convolutions agree with integer arithmetic, and with the float networks they stand for."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from codec.coding import exact_conv
from codec.coding.exact import fix
from codec.coding.exact_conv import ExactConv2d, ExactConvTranspose2d, exact_twin
from codec.errors import ModelError

FORMAT = {"weight_bits": 14, "activation_bits": 14, "limit": 4096.0}


def layer(cls, *, kernel=5, stride=2, activation="none", **options):
    torch.manual_seed(1)
    made = cls(6, 5, kernel, stride=stride, activation=activation, **options)
    nn.init.normal_(made.bias)
    made.freeze()
    return made


def inputs(*, channels=6, bits=10) -> torch.Tensor:
    torch.manual_seed(2)
    return fix(torch.randn(2, channels, 9, 7).double() * 3, bits)


KINDS = [(ExactConv2d, 5, 2), (ExactConv2d, 3, 1), (ExactConv2d, 1, 1), (ExactConv2d, 1, 2),
         (ExactConvTranspose2d, 5, 2), (ExactConvTranspose2d, 3, 1)]  # fmt: skip


@pytest.mark.parametrize(("cls", "kernel", "stride"), KINDS)
def test_agrees_with_integer_arithmetic(cls, kernel, stride):
    made = layer(cls, kernel=kernel, stride=stride)
    whole = lambda t: (t * 1024).round().long()
    x, weight, bias = whole(inputs()), whole(made.weight.detach()), whole(made.bias.detach())
    # torch has integer convolutions on the CPU for neither direction; double holds these products exactly.
    convolve = F.conv2d if cls is ExactConv2d else F.conv_transpose2d
    extra = {} if cls is ExactConv2d else {"output_padding": stride - 1}
    total = convolve(x.double(), weight.double(), stride=stride, padding=kernel // 2, **extra).round().long()
    expected = ((total + bias[:, None, None] * 1024 + 512) >> 10).clamp(-65536, 65536)
    assert torch.equal(whole(made(inputs())), expected)


@pytest.mark.parametrize(("cls", "kernel", "stride"), KINDS)
@pytest.mark.parametrize("threads", [1, 2])
def test_pieces_and_threads_do_not_matter(cls, kernel, stride, threads, monkeypatch):
    made, expected = layer(cls, kernel=kernel, stride=stride), layer(cls, kernel=kernel, stride=stride)(inputs())
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    monkeypatch.setattr(exact_conv, "_COLUMNS", 1)
    try:
        assert torch.equal(made(inputs()), expected)
        assert torch.equal(made(inputs()[:1]), expected[:1])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("cls", [ExactConv2d, ExactConvTranspose2d])
@pytest.mark.parametrize("activation", ["relu", "leaky", "none"])
def test_activation_and_saturation(cls, activation):
    made = layer(cls, activation=activation, limit=2.0)
    y = made(inputs().clamp(-2, 2))
    assert y.max() == 2
    assert y.min() == {"relu": 0, "leaky": fix(torch.tensor(-0.02).double(), 10), "none": -2}[activation]
    assert torch.equal(y, fix(y, 10))


@pytest.mark.parametrize("cls", [ExactConv2d, ExactConvTranspose2d])
def test_overflow_is_refused(cls):
    made = cls(4, 4, 3)
    made.weight.data.fill_(1e9)
    with pytest.raises(ModelError, match="overflow"):
        made.freeze()
    made.weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="overflow"):
        made.freeze()


def test_the_bound_counts_the_right_axis():
    """One output channel with large weights, not one input channel, decides."""
    made = ExactConv2d(2, 1, 1, weight_bits=10, limit=64.0)
    made.weight.data[:] = torch.tensor([2.0**24, 2.0**24])[None, :, None, None]  # sum 2**25, times 2**26: 2**51
    made.freeze()
    made = ExactConvTranspose2d(2, 1, 1, weight_bits=10, limit=64.0)
    made.weight.data[:] = torch.tensor([2.0**25, 2.0**25])[:, None, None, None]
    with pytest.raises(ModelError):
        made.freeze()


@pytest.mark.parametrize("cls", [ExactConv2d, ExactConvTranspose2d])
def test_training_twin_is_close_and_has_gradients(cls):
    made = cls(6, 5, 3, activation="leaky")
    x = inputs().float().requires_grad_()
    y = made(x)
    y.sum().backward()
    assert x.grad.abs().sum() > 0
    assert made.weight.grad.abs().sum() > 0
    made.freeze()
    assert (made(inputs()) - y.detach()).abs().max() < 0.01


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.ConvTranspose2d(8, 12, 5, stride=2, padding=2, output_padding=1),
        nn.LeakyReLU(),
        nn.Sequential(nn.Conv2d(12, 16, 3, padding=1), nn.PixelShuffle(2)),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1),
    )


def test_twin_of_a_network():
    plain = network()
    twin = exact_twin(plain, **FORMAT)
    for part in twin:
        if hasattr(part, "freeze"):
            part.freeze()
    x = inputs(channels=8, bits=14)
    with torch.no_grad():
        assert (twin(x) - plain.double()(x)).abs().max() < 0.002
    assert [part.activation for part in twin if hasattr(part, "activation")] == ["leaky", "relu", "none"]


@pytest.mark.parametrize(
    "part",
    [nn.Sigmoid(), nn.LeakyReLU(0.2), nn.Conv2d(8, 8, 4, padding=2), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, groups=2)],
)
def test_twin_refuses_what_it_does_not_know(part):
    with pytest.raises(ModelError, match="no exact counterpart"):
        exact_twin(nn.Sequential(nn.Conv2d(8, 8, 1), part), **FORMAT)


def test_activation_names_are_checked():
    with pytest.raises(ValueError, match="swish"):
        ExactConv2d(1, 1, 1, activation="swish")
