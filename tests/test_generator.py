"""The masked generator: it learns what is in its data, and the example that its module begins with runs."""

import math

import pytest
import torch

from codec.learning.generator import UNKNOWN, MaskedGenerator

SIDE = 6


def boards(count: int) -> torch.Tensor:
    """Checkerboards of the colours 0 and 1, or 2 and 3, of either phase: any one token tells all others."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    phase, pair = torch.randint(2, (2, count, 1, 1))
    return 2 * pair + (rows + columns + phase) % 2


@pytest.fixture(scope="module")
def trained() -> MaskedGenerator:
    torch.manual_seed(0)
    network = MaskedGenerator(5, width=32, layers=2)
    optimizer = torch.optim.AdamW(network.parameters(), 8e-3)
    for _ in range(200):
        loss = network.loss(boards(16))
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    return network


def whole(grids: torch.Tensor) -> torch.Tensor:
    """Return which of the grids [B, h, w] are checkerboards."""
    odd = (torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 2 == 1
    return (torch.where(odd, grids ^ 1, grids) == grids[:, :1, :1]).flatten(1).all(1)


def test_the_measure_knows_a_checkerboard():
    assert whole(boards(9)).all()
    wrong = boards(9)
    wrong[:, 3, 4] = (wrong[:, 3, 4] + 1) % 4
    assert not whole(wrong).any()


def test_new_grids_are_like_those_it_learned(trained):
    torch.manual_seed(1)
    made = trained.sample((40, SIDE, SIDE), steps=12)
    assert made.shape == (40, SIDE, SIDE)
    assert made.dtype == torch.int64
    right = whole(made)
    assert right.float().mean() > 0.4  # 36 tokens by chance: never
    assert made[right, 0, 0].unique().tolist() == [0, 1, 2, 3]  # all there are
    assert whole(trained.sample((40, SIDE, SIDE), noise=0)).float().mean() > 0.9


def test_what_is_known_stays_and_decides_the_rest(trained):
    torch.manual_seed(2)
    given = torch.full((20, SIDE, SIDE), UNKNOWN)
    given[:, 2, 3] = 3
    filled = trained.fill(given, noise=0)
    assert (filled[:, 2, 3] == 3).all()
    assert whole(filled).float().mean() > 0.9
    complete = boards(3)
    assert torch.equal(trained.fill(complete), complete)


def test_one_step_and_more_steps_than_tokens_fill_everything(trained):
    for steps in (1, 50):
        assert (trained.sample((2, 3, 4), steps) >= 0).all()


def test_sequences_are_grids_of_one_axis():
    network = MaskedGenerator(7, width=32, layers=1)
    assert network(torch.full((2, 9), UNKNOWN)).shape == (2, 7, 9)
    assert network.sample((2, 9)).shape == (2, 9)
    assert network.loss(torch.zeros(2, 9, dtype=torch.int32)).isfinite()


def test_places_matter():
    torch.manual_seed(0)
    logits = MaskedGenerator(7, width=32, layers=1)(torch.full((1, 5, 6), UNKNOWN))
    assert len(logits[0].detach().flatten(1).T.round(decimals=4).unique(dim=0)) == 30


def test_the_loss_is_that_of_chance_before_training():
    torch.manual_seed(0)
    network = MaskedGenerator(50, width=32, layers=1)
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    assert float(network.loss(torch.randint(50, (8, 4, 4))).detach()) == pytest.approx(math.log(50), abs=1e-5)


def test_wrong_tokens_and_widths_are_refused():
    network = MaskedGenerator(5, width=32, layers=1)
    for token in (-1, 5):
        with pytest.raises(ValueError, match=r"outside 0\.\.4"):
            network.loss(torch.full((1, 2, 2), token))
    with pytest.raises(ValueError, match="multiple of 32"):
        MaskedGenerator(5, width=40)
