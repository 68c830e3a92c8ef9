import numpy as np
import pytest
import torch

from codec.models.layers import wavelet


def dense(x: torch.Tensor) -> torch.Tensor:
    rows, cols = (torch.from_numpy(wavelet.packet_matrix(n)).float() for n in x.shape[-2:])
    return torch.nn.functional.pixel_unshuffle(rows @ (x @ cols.T), 8)


@pytest.mark.parametrize("size", [(8, 8), (8, 16), (24, 264), (256, 320), (448, 8)])
def test_perfect_reconstruction(size):
    x = torch.rand(2, 3, *size)
    y = wavelet.analysis(x)
    assert y.shape == (2, 192, size[0] // 8, size[1] // 8)
    torch.testing.assert_close(wavelet.synthesis(y), x, atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", [(264, 8), (392, 520), (8, 1024)])
def test_segments_equal_the_dense_transform(size):
    x = torch.rand(1, 1, *size)
    torch.testing.assert_close(wavelet.analysis(x), dense(x), atol=1e-5, rtol=0)


def test_lifting_is_cdf_9_7():
    """Analysis low-pass of one level: the well-known nine taps (Antonini et al. 1992), scaled to gain sqrt(2)."""
    low, _ = wavelet._split(np.eye(32))
    taps = low[8][16 - 4 : 16 + 5] / np.sqrt(2)
    expected = [0.026749, -0.016864, -0.078223, 0.266864, 0.602949, 0.266864, -0.078223, -0.016864, 0.026749]
    np.testing.assert_allclose(taps, expected, atol=1e-6)


def test_no_wrap_around():
    x = torch.zeros(1, 1, 8, 256)
    x[..., :8] = 1
    assert wavelet.analysis(x)[..., 8:].abs().max() < 1e-6


def test_a_constant_is_one_band():
    y = wavelet.analysis(torch.full((1, 1, 64, 64), 0.5))
    torch.testing.assert_close(y[:, 0], torch.full((1, 8, 8), 4.0), atol=1e-5, rtol=0)
    assert y[:, 1:].abs().max() < 1e-5
