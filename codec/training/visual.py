"""What two pictures differ in to the eye: losses that need no trained network.

    l1        mean absolute difference
    ssim      1 - structural similarity at several scales  (Wang et al., "Multiscale Structural Similarity", 2003)
    texture   distance of local statistics of a fixed bank of filters at several scales: a picture whose texture is
              the same in kind, not in place, is near  (Qiu et al., "Wasserstein Distortion: Unifying Fidelity and
              Realism", 2023)
    lpips     only where the user brings that network

All but the last see luma and chroma, not R, G and B. Local means are products with banded matrices, a processor's
fastest way to them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from codec import torchscript

_SCALES = 4
_SIMILARITY = (1.5, 2)  # standard deviation and step of the windows of `ssim`, pixels of the scale
_STATISTICS = (4.0, 4)  # the same for `texture`
_C1, _C2 = 0.01**2, 0.03**2  # of Wang et al., for a range of 1
_SCALE_WEIGHTS = (0.10, 0.30, 0.30, 0.30)  # coarse scales are what little rate can still get right
_CHROMA = 0.5  # weight of each chroma plane against luma
_CALM = 1e-4  # variance below which deviations are not told apart: its root has no slope at zero
_WEIGHTS = {"l1": 3.0, "ssim": 1.0, "texture": 2.0, "lpips": 1.0}


Distance = Callable[[Tensor, Tensor], Tensor]


def visual_loss(x_hat: Tensor, x: Tensor, perceptual: Distance | None = None) -> dict[str, Tensor]:
    """Return `l1`, `ssim`, `texture` and their weighted sum `loss` of pictures [B, 3, H, W] in -0.5..0.5.

    Sides are multiples of 16 pixels. Computed in float32 whatever autocast says.

    Args:
        perceptual: a further distance, `lpips` in the result.
    """
    with torch.autocast(x.device.type, enabled=False):
        a, b = _opponent(x_hat.float()), _opponent(x.float())
        terms = {"l1": _weighted((a - b).abs())}
        pairs = [(a, b)]
        for _ in range(_SCALES - 1):
            pairs.append(tuple(F.avg_pool2d(plane, 2) for plane in pairs[-1]))
        terms["ssim"] = sum(w * _dissimilarity(*pair) for w, pair in zip(_SCALE_WEIGHTS, pairs, strict=True))
        terms["texture"] = sum(_texture(*pair) for pair in pairs) / _SCALES
        if perceptual is not None:
            terms["lpips"] = perceptual(x_hat.float(), x.float()).mean()
        return terms | {"loss": sum(_WEIGHTS[name] * value for name, value in terms.items())}


def lpips(file: str, device: torch.device) -> Distance:
    """Return the distance that a user's TorchScript network computes of pictures in -1..1, as LPIPS does.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018). Its weights are not
    ours to ship; `codec eval --help` says how to write the file.

    Raises:
        ModelError: it is no such file.
    """
    network = torchscript.load(file).to(device)
    return lambda x_hat, x: network(2 * x_hat, 2 * x)


def _opponent(x: Tensor) -> Tensor:
    """Map R, G, B to luma and two differences of colour (BT.601)."""
    matrix = x.new_tensor([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])
    return torch.einsum("ij,bjhw->bihw", matrix, x)


def _weighted(x: Tensor) -> Tensor:
    """Return the mean over everything of [B, 3, ...], chroma counting less."""
    y, cb, cr = x.flatten(2).mean((0, 2))
    return (y + _CHROMA * (cb + cr)) / (1 + 2 * _CHROMA)


def _dissimilarity(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 - the mean SSIM of two scales of pictures, luminance and structure."""
    mean = lambda x: _local_mean(x, *_SIMILARITY)
    # Chroma has no absolute zero that masks: its mean counts as an error does, at the level of mid-gray.
    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2
    covariance = mean(a * b) - mu_a * mu_b
    structure = (2 * covariance + _C2) / (var_a.clamp_min(0) + var_b.clamp_min(0) + _C2)
    light = 1 - (mu_a - mu_b) ** 2 / (mu_a**2 + mu_b**2 + _C1 + 0.1)
    return _weighted(1 - light * structure)


def _texture(a: Tensor, b: Tensor) -> Tensor:
    """Return the root mean squared Wasserstein-2 distance of local responses, taken to be normally distributed."""
    total = 0.0
    for p, q in zip(_responses(a), _responses(b), strict=True):
        (mu_p, sd_p), (mu_q, sd_q) = (_moments(r) for r in (p, q))
        total = total + ((mu_p - mu_q) ** 2 + (sd_p - sd_q) ** 2 + _CALM).sqrt() - _CALM**0.5
    return _weighted(total / _FILTERS)


_FILTERS = 5


def _responses(x: Tensor) -> list[Tensor]:
    """Return first and second differences [B, 3, H - 2, W - 2] along rows, columns and both."""
    middle = x[..., 1:-1, 1:-1]
    left, right, up, down = x[..., 1:-1, :-2], x[..., 1:-1, 2:], x[..., :-2, 1:-1], x[..., 2:, 1:-1]
    cross = x[..., :-2, :-2] + x[..., 2:, 2:] - x[..., :-2, 2:] - x[..., 2:, :-2]
    return [right - left, down - up, right + left - 2 * middle, down + up - 2 * middle, cross / 2]


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return local means and standard deviations."""
    mean = _local_mean(x, *_STATISTICS)
    variance = _local_mean(x * x, *_STATISTICS) - mean**2
    return mean, (variance.clamp_min(0) + _CALM).sqrt()


def _local_mean(x: Tensor, sigma: float, step: int) -> Tensor:
    """Return means of [B, C, H, W] under Gaussian windows `step` pixels apart."""
    rows, cols = (_windows(n, sigma, step, x.device) for n in x.shape[2:])
    return rows @ x @ cols.T


@lru_cache(maxsize=64)
def _windows(length: int, sigma: float, step: int, device: torch.device) -> Tensor:
    """Return Gaussian windows [ceil(length / step), length], each summing to one."""
    centres = torch.arange(0, length, step, dtype=torch.float64) + (step - 1) / 2
    distance = torch.arange(length, dtype=torch.float64) - centres[:, None]
    window = torch.exp(-0.5 * (distance / sigma) ** 2) * (distance.abs() <= 4 * sigma)
    return (window / window.sum(1, keepdim=True)).float().to(device)
