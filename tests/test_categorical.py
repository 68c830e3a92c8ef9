"""Symbols of alphabets: tables named outright, by Writer, Reader and RateMeter."""

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec import checkpoint
from codec.coding.coder import SYMBOL_LIMIT, RateMeter, Reader, TableModels, Writer
from codec.coding.distributions import (
    MAX_TABLES,
    PRECISION,
    CategoricalTables,
    ScaleMixture,
    build_categorical,
    build_tables,
)
from codec.errors import CodecError, CorruptError, ModelError


def alphabets(seed: int, sizes: list[int], *, escape: bool) -> CategoricalTables:
    rng = np.random.default_rng(seed)
    masses = [rng.dirichlet(np.full(size, 0.5)) * 0.99 for size in sizes]
    return build_categorical(masses, rng.integers(-50, 50, len(sizes)).tolist(), escape=escape)


def draw(tables: CategoricalTables, seed: int, count: int, beyond: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return symbols inside their alphabets, or up to `beyond` outside, and their tables."""
    rng = np.random.default_rng(seed)
    table = rng.integers(0, len(tables), count)
    low, high = tables.bounds(table)
    symbols = rng.integers(low - beyond, high + beyond + 1)
    return torch.from_numpy(symbols).double(), torch.from_numpy(table)


@given(
    st.integers(0, 10**6),
    st.lists(st.integers(2, 40), min_size=1, max_size=5),
    st.lists(st.integers(0, 60), max_size=4),
    st.sampled_from([None, 0, 5, 100_000]),
)
@settings(max_examples=60, deadline=None)
def test_round_trip_in_several_calls(seed, sizes, counts, beyond):
    tables = alphabets(seed, sizes, escape=beyond is not None)
    models = TableModels(None, tables)
    groups = [draw(tables, seed + i, count, beyond or 0) for i, count in enumerate(counts)]
    writer = Writer(models)
    for symbols, table in groups:
        assert writer.categorical(symbols, table) is symbols
    reader = Reader(models, writer.finish())
    for symbols, table in groups:
        assert torch.equal(reader.categorical(None, table), symbols)
    reader.finish(writer.check)


def test_both_kinds_share_a_stream():
    models = TableModels(build_tables(ScaleMixture()), alphabets(0, [5, 9], escape=True))
    location, log2_scale = torch.linspace(-3, 3, 40).double(), torch.zeros(40).double()
    tokens, table = draw(models.categorical.tables, 1, 30, 2)
    writer = Writer(models)
    writer(location.round(), location, log2_scale)
    writer.categorical(tokens.reshape(2, 3, 5), table.reshape(2, 3, 5))
    reader = Reader(models, writer.finish())
    assert torch.equal(reader(None, location, log2_scale), location.round())
    assert torch.equal(reader.categorical(None, table.reshape(2, 3, 5)), tokens.reshape(2, 3, 5))
    reader.finish(writer.check)


def test_size_is_the_estimate():
    tables = alphabets(3, [300, 2, 17], escape=False)
    rng = np.random.default_rng(0)
    table = torch.from_numpy(rng.integers(0, 3, 60_000))
    symbols = torch.empty(60_000).double()
    for i in range(3):
        at = table == i
        p = tables.table(i) / 2**PRECISION
        symbols[at] = torch.from_numpy(rng.choice(len(p), int(at.sum()), p=p) + tables.lows[i]).double()
    writer = Writer(TableModels(None, tables))
    writer.categorical(symbols, table)
    meter = RateMeter(None, noise=False, categorical=tables)
    assert meter.categorical(symbols[None], table[None]).shape == (1, 60_000)
    assert 8 * len(writer.finish()) == pytest.approx(float(meter.bits), rel=0.001)


def test_escapes_are_estimated():
    tables = alphabets(4, [6], escape=True)
    far = torch.tensor([10.0**3, -(10.0**4), 10.0**6]).double().repeat(200)
    table = torch.zeros(600).long()
    writer = Writer(TableModels(None, tables))
    writer.categorical(far, table)
    assert 8 * len(writer.finish()) == pytest.approx(float(tables.bits(far, table).sum()), rel=0.01)


def test_a_closed_alphabet_is_closed():
    tables = alphabets(5, [6], escape=False)
    outside = torch.tensor([float(tables.highs[0]) + 1]).double()
    with pytest.raises(ValueError, match="closed"):
        Writer(TableModels(None, tables)).categorical(outside, torch.zeros(1).long())
    assert tables.bits(outside, torch.zeros(1).long()).item() == math.inf
    with pytest.raises(ValueError, match="exceeds"):
        Writer(TableModels(None, tables)).categorical(outside * 0 + SYMBOL_LIMIT, torch.zeros(1).long())


@given(st.binary(max_size=120), st.integers(0, 100), st.booleans())
@settings(max_examples=100, deadline=None)
def test_random_payloads_never_crash(payload, seed, escape):
    tables = alphabets(seed, [2, 30, 7], escape=escape)
    _, table = draw(tables, seed, 300)
    reader = Reader(TableModels(None, tables), payload)
    try:
        decoded = reader.categorical(None, table)
    except CorruptError:
        return
    assert decoded.abs().max() < SYMBOL_LIMIT


def test_a_decoded_symbol_out_of_range_is_corrupt():
    tables = CategoricalTables(
        np.array([1, 65534, 1], np.uint16), np.array([SYMBOL_LIMIT], np.int32), np.array([SYMBOL_LIMIT + 1], np.int32),
        np.ones(1, np.uint8),
    )  # fmt: skip
    with pytest.raises(CorruptError, match="range"):
        Reader(TableModels(None, tables), b"\x55" * 8).categorical(None, torch.zeros(3).long())


@given(st.lists(st.integers(2, 400), min_size=1, max_size=4), st.booleans(), st.floats(0.001, 3))
@settings(max_examples=40, deadline=None)
def test_built_tables_are_valid(sizes, escape, concentration):
    rng = np.random.default_rng(len(sizes))
    masses = [rng.dirichlet(np.full(size, concentration)) for size in sizes]
    tables = build_categorical(masses, [0] * len(sizes), escape=escape)
    for i, mass in enumerate(masses):
        frequencies = tables.table(i).astype(int)
        assert len(frequencies) == len(mass) + escape
        assert frequencies.sum() == 1 << PRECISION
        assert frequencies.min() >= 1
        assert np.abs(frequencies[: len(mass)] / 2**PRECISION - mass).max() < len(frequencies) / 2**PRECISION


@pytest.mark.parametrize("size", [16_384, 40_000, 65_536])
def test_large_codebooks_fit(size):
    tables = build_categorical([np.full(size, 1 / size)], [0], escape=False)
    tokens = torch.tensor([0.0, size - 1, size // 2]).double()
    writer = Writer(TableModels(None, tables))
    writer.categorical(tokens, torch.zeros(3).long())
    reader = Reader(TableModels(None, tables), writer.finish())
    assert torch.equal(reader.categorical(None, torch.zeros(3).long()), tokens)


def test_too_large_an_alphabet_is_refused():
    with pytest.raises(ModelError, match="65537"):
        build_categorical([np.full(65_537, 1 / 65_537)], [0], escape=False)


def test_damaged_tables_are_refused():
    good = alphabets(6, [4, 5], escape=True)
    parts = {name: getattr(good, name) for name in ("frequencies", "lows", "highs", "escapes")}
    shifted = good.frequencies.copy()
    shifted[0] += 1
    zero = good.frequencies.copy()
    zero[:2] = 0, zero[0] + zero[1]
    many = np.zeros(MAX_TABLES + 1, np.int32)
    for change, message in [
        ({"frequencies": shifted}, "sum"),
        ({"frequencies": zero}, "zero"),
        ({"frequencies": good.frequencies[:-1]}, "fit"),
        ({"highs": good.lows - 9}, "fit"),
        ({"escapes": good.escapes + 1}, "fit"),
        ({"lows": good.lows[:-1]}, "shapes"),
        ({"lows": many, "highs": many + 1, "escapes": many.astype(np.uint8)}, "fit each other"),
    ]:
        with pytest.raises(CodecError, match=message):
            CategoricalTables(**parts | change)


def test_models_survive_pickling():
    models = TableModels(None, alphabets(7, [4], escape=True))
    again = pickle.loads(pickle.dumps(models))
    assert again.tables is None
    assert np.array_equal(again.categorical.tables.frequencies, models.categorical.tables.frequencies)


@pytest.mark.parametrize("located", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_tables_survive_a_model_file(located, named):
    tables = build_tables(ScaleMixture()) if located else None
    models = TableModels(tables, alphabets(8, [4, 9], escape=True) if named else None)
    tensors = checkpoint._pack_tables(models) | {"weight": torch.zeros(1)}
    again = checkpoint._unpack_tables(tensors)
    assert list(tensors) == ["weight"]
    assert (again.tables is None) == (not located)
    assert (again.categorical is None) == (not named)
    if named:
        assert np.array_equal(again.categorical.tables.highs, models.categorical.tables.highs)


def test_learned_frequencies_have_gradients():
    """What a vector-quantised system trains: logits of codebook entries in the place of the tables."""

    class Codebook(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = torch.nn.Parameter(torch.zeros(2, 8))

        def bits(self, symbols, table):
            return -self.logits.log_softmax(-1)[table, symbols.long()] / math.log(2)

    family = Codebook()
    meter = RateMeter(None, noise=True, categorical=family)
    tokens = torch.tensor([[3.0, 3, 1]])
    assert torch.equal(meter.categorical(tokens, torch.tensor([[0, 0, 1]])), tokens)
    assert meter.bits.tolist() == pytest.approx([9.0])
    meter.bits.sum().backward()
    assert family.logits.grad[0, 3] < 0 < family.logits.grad[0, 2]
