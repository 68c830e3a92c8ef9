"""What the report shows of single files: an original, and what the codecs made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codec.evaluation.report.appearance import number
from codec.evaluation.scales import finite, scale_of

_SEEN = ("ssimulacra2", "lpips", "dists")  # metrics that say how a picture looks, beside the PSNR


@dataclass(frozen=True)
class Decoded:
    """What one codec made of a file.

    Attributes:
        curve: name of the curve in the evaluation, `avif:speed=6`.
        setting: `q=50`.
        rate: of this file, in the unit of the medium.
        psnr: of this file, dB; None without loss.
        signal: as decoded, the size of the original.
        bytes: of the coded file; None where nobody counted them.
        metrics: of this file by name, as far as they were measured.
    """

    curve: str
    setting: str
    rate: float
    psnr: float | None
    signal: Any
    bytes: int | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Curve and setting."""
        return f"{self.curve} {self.setting}".strip()

    @property
    def quality(self) -> str:
        """The PSNR in words, and of pictures what else says how they look."""
        psnr = finite(self.psnr)
        parts = ["lossless" if psnr is None else f"{number(psnr, 2)} dB"]
        scales = [scale_of(name) for name in _SEEN if finite(self.metrics.get(name)) is not None]
        parts += [f"{scale.label} {number(self.metrics[scale.name], scale.digits)}" for scale in scales]
        return ", ".join(parts)

    @property
    def size(self) -> str:
        """The bytes in words, or nothing."""
        return "" if self.bytes is None else f"{self.bytes:,} bytes"


@dataclass(frozen=True)
class Exhibit:
    """An original and what the codecs made of it.

    Attributes:
        file: name of the original, relative to the folder that was given.
        original: as read.
        decoded: in the order of the curves, within a curve in rising rate.
    """

    file: str
    original: Any
    decoded: list[Decoded]
