"""Layers of pictures: the units of some systems refine one another, so that the first of them are a picture, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from codec.container import Container
from codec.engine import units
from codec.errors import CorruptError, FormatError
from codec.params import pack, quality_index
from codec.system import Params, Symbols, System


def first(container: Container, params: Params, system: System, count: int) -> tuple[Container, Params]:
    """Return the file that the first `count` layers of a file are.

    Raises:
        ValueError: it has fewer, or the system has none.
        CorruptError: the number of units does not fit the size.
    """
    if not system.layered:
        raise ValueError(f"{system.id} has no layers, files of onedpiece have; decode the whole file")
    total = len(units.pair(container, system, params))
    if not 1 <= count <= total:
        raise ValueError(f"there is no layer {count}; the file has {total}, so choose 1 to {total}")
    if count == total:
        return container, params
    coarse = params | {"quality": system.layer_quality(params, count)}
    return replace(container, params=pack(coarse), units=container.units[:count]), coarse


def whole(container: Container, params: Params, system: System) -> int:
    """Return how many layers decode before the first that does not.

    Raises:
        CorruptError: the number of units does not fit the size.
    """
    count = 0
    for spec, unit in units.pair(container, system, params):
        try:
            units.decode_unit(system, spec, unit)
        except FormatError:
            break
        count += 1
    return count


def salvaged(container: Container, params: Params, system: System) -> tuple[Container, Params]:
    """Return the file that the layers of a damaged file are which are whole.

    Raises:
        CorruptError: the first is not.
    """
    count = whole(container, params, system)
    if not count:
        raise CorruptError("not even the first layer is whole; fetch the file again")
    return first(container, params, system, count)


def cutter(container: Container, symbols: Symbols, params: Params, system: System) -> Callable[[float], bytes]:
    """Return a function: quality 0..100, at most that of `params` -> the file that is cut to it.

    Args:
        container: where metadata and alpha are taken from.
        symbols: whole, at the quality of `params`.
    """

    def cut(quality: float) -> bytes:
        index, part, own = quality_index(quality), symbols, params
        if index != params["quality"]:
            part, own = system.truncated(symbols, params, index)
        coded = units.encode(part, own, system)
        return replace(container, params=pack(own), units=coded, compact=system.compact).pack()

    return cut
