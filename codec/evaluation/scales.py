"""The scales of rates and metrics: names, units, digits, and which way is up.

A name has one scale, whatever the medium. Metrics are measured ones, those derived from means, and the scores of users'
tasks (`codec.evaluation.tasks`), which have names of their own and are in percent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """A metric, or a rate, as readers meet it.

    Attributes:
        name: in the evaluation, `ms-ssim-db`.
        label: for readers, `MS-SSIM`.
        unit: `dB` or empty.
        digits: behind the point.
        falling: smaller is better.
    """

    name: str
    label: str
    unit: str = ""
    digits: int = 4
    falling: bool = False

    @property
    def title(self) -> str:
        """Label and unit: `MS-SSIM (dB)`."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


SCALES = (
    Scale("psnr", "PSNR", "dB", 2),
    Scale("psnr-of-mean-mse", "PSNR of the mean MSE", "dB", 2),
    Scale("psnr-yuv", "PSNR YUV", "dB", 2),
    Scale("psnr-y", "PSNR Y", "dB", 2),
    Scale("mse", "MSE", "", 3, falling=True),
    Scale("ms-ssim", "MS-SSIM", "", 4),
    Scale("ms-ssim-db", "MS-SSIM", "dB", 2),
    Scale("ssimulacra2", "SSIMULACRA 2", "", 2),
    Scale("lpips", "LPIPS", "", 4, falling=True),
    Scale("dists", "DISTS", "", 4, falling=True),
    Scale("vmaf", "VMAF", "", 2),
    Scale("snr", "SNR", "dB", 2),
    Scale("si-sdr", "SI-SDR", "dB", 2),
    Scale("mel", "log-mel distance", "", 3, falling=True),
    Scale("stft", "STFT distance", "", 3, falling=True),
    Scale("visqol", "ViSQOL", "MOS", 2),
    Scale("pesq", "PESQ-WB", "MOS", 2),
    Scale("stoi", "STOI", "", 3),
    Scale("visqol-speech", "ViSQOL speech", "MOS", 2),
    Scale("dnsmos", "DNSMOS", "MOS", 2),
)
RATES = {  # medium -> its rate; the name is that of columns and keys in results
    "image": Scale("bpp", "bits per pixel", "bpp", 4),
    "audio": Scale("kbps", "kilobits per second", "kbit/s", 2),
    "video": Scale("bpp", "bits per pixel", "bpp", 5),
}


def scale_of(name: str) -> Scale:
    """Return how to show a metric; a name that is none of `SCALES` is that of a task."""
    return next((scale for scale in SCALES if scale.name == name), Scale(name, name, "%", 1))


def finite(value: float | None) -> float | None:
    """Return a number, or None for what is not one: JSON has neither infinity nor NaN."""
    return float(value) if value is not None and math.isfinite(value) else None
