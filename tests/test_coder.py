import constriction
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.coding.coder import SYMBOL_LIMIT, RateMeter, Reader, TableModels, Writer
from codec.coding.distributions import (
    PRECISION,
    ScaleMixture,
    Tables,
    build_tables,
    scale_grid,
    table_count,
    table_index,
)
from codec.errors import CodecError, DesyncError, ModelError


@pytest.fixture(scope="module")
def models() -> TableModels:
    return TableModels(build_tables(ScaleMixture()))


def draw(seed: int, count: int, spread: float = 1.0):
    rng = np.random.default_rng(seed)
    location = torch.from_numpy(np.round(rng.normal(0, 20, count) * 1024) / 1024)
    log2_scale = torch.from_numpy(np.round(rng.uniform(-6, 10, count) * 1024) / 1024)
    noise = rng.standard_t(3, count) * 2 ** log2_scale.numpy() * spread
    symbols = torch.from_numpy(np.clip(np.round(location.numpy() + noise), -(10**6), 10**6))
    return symbols, location, log2_scale


@given(st.integers(0, 10**6), st.lists(st.integers(0, 60), max_size=4), st.sampled_from([0.0, 1.0, 30.0]))
@settings(max_examples=60, deadline=None)
def test_round_trip_in_several_calls(seed, counts, spread):
    models = TableModels(build_tables(ScaleMixture()))
    groups = [draw(seed + i, count, spread) for i, count in enumerate(counts)]
    writer = Writer(models)
    for group in groups:
        assert writer(*group) is group[0]
    payload = writer.finish()
    reader = Reader(models, payload)
    for symbols, location, log2_scale in groups:
        assert torch.equal(reader(None, location, log2_scale), symbols)
    reader.finish(writer.check)


@given(st.integers(0, 10**6), st.integers(0, 80), st.sampled_from([0.0, 1.0, 30.0]))
@settings(max_examples=40, deadline=None)
def test_compact_payloads_are_read_and_shorter(seed, count, spread):
    models = TableModels(build_tables(ScaleMixture()))
    symbols, location, log2_scale = draw(seed, count, spread)
    writer = Writer(models)
    writer(symbols, location, log2_scale)
    payload = writer.finish(compact=True)
    assert len(payload) <= len(writer.finish())
    assert payload[-1:] != b"\0"
    reader = Reader(models, payload, compact=True)
    assert torch.equal(reader(None, location, log2_scale), symbols)
    reader.finish(writer.check)


def test_compact_payloads_cost_less_than_a_byte_more_than_their_bits(models):
    excess = []
    for seed in range(100):
        symbols, location, log2_scale = draw(seed, 40, 0.2)
        writer, meter = Writer(models), RateMeter(ScaleMixture().double(), noise=False)
        writer(symbols, location, log2_scale)
        with torch.no_grad():
            meter(symbols[None], location[None], log2_scale[None])
        excess.append(len(writer.finish(compact=True)) - float(meter.bits) / 8)
    assert np.mean(excess) < 0.8
    assert max(excess) < 2


def test_size_is_the_estimate(models):
    symbols, location, log2_scale = draw(1, 200_000)
    log2_scale = log2_scale.clamp(-3, 7)
    symbols = (location + torch.randn(len(symbols)).double() * 2**log2_scale).round()
    writer = Writer(models)
    writer(symbols, location, log2_scale)
    meter = RateMeter(ScaleMixture().double(), noise=False)
    meter(symbols[None], location[None], log2_scale[None])
    assert 8 * len(writer.finish()) == pytest.approx(float(meter.bits.detach()), rel=0.01)


@pytest.mark.parametrize("location", [0.5, 0.53, 0.56, 0.6, 0.93, 1.2])
@pytest.mark.parametrize("log2_scale", [-4.0, -3.0, -2.0, 0.0])
def test_certainty_between_two_tables_costs_what_is_written(models, location, log2_scale):
    """A location a little over one half of a narrow table is coded as one half: a bit a symbol, not nothing."""
    symbols = torch.ones(1, 4000, dtype=torch.float64)
    parameters = (torch.full_like(symbols, location), torch.full_like(symbols, log2_scale))
    writer, meter = Writer(models), RateMeter(ScaleMixture().double(), noise=False)
    writer(symbols, *parameters)
    meter(symbols, *parameters)
    assert 8 * len(writer.finish()) == pytest.approx(float(meter.bits.detach()), rel=0.01, abs=64)


def test_models_have_exactly_the_integer_tables(models):
    """constriction places its left edges at 2**8 times our cumulative frequencies, to the unit."""
    for index in (0, 5, 100, 255, 256, 272):
        left = np.concatenate([[0], np.cumsum(models.tables.table(index).astype(np.int64) << 8)])
        assert left[-1] == 1 << 24
        assert _intervals(models[index], len(left) - 1) == left.tolist()


def _intervals(model, size: int) -> list[int]:
    """Recover the left edges of a model by decoding every boundary value of the first 24 bits."""
    decode = lambda quantile: int(
        constriction.stream.queue.RangeDecoder(np.array([quantile << 8 & 0xFFFFFFFF, 0], np.uint32)).decode(model)
    )
    edges = [0]
    for symbol in range(size):
        low, high = edges[-1], 1 << 24
        while high - low > 1:  # last quantile that still decodes to this symbol
            middle = (low + high) // 2
            if decode(middle) <= symbol:
                low = middle
            else:
                high = middle
        edges.append(low + 1)
    return edges


def test_escapes_reach_far(models):
    symbols = torch.tensor([0.0, 2**22 - 1, -(2**22) + 1, 5, -5, 700]).double()
    location, log2_scale = torch.zeros(6).double(), torch.full((6,), -4.0).double()
    writer = Writer(models)
    writer(symbols, location, log2_scale)
    reader = Reader(models, writer.finish())
    assert torch.equal(reader(None, location, log2_scale), symbols)
    with pytest.raises(ValueError, match="exceeds"):
        Writer(models)(torch.tensor([float(SYMBOL_LIMIT)]).double(), location[:1], log2_scale[:1])


def test_a_wrong_check_is_a_desync(models):
    group = draw(3, 50)
    writer = Writer(models)
    writer(*group)
    reader = Reader(models, writer.finish())
    reader(None, *group[1:])
    with pytest.raises(DesyncError, match="doctor"):
        reader.finish(writer.check ^ 1)


@given(st.binary(max_size=120), st.integers(0, 100))
@settings(max_examples=100, deadline=None)
def test_random_payloads_never_crash(payload, seed):
    models = TableModels(build_tables(ScaleMixture()))
    _, location, log2_scale = draw(seed, 300)
    reader = Reader(models, payload)
    try:
        decoded = reader(None, location, log2_scale)
    except CodecError:
        return
    assert decoded.abs().max() < SYMBOL_LIMIT


def test_tables_are_valid_and_cover_the_index(models):
    tables = models.tables
    assert table_count() == len(tables.supports) == 273
    for index in range(table_count()):
        frequencies = tables.table(index).astype(int)
        assert frequencies.sum() == 1 << PRECISION
        assert frequencies.min() >= 1
    location = torch.linspace(-3, 3, 1537).double()
    for log2_scale in (-100.0, -4.0, 0.0, 3.99, 4.0, 8.0, 100.0):
        index, shift = table_index(location, torch.full_like(location, log2_scale))
        assert 0 <= int(index.min()) <= int(index.max()) < table_count()
        assert (location - shift).abs().max() <= 1


def test_index_matches_the_format_document():
    location = torch.tensor([-1.3, -0.0625, 0.49, 7.93]).double()
    for level, log2_scale in enumerate(scale_grid()):
        index, shift = table_index(location, torch.full_like(location, log2_scale))
        for m, i, s in zip(location.tolist(), index.tolist(), shift.tolist(), strict=True):
            eighths = int(np.floor(8 * m + 0.5))
            fine = level < 32
            assert i == (8 * level + (eighths & 7) if fine else 224 + level)
            assert s == (eighths >> 3 if fine else int(np.floor(m + 0.5)))


def test_damaged_tables_are_refused(models):
    tables = models.tables
    wrong = tables.frequencies.copy()
    wrong[0] += 1
    with pytest.raises(ModelError, match="sum"):
        Tables(wrong, tables.supports)
    with pytest.raises(ModelError, match="273"):
        Tables(tables.frequencies, tables.supports[:-1])
    with pytest.raises(ModelError, match="fit"):
        Tables(tables.frequencies[:-1], tables.supports)


def test_rate_meter_gradients_point_downhill():
    meter = RateMeter(ScaleMixture(), noise=True)
    location = torch.zeros(1, 100, requires_grad=True)
    meter(torch.full((1, 100), 3.0), location, torch.zeros(1, 100))
    meter.bits.sum().backward()
    assert (location.grad < 0).all()  # moving the location towards the symbols saves bits
