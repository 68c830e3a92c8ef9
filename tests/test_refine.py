import torch

from codec.models.layers.refine import refine, refine_choice, soft_round
from codec.system import no_progress


def test_refinement_never_gives_a_worse_cost():
    y = torch.randn(1, 3, 4, 4)
    cost = lambda z: (z - 0.3).abs().sum()
    best = refine(cost, y, 4, no_progress)
    assert torch.equal(best, best.round())
    assert cost(best) <= cost(torch.floor(y + 0.5))
    assert torch.equal(refine(cost, y, 4, no_progress), best)


def test_refinement_moves_across_rounding_boundaries():
    y = torch.full((1, 1, 8, 8), 0.6)
    best = refine(lambda z: (z * 3).abs().sum(), y, 8, no_progress)
    assert best.abs().sum() < 16


def test_soft_round_runs_from_identity_to_rounding():
    x = torch.linspace(-3, 3, 61)
    torch.testing.assert_close(soft_round(x, 0.01), x, atol=1e-3, rtol=0)
    away = x[(x - x.round()).abs() < 0.4]
    torch.testing.assert_close(soft_round(away, 100.0), away.round(), atol=1e-3, rtol=0)


def test_a_choice_is_looked_for_and_never_worse():
    """The nearest entry is not the one that costs least: a gradient leads there."""
    entries = torch.arange(-8.0, 9.0)
    fractions = []

    def cost(x):
        chosen = entries[(x.detach()[:, None] - entries).abs().argmin(1)] + x - x.detach()
        return (chosen - 3).square().sum()

    x = torch.tensor([-1.0, 0.4, 2.6])
    best = refine_choice(cost, x, 6, fractions.append, rate=0.2)
    assert float(cost(best)) == 0
    assert fractions[-1] == 1
    assert torch.equal(refine_choice(cost, torch.full((2,), 3.0), 4, no_progress, rate=5.0), torch.full((2,), 3.0))
    assert torch.equal(refine_choice(cost, x, 1, no_progress, rate=0.2), x)
