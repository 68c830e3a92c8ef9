"""The masked prior: exact, causal in its passes, learns, repairs."""

import math

import pytest
import torch

from codec.coding import exact
from codec.coding.coder import RateMeter, Reader, TableModels, Writer
from codec.models.layers.masked_prior import MaskedPrior

ENTRIES, WIDTH = 12, 3
SHAPES = [(1, 1), (1, 7), (3, 2), (8, 8), (5, 9)]


def made(seed: int = 0) -> MaskedPrior:
    torch.manual_seed(seed)
    prior = MaskedPrior(WIDTH, ENTRIES, 8, 1)
    prior.tail.weight.data.mul_(20)  # of some consequence
    return prior


@pytest.fixture
def frozen() -> MaskedPrior:
    prior = made().requires_grad_(False)
    exact.freeze(prior)
    return prior


@pytest.fixture
def table() -> torch.Tensor:
    return exact.fix(torch.randn(ENTRIES, WIDTH, generator=torch.Generator().manual_seed(1)).double(), 12)


def tokens(*shape: int, entries: int = ENTRIES) -> torch.Tensor:
    return torch.randint(entries, shape, generator=torch.Generator().manual_seed(2)).double()


HALF = torch.tensor([0.5], dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [4, ENTRIES])
def test_what_is_written_is_read(frozen, table, shape, size):
    given = tokens(2, *shape, entries=size)
    models, t = TableModels(None), HALF.expand(2)
    writer = Writer(models)
    with torch.no_grad():
        assert torch.equal(frozen.code(writer, given, (2, *shape), table[:size], t), given)
        reader = Reader(models, writer.finish())
        assert torch.equal(frozen.code(reader, None, (2, *shape), table[:size], t), given)
    reader.finish(writer.check)


def test_bits_are_what_is_written(frozen, table):
    given = tokens(1, 16, 16)
    writer, meter = Writer(TableModels(None)), RateMeter(None, noise=False)
    with torch.no_grad():
        frozen.code(writer, given, (1, 16, 16), table, HALF)
        frozen.code(meter, given, (1, 16, 16), table, HALF)
    assert 8 * len(writer.finish()) == pytest.approx(float(meter.bits), rel=0.01, abs=40)


def test_a_part_of_the_codebook_has_its_share_of_the_masses(frozen):
    features = exact.fix(torch.rand(5, 8, dtype=torch.float64), 10)
    assert torch.equal(frozen.masses(features, 4), frozen.masses(features, ENTRIES)[:, :4])


def test_unknown_tokens_do_not_matter(frozen, table):
    known = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(3)).gt(0.5).double()
    one, other = table[tokens(1, 6, 6).long()], table[tokens(1, 6, 6).long().flip(2)]
    other = torch.where(known[..., None] > 0, one, other)
    assert torch.equal(frozen.features(one, known, HALF), frozen.features(other, known, HALF))


def stripes(batch: int) -> torch.Tensor:
    """Grids [B, 8, 8] whose rows count on from a random start: any token tells all others."""
    start = torch.randint(ENTRIES, (batch, 1, 1))
    return ((start + torch.arange(8)[:, None] + torch.zeros(1, 8, dtype=torch.long)) % ENTRIES).long()


@pytest.fixture(scope="module")
def trained() -> tuple[MaskedPrior, torch.Tensor]:
    torch.manual_seed(4)
    prior, table = MaskedPrior(ENTRIES, ENTRIES, 32, 2), torch.eye(ENTRIES)
    optimizer = torch.optim.Adam(prior.parameters(), 3e-3)
    for _ in range(250):
        given = stripes(16)
        sizes, t = torch.full((16,), ENTRIES), torch.ones(16)
        loss = prior.training_bits(given, table[given], sizes, t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    exact.freeze(prior.requires_grad_(False))
    return prior, table.double()


def test_it_learns_to_code(trained):
    prior, table = trained
    meter = RateMeter(None, noise=False)
    with torch.no_grad():
        prior.code(meter, stripes(8).double(), (8, 8, 8), table, torch.ones(8, dtype=torch.float64))
    assert float(meter.bits.mean()) / 64 < 0.4 * math.log2(ENTRIES)


def test_it_learns_to_repair(trained):
    prior, table = trained
    torch.manual_seed(5)
    given = stripes(1)[0]
    known = torch.ones(8, 8, dtype=torch.bool)
    known[2:6, 3:7] = False
    damaged = torch.where(known, given, 0)
    fixed = prior.fill(damaged, known, table, torch.ones(1, dtype=torch.float64))
    assert torch.equal(fixed[known], given[known])
    assert float((fixed == given)[~known].float().mean()) > 0.8


def test_nothing_known_is_filled_all_the_same(frozen, table):
    filled = frozen.fill(torch.zeros(5, 7, dtype=torch.long), torch.zeros(5, 7, dtype=torch.bool), table, HALF)
    assert filled.shape == (5, 7)
    assert filled.max() < ENTRIES
