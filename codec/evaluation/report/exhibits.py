"""What the report shows of single files: an original, and what the codecs made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codec.evaluation.report.appearance import number
from codec.evaluation.scales import finite


@dataclass(frozen=True)
class Decoded:
    """What one codec made of a file.

    Attributes:
        curve: name of the curve in the evaluation, `avif:speed=6`.
        setting: `q=50`.
        rate: of this file, in the unit of the medium.
        psnr: of this file, dB; None without loss.
        signal: as decoded, the size of the original.
    """

    curve: str
    setting: str
    rate: float
    psnr: float | None
    signal: Any

    @property
    def name(self) -> str:
        """Curve and setting."""
        return f"{self.curve} {self.setting}".strip()

    @property
    def quality(self) -> str:
        """The PSNR in words."""
        psnr = finite(self.psnr)
        return "lossless" if psnr is None else f"{number(psnr, 2)} dB"


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
