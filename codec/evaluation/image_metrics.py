"""The distortion metrics for pictures.

All of them see the same pixels: alpha left out, and gray expanded to RGB when only one of the two pictures is gray.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from codec import torchscript
from codec.distortion import squared_error
from codec.errors import MediaError, ModelError
from codec.evaluation.metrics import Measure, Metric
from codec.media.image import Image, eight_bits

if TYPE_CHECKING:
    import torch

_MIN_SIDE_SSIM = 161  # pixels: 11-pixel window at the coarsest of five scales
_MIN_SIDE_SSIMULACRA = 8  # pixels: the package looks at no scale below


def to_db(ms_ssim: float) -> float | None:
    """Return an MS-SSIM in dB, -10 log10(1 - x); None for 1."""
    return None if ms_ssim >= 1 else -10 * math.log10(1 - ms_ssim)


def psnr_of_mse(mse: float) -> float | None:
    """Return the PSNR of a mean squared error in 8-bit levels; None for 0."""
    return None if mse <= 0 else 10 * math.log10(255**2 / mse)


def alike(a: Image, b: Image) -> tuple[Image, Image]:
    """Return both with the same number of channels.

    Raises:
        MediaError: the pictures do not have the same size and bit depth.
    """
    if a.samples.shape[:2] != b.samples.shape[:2]:
        raise MediaError(f"{a.width}x{a.height} and {b.width}x{b.height} pixels cannot be compared; scale one of them")
    if a.samples.dtype != b.samples.dtype:
        raise MediaError(f"{a.samples.dtype} and {b.samples.dtype} samples cannot be compared; convert one of them")
    channels = max(a.samples.shape[2], b.samples.shape[2])
    return tuple(Image(np.repeat(i.samples, channels // i.samples.shape[2], axis=2)) for i in (a, b))


def _mse(a: Image, b: Image, _: str | None) -> float:
    return squared_error(a.samples, b.samples) / a.samples.size * (255 / np.iinfo(a.samples.dtype).max) ** 2


def _psnr(a: Image, b: Image, _: str | None) -> float | None:
    return psnr_of_mse(_mse(a, b, None))


def _tensor(image: Image, scale: float = 1.0, offset: float = 0.0) -> torch.Tensor:
    """Return [1, C, H, W] float32: samples / peak * scale + offset."""
    import torch

    planes = torch.from_numpy(image.samples.astype(np.float32)).permute(2, 0, 1)[None]
    return planes / float(np.iinfo(image.samples.dtype).max) * scale + offset


def _ms_ssim(a: Image, b: Image, _: str | None) -> float | None:
    import torch
    from pytorch_msssim import ms_ssim

    if min(a.width, a.height) < _MIN_SIDE_SSIM:
        return None
    with torch.no_grad():
        return float(ms_ssim(_tensor(a), _tensor(b), data_range=1.0))


def _ssimulacra2(a: Image, b: Image, _: str | None) -> float | None:
    from ssimulacra2 import compute_ssimulacra2

    if min(a.width, a.height) < _MIN_SIDE_SSIMULACRA:
        return None
    return float(compute_ssimulacra2(_as_file(a), _as_file(b)))


def _as_file(image: Image) -> io.BytesIO:
    """Return 8-bit pixels as the file the package insists on."""
    samples = eight_bits(image.samples)
    out = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(samples).squeeze()).save(out, "ppm")
    return out


def _by_network(scale: float, offset: float) -> Measure:
    """Return a metric that a TorchScript module computes from two float tensors [1, 3, H, W]."""

    def measure(a: Image, b: Image, file: str | None) -> float:
        import torch

        tensors = [_tensor(i, scale, offset).expand(-1, 3, -1, -1) for i in (a, b)]
        try:
            with torch.no_grad():
                return float(torchscript.load(str(file))(*tensors))
        except RuntimeError as exc:
            raise ModelError(f"{file}: does not compute a metric ({exc}); see codec eval --help") from exc

    return measure


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "psnr",
            _psnr,
            "10 log10(255^2 / MSE) over all samples of R, G and B of one picture (gray pictures: of the one channel)",
        ),
        Metric("mse", _mse, "mean squared error over all samples; 16-bit pictures are scaled to 0..255"),
        Metric(
            "ms-ssim",
            _ms_ssim,
            "five scales, 11-pixel Gaussian window, mean over R, G and B; no value below 161 pixels a side",
            packages=("pytorch-msssim",),
        ),
        Metric(
            "ssimulacra2",
            _ssimulacra2,
            "by the ssimulacra2 package (numpy; not libjxl's tool), sRGB assumed; no value below 8 pixels a side",
            packages=("ssimulacra2",),
        ),
        Metric("lpips", _by_network(2.0, -1.0), "by the network that was given, pixels in -1..1", weights=True),
        Metric("dists", _by_network(1.0, 0.0), "by the network that was given, pixels in 0..1", weights=True),
    )
}
