"""SSIMULACRA 2 as a loss (Sneyers, 2022): what a compressed picture lost to the eye, in the terms of a measured metric.

Structural similarity, edges that appear and edges that went, of pictures in XYB at five scales, as means and as
fourth-power means, weighted as fitted to many people's opinions. `codec eval` measures with the `ssimulacra2` package;
here the same has gradients, and a test holds the two together for pictures of 256 pixels a side and more. Smaller ones
have fewer scales, for which the original reads weights of others; here every scale keeps its own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_SMALLEST = 8  # pixels a side of the coarsest scale that is looked at
_SIGMA, _RADIUS = 1.5, 5  # of the windows, pixels of the scale
_C2 = 0.0009
_CALM = 1e-6  # below this fourth-power means are not told apart: at zero the root has no slope
_ABSORBANCE = (
    (0.30, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.55180986650955364),
)
_BIAS = 0.0037930732552754493


class _Terms(NamedTuple):
    """Weights of one channel at one scale: mean, and fourth-power mean, of each of the three errors."""

    channel: int  # X, Y, B - Y
    similarity: tuple[float, float] = (0, 0)
    new_edges: tuple[float, float] = (0, 0)
    lost_edges: tuple[float, float] = (0, 0)


# Of the 108 weights those above 0.002; the others change no score by a hundredth.
_SCALES = (
    (_Terms(1, (0, 7.466890328078848), (0, 0), (0, 17.445833984131262)),),
    (
        _Terms(0, (0, 1.1041726426657346)),
        _Terms(1, (0, 6.683678146179332), (0, 0), (0, 1.027889937768264)),
    ),
    (
        _Terms(0, (0, 1.8422455520539298), (0, 11.441172603757666)),
        _Terms(1, (225.20515300849274, 19.213238186143016)),
    ),
    (
        _Terms(0, (0, 1.8787594979546387), (0, 10.94906990605142)),
        _Terms(1, (176.39317598450694, 24.43300999870476), (0, 0.28520802612117757)),
        _Terms(2, (0.0020827005846636437, 8.826982764996862), (0, 23.19243343998926)),
    ),
    (
        _Terms(0, (0, 0), (0.9677937080626833, 0.9981766977854967)),
        _Terms(1, (0, 34.77906344483772), (0, 44.835625328877896)),
        _Terms(2, (95.1080498811086, 0), (0.98639780344, 171.2667255897307), (0.983438279247, 0.980785887244)),
    ),
)  # fmt: skip


def ssimulacra(x_hat: Tensor, x: Tensor) -> Tensor:
    """Return the weighted errors [B] of pictures [B, 3, H, W] in -0.5..0.5: 0 where equal, 10 at a score of 30."""
    planes = [_linear(part.float()) for part in (x_hat, x)]
    total = x_hat.new_zeros(len(x), dtype=torch.float32)
    for i, terms in enumerate(_SCALES):
        if i:
            planes = [F.avg_pool2d(part, 2, ceil_mode=True, count_include_pad=False) for part in planes]
        if min(planes[0].shape[2:]) < _SMALLEST:
            break
        a, b = (_xyb(part) for part in planes)
        for term in terms:
            channel = slice(term.channel, term.channel + 1)
            total = total + _errors(a[:, channel], b[:, channel], term)
    return 0.9562382616834844 * total


def score(errors: Tensor) -> Tensor:
    """Map weighted errors to the score: 100 where equal, 70 high, 50 medium, 30 low quality, no lower bound."""
    e = errors.double()
    polynomial = 2.326765642916932 * e - 0.020884521182843837 * e**2 + 6.248496625763138e-05 * e**3
    return 100 - 10 * polynomial.clamp_min(0) ** 0.6276336467831387


def _linear(x: Tensor) -> Tensor:
    """Map sRGB in -0.5..0.5 to linear light in 0..1."""
    x = (x + 0.5).clamp(0, 1)
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)


def _xyb(linear: Tensor) -> Tensor:
    """Map linear light [B, 3, H, W] to X, Y and B - Y, scaled and shifted to be positive."""
    mixed = torch.einsum("ij,bjhw->bihw", linear.new_tensor(_ABSORBANCE), linear) + _BIAS
    long, middle, short = (mixed ** (1 / 3) - _BIAS ** (1 / 3)).unbind(1)
    x, y = (long - middle) / 2, (long + middle) / 2
    return torch.stack([14 * x + 0.42, y + 0.01, short - y + 0.55], 1)


def _errors(a: Tensor, b: Tensor, term: _Terms) -> Tensor:
    """Return the weighted errors [B] of planes [B, 1, H, W] `a` against `b`."""
    mu_a, mu_b, aa, bb, ab = _blurred(torch.cat([a, b, a * a, b * b, a * b], 1)).split(1, 1)
    total = a.new_zeros(len(a))
    if any(term.similarity):
        structure = (2 * (ab - mu_a * mu_b) + _C2) / (aa - mu_a**2 + bb - mu_b**2 + _C2)
        total = total + _norms((1 - (1 - (mu_a - mu_b) ** 2) * structure).clamp_min(0), term.similarity)
    if any(term.new_edges + term.lost_edges):
        change = (1 + (a - mu_a).abs()) / (1 + (b - mu_b).abs()) - 1
        total = total + _norms(change.clamp_min(0), term.new_edges) + _norms((-change).clamp_min(0), term.lost_edges)
    return total


def _norms(error: Tensor, weights: tuple[float, float]) -> Tensor:
    """Return the weighted sum [B] of mean and fourth-power mean."""
    mean, fourth = weights
    total = mean * error.mean((1, 2, 3))
    if fourth:
        total = total + fourth * ((error**4).mean((1, 2, 3)) + _CALM**4) ** 0.25 - fourth * _CALM
    return total


def _blurred(x: Tensor) -> Tensor:
    """Return Gaussian means [B, C, H, W]: products with banded matrices, as in `visual`."""
    rows, cols = x.shape[2:]
    return _windows(rows, True, x.device) @ x @ _windows(cols, False, x.device).T


@lru_cache(maxsize=64)
def _windows(length: int, mirrored: bool, device: torch.device) -> Tensor:
    """Return Gaussian windows [length, length]; beyond the borders there is a mirror, or zero, as in that package."""
    weight = lambda distance: torch.exp(-0.5 * (distance / _SIGMA) ** 2) * (distance.abs() <= _RADIUS)
    i = torch.arange(length, dtype=torch.float64)
    j = i[:, None]
    windows = weight(i - j) + ((weight(-1 - i - j) + weight(2 * length - 1 - i - j)) if mirrored else 0)
    return (windows / weight(torch.arange(-_RADIUS, _RADIUS + 1.0)).sum()).float().to(device)
