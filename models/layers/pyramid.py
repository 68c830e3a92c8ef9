"""The order in which the frames of a group are coded: each after the last one, or pyramids of frames between two.

    span 1:  0 -> 1 -> 2 -> 3 -> ...        span 4:  0 ------------> 4 ------------> 8    depth 0
                                                          2                6              depth 1
                                                       1     3          5     7           depth 2

A frame between two is predicted from both, nothing but deeper frames are predicted from it, so it may be coarser (as in
Schwarz, Marpe and Wiegand, "Analysis of hierarchical B pictures and MCTF", ICME 2006).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

LARGEST_SPAN = 32


class Turn(NamedTuple):
    """A frame, in coding order.

    Attributes:
        index: of the frame in its group.
        past, ahead: frames that it is predicted from, coded before; None if there is none.
        depth: 0 of those that have no frame ahead.
    """

    index: int
    past: int | None
    ahead: int | None
    depth: int


def turns(frames: int, span: int) -> list[Turn]:
    """Return the turns of a group; `span` is how far frames of depth 0 are apart, at most."""
    out = [Turn(0, None, None, 0)]
    for start in range(0, frames - 1, span):
        stop = min(start + span, frames - 1)
        out += [Turn(stop, start, None, 0), *_between(start, stop, 1)]
    return out


def _between(start: int, stop: int, depth: int) -> Iterator[Turn]:
    if stop - start > 1:
        middle = (start + stop) // 2
        yield Turn(middle, start, stop, depth)
        yield from _between(start, middle, depth + 1)
        yield from _between(middle, stop, depth + 1)


def depths(span: int) -> int:
    """Return how many depths there are."""
    return span.bit_length() if span & (span - 1) == 0 else span.bit_length() + 1


def needed_until(order: list[Turn]) -> dict[int, int]:
    """Return for every frame the number of the last turn that needs it; of its own if none does."""
    last = {}
    for number, turn in enumerate(order):
        last |= {index: number for index in (turn.index, turn.past, turn.ahead) if index is not None}
    return last
