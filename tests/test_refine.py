import torch

from codec.models.layers.refine import refine, soft_round
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
