"""How curves are drawn and numbers written; the page and the plots share it.

A curve is told from the others twice, by colour and by the shape of its marks, so that neither colour vision nor a
colour printer is needed. Its kind shows in the line: ours are heavy with filled marks, peers lighter with filled marks,
anchors light with open marks, published curves dashed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from codec.evaluation.comparison import is_lossless
from codec.evaluation.results import Curve
from codec.evaluation.scales import finite

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"

# Okabe & Ito, "Color Universal Design" (2008), moved until each has a contrast of 3:1 against the page and any two
# differ by 14 in CIELAB for normal sight and for each of the three kinds of colour blindness (a test holds that).
LIGHT = ("#0069ac", "#b84600", "#118e5e", "#a34582", "#c18700", "#009cda", "#564f4f", "#753a24")  # on #ffffff
DARK = ("#46a2e6", "#f17d36", "#3ac690", "#cb81ba", "#f2cb4b", "#a7d7ff", "#c1c2c4", "#c47a65")  # on #15171a
SHAPES = ("circle", "square", "triangle", "diamond", "wedge")  # 5 and 8 share no factor: 40 curves are all different

KINDS = {
    "model": "Models",
    "peer": "Other learned codecs, run here",
    "anchor": "Anchors",
    "published": "Published, not run",
}


def styles(curves: Sequence[Curve]) -> list[int]:
    """Return the number of each curve's style, `LIGHT[n % 8]` and `SHAPES[n % 5]`; ours first, lossless last."""
    kinds = list(KINDS)
    order = sorted(range(len(curves)), key=lambda i: (is_lossless(curves[i]), kinds.index(curves[i].kind)))
    return [order.index(i) for i in range(len(curves))]


def number(value: float | None, digits: int, *, sign: bool = False) -> str:
    """Return a number with a true minus sign, or `n/a`."""
    value = finite(value)
    if value is None:
        return "n/a"
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text  # neither +0 nor -0
    return (MINUS if value < 0 else "+" if sign else "") + text


def seconds(value: float | None) -> str:
    """Return seconds to three significant digits, or `n/a`."""
    value = finite(value)
    if value is None:
        return "n/a"
    digits = 0 if value >= 100 else 2 - math.floor(math.log10(value)) if value > 0 else 2
    return f"{value:.{min(max(digits, 0), 5)}f}"


def mebibytes(value: float | None) -> str:
    """Return bytes as whole MiB, or `n/a`."""
    value = finite(value)
    return "n/a" if value is None else f"{value / 2**20:,.0f}"
