"""Alphabets whose frequencies a network gives."""

import io

import numpy as np
import pytest
import torch

from codec.coding.coder import RateMeter, Reader, TableModels, Writer
from codec.coding.masses import MASS_BITS, frequencies
from codec.errors import CorruptError, DesyncError


def masses(rows: int = 50, size: int = 300, spread: float = 4.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows)
    return torch.floor(torch.randn(rows, size, generator=generator, dtype=torch.float64) * spread * 256) / 256


@pytest.mark.parametrize("size", [1, 2, 3, 1024, 4096])
@pytest.mark.parametrize("spread", [0.0, 1.0, 60.0])
def test_frequencies_are_whole_and_sum_up(size, spread):
    found = frequencies(masses(20, size, spread))
    assert (found.sum(-1) == 2**MASS_BITS).all()
    assert found.min() >= 1
    assert torch.equal(found, found.round())


def test_frequencies_follow_the_masses():
    found = frequencies(torch.tensor([[0.0, 1.0, 3.0]], dtype=torch.float64)) / 2**MASS_BITS
    torch.testing.assert_close(found, torch.tensor([[1, 2, 8]], dtype=torch.float64) / 11, atol=1e-6, rtol=0)


def test_frequencies_never_change():
    """A stream depends on every one of them."""
    given = [[0.0, -1.5, 3.25, 2.00390625, -20.0], [7.0, 7.0, -7.0, 6.99609375, 0.0]]
    assert frequencies(torch.tensor(given, dtype=torch.float64)).tolist() == [
        [1127650, 398675, 10728067, 4522823, 1],
        [5582788, 5582785, 341, 5567686, 43616],
    ]


def test_symbols_come_back():
    log2_mass = masses()
    symbols = torch.multinomial(frequencies(log2_mass), 1).squeeze(-1).double()
    writer = Writer(TableModels(None))
    writer.masses(symbols, log2_mass)
    payload = writer.finish()
    reader = Reader(TableModels(None), payload)
    assert torch.equal(reader.masses(None, log2_mass), symbols)
    reader.finish(writer.check)
    meter = RateMeter(None, noise=False)
    meter.masses(symbols[None], log2_mass[None])
    assert 8 * len(payload) == pytest.approx(float(meter.bits), abs=40)


def test_the_estimate_has_a_gradient():
    log2_mass = masses().float().requires_grad_()
    meter = RateMeter(None, noise=False)
    meter.masses(torch.zeros(1, 50), log2_mass[None])
    meter.bits.sum().backward()
    assert (log2_mass.grad[:, 0] < 0).all()


def test_no_symbols_cost_nothing():
    writer = Writer(TableModels(None))
    writer.masses(torch.zeros(0), masses()[:0])
    assert writer.finish() == b""
    assert Reader(TableModels(None), b"").masses(None, masses()[:0]).shape == (0,)


@pytest.mark.parametrize("symbol", [-1, 300])
def test_a_symbol_outside_the_alphabet_is_refused(symbol):
    with pytest.raises(ValueError, match="outside the alphabet"):
        Writer(TableModels(None)).masses(torch.full((50,), float(symbol)), masses())


def test_any_payload_decodes_or_is_refused():
    rng = np.random.default_rng(0)
    for _ in range(50):
        reader = Reader(TableModels(None), io.BytesIO(rng.bytes(60)).read())
        try:
            symbols = reader.masses(None, masses())
        except CorruptError:
            continue
        assert symbols.min() >= 0
        assert symbols.max() < 300
        with pytest.raises(DesyncError):
            reader.finish(reader.check ^ 1)
