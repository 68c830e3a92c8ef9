"""Symbols to units of a file and back, for every kind of signal."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from codec.coding.coder import RateMeter, Reader, Writer
from codec.container import Container, Unit
from codec.errors import CorruptError, FormatError, LimitError
from codec.system import Params, Progress, Symbols, System, UnitSpec, no_progress


def encode(symbols: Symbols, params: Params, system: System, progress: Progress = no_progress) -> list[Unit]:
    """Entropy-code whole symbols, unit by unit."""
    code = lambda spec: encode_unit(system, spec, select(symbols, spec))
    return _map(code, system.units(params), progress)


def encode_unit(system: System, spec: UnitSpec, symbols: Symbols) -> Unit:
    """Entropy-code one unit; symbols have a batch dimension of one."""
    if spec.empty:
        return Unit(b"", 0)
    writer = Writer(system.tables)
    with torch.no_grad():
        system.code(writer, spec.params, symbols)
    return Unit(writer.finish(compact=system.compact), writer.check)


def decode_unit(system: System, spec: UnitSpec, unit: Unit) -> Symbols:
    """Entropy-decode one unit; symbols have a batch dimension of one.

    Raises:
        CorruptError, DesyncError: it is damaged, or symbols differ from those encoded.
    """
    if unit.damaged is not None:
        raise unit.damaged
    if spec.empty:
        return {}
    reader = Reader(system.tables, unit.payload, compact=system.compact)
    try:
        with torch.no_grad():
            decoded = system.code(reader, spec.params, None)
        reader.finish(unit.check)
    except FormatError as exc:
        if unit.trusted:
            raise
        raise CorruptError("its bytes are damaged; fetch the file again") from exc
    return decoded


def select(symbols: Symbols, spec: UnitSpec) -> Symbols:
    """Return the symbols of one unit as `code` wants them: float64 with a batch dimension."""
    return {name: symbols[name][region][None].double() for name, region in spec.regions.items()}


def _map(function: Callable, items: list, progress: Progress) -> list:
    """Map over units on as many threads as torch has, reporting progress in order."""
    out = []
    if len(items) == 1 or torch.get_num_threads() == 1:
        for item in items:
            out.append(function(item))
            progress(len(out) / len(items))
        return out
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for result in pool.map(function, items):
            out.append(result)
            progress(len(out) / len(items))
    return out


def check_symbols(system: System, params: Params, *, max_memory: int) -> None:
    """Refuse a stream whose symbols alone exceed the limit.

    Raises:
        LimitError: they do.
    """
    needed = 4 * sum(math.prod(shape) for shape in system.shapes(params).values())
    if needed > max_memory:
        raise LimitError(
            f"the symbols alone would take {needed >> 20} MiB, over the limit of {max_memory >> 20}; raise --max-memory"
        )


def decode_symbols(
    container: Container,
    system: System,
    params: Params,
    progress: Progress = no_progress,
    *,
    lost: Callable[[int, FormatError], None] | None = None,
) -> Symbols:
    """Entropy-decode all units.

    Args:
        lost: called with the number of each unit that cannot be decoded, whose symbols are then zero, and what is wrong
            with it; None: that is raised. Calls come in any order.

    Raises:
        CorruptError: the number of units does not fit the size, or a payload is impossible.
        DesyncError: symbols differ from those encoded.
    """
    work = pair(container, system, params)
    symbols = {name: torch.zeros(shape, dtype=torch.int32) for name, shape in system.shapes(params).items()}

    def decode(item: tuple[int, tuple[UnitSpec, Unit]]) -> None:
        number, (spec, unit) = item
        try:
            decoded = decode_unit(system, spec, unit)
        except FormatError as exc:
            if lost is None:
                raise
            lost(number, exc)
            return
        for name, values in decoded.items():
            symbols[name][spec.regions[name]] = values[0].int()

    _map(decode, list(enumerate(work)), progress)
    return symbols


def pair(container: Container, system: System, params: Params) -> list[tuple[UnitSpec, Unit]]:
    """Return the units of a file with what the header says of each.

    Raises:
        CorruptError: their numbers differ.
    """
    specs = system.units(params)
    if container.length is None and specs and specs[-1].empty:
        specs.pop()  # what ends a stream is missing with its end
    if len(specs) != len(container.units):
        raise CorruptError(f"there are {len(container.units)} units where the header asks for {len(specs)}")
    return list(zip(specs, container.units, strict=True))


def find_problems(container: Container, system: System, params: Params) -> list[str]:
    """Return one line for each unit that is damaged or does not decode."""
    found = []
    for i, (spec, unit) in enumerate(pair(container, system, params)):
        try:
            decode_unit(system, spec, unit)
        except FormatError as exc:
            found.append(f"unit {i}: {exc}")
    return found


def estimate_bits(symbols: Symbols, params: Params, system: System) -> float:
    """Return the bits RateMeter estimates for whole symbols: what training minimises, for checks."""
    total = 0.0
    categorical = system.tables.categorical and system.tables.categorical.tables
    for spec in system.units(params):
        if spec.empty:
            continue
        meter = RateMeter(system.shape, noise=False, categorical=categorical)
        with torch.no_grad():
            system.code(meter, spec.params, select(symbols, spec))
        total += float(meter.bits.sum())
    return total
