import torch

from codec.models import walloc


def test_compander_inverts():
    compander = walloc.Compander(4)
    y = torch.randn(2, 4, 5, 5) * 20
    torch.testing.assert_close(compander.expand(compander(y)), y, atol=1e-3, rtol=1e-4)
