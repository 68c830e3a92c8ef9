import pytest
import torch
from torch.nn import functional as F

from codec.models.layers.wavefront import OFFSETS, Canvas, gathered, waves


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 1), (4, 4), (5, 12), (12, 5)])
def test_every_site_once_and_after_its_neighbours(height, width):
    done = torch.zeros(height, width, dtype=torch.bool)
    for rows, cols in waves(height, width):
        for r, c in zip(rows.tolist(), cols.tolist(), strict=True):
            assert not done[r, c]
            inside = [(r + dr, c + dc) for dr, dc in OFFSETS if r + dr >= 0 and 0 <= c + dc < width]
            assert all(done[at] for at in inside)
        done[rows, cols] = True
    assert done.all()


def test_gathering_is_the_masked_convolution():
    torch.manual_seed(0)
    x, weight = torch.randn(6, 7, 3).double(), torch.randn(4, 3, 5, 5).double()
    masked = weight.clone()
    masked[:, :, 2, 2:] = 0
    masked[:, :, 3:] = 0
    expected = F.conv2d(x.permute(2, 0, 1)[None], masked, padding=2)[0]
    canvas = Canvas(6, 7, 3)
    for rows, cols in waves(6, 7):
        found = gathered(weight)[..., 0, 0] @ canvas.neighbours(rows, cols).T
        assert torch.allclose(found, expected[:, rows, cols])
        canvas.write(rows, cols, x[rows, cols])
