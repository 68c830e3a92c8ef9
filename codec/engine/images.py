"""Image values to .lcb bytes and back: joins media, systems, coder and container."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from codec import checkpoint
from codec.coding.coder import RateMeter, Reader, Writer
from codec.container import Container, Unit
from codec.errors import CorruptError, FormatError, LimitError, MediaError
from codec.media import image as media
from codec.media.image import Image
from codec.params import IMAGE
from codec.system import Params, Progress, Symbols, System, UnitSpec, no_progress

ANALYZE_SHARE = 0.7  # of the time an encode takes, for progress


def encode(
    picture: Image,
    model: checkpoint.ModelInfo,
    system: System,
    *,
    quality: float,
    effort: int = 1,
    strip: bool = False,
    progress: Progress = no_progress,
) -> bytes:
    """Return a .lcb file of a picture with its alpha and metadata.

    Args:
        quality: 0..100.
        effort: 1..10, see `System.analyze`.
        strip: leave ICC, EXIF and XMP out.

    Raises:
        ValueError: quality or effort out of range.
    """
    if not 1 <= effort <= 10:
        raise ValueError(f"effort {effort} is outside 1..10")
    symbols, params = system.analyze(
        picture, quality=quality, effort=effort, progress=lambda f: progress(f * ANALYZE_SHARE)
    )
    specs = system.units(params)

    def code(spec: UnitSpec) -> Unit:
        writer = Writer(system.tables)
        with torch.no_grad():
            system.code(writer, spec.params, _select(symbols, spec))
        return Unit(writer.finish(), writer.check)

    units = _map(code, specs, lambda f: progress(ANALYZE_SHARE + f * (1 - ANALYZE_SHARE)))
    alpha = None if picture.alpha is None else media.pack_plane(picture.alpha)
    metadata = {} if strip else picture.metadata
    return Container(model.system, model.version, model.short_digest, IMAGE.pack(params), units, metadata, alpha).pack()


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


def _select(symbols: Symbols, spec: UnitSpec) -> Symbols:
    return {name: symbols[name][region][None].double() for name, region in spec.regions.items()}


def check_limits(params: Params, *, max_pixels: int, max_memory: int) -> None:
    """Refuse a stream by its header, before anything is allocated for it.

    Raises:
        LimitError: it claims more than the limits allow.
    """
    size, pixels = f"{params['width']}x{params['height']}", params["width"] * params["height"]
    if pixels > max_pixels:
        raise LimitError(f"the stream claims {size} pixels, over the limit of {max_pixels}; raise --max-pixels")
    samples = (1 if params["gray"] else 3) * (2 if params["deep"] else 1)
    needed = pixels * (3 * samples + 3)  # bytes: the picture, copies while it is saved, symbols
    if needed > max_memory:
        raise LimitError(
            f"decoding {size} pixels would take about {needed >> 20} MiB, over the limit of {max_memory >> 20}; "
            "raise --max-memory"
        )


def check_symbols(system: System, params: Params, *, max_memory: int) -> None:
    """Refuse a stream whose symbols alone exceed the limit: those of a thin picture padded to large blocks can.

    Raises:
        LimitError: they do.
    """
    needed = 4 * sum(math.prod(shape) for shape in system.shapes(params).values())
    if needed > max_memory:
        raise LimitError(
            f"the symbols of {params['width']}x{params['height']} pixels would take {needed >> 20} MiB, over the limit "
            f"of {max_memory >> 20}; raise --max-memory"
        )


def decode_symbols(container: Container, system: System, params: Params, progress: Progress = no_progress) -> Symbols:
    """Entropy-decode all units.

    Raises:
        CorruptError: the number of units does not fit the size, or a payload is impossible.
        DesyncError: symbols differ from those encoded.
    """
    work = _pair(container, system, params)
    symbols = {name: torch.zeros(shape, dtype=torch.int32) for name, shape in system.shapes(params).items()}

    def decode(pair: tuple[UnitSpec, Unit]) -> None:
        for name, values in _decode_unit(system, *pair).items():
            symbols[name][pair[0].regions[name]] = values[0].int()

    _map(decode, work, progress)
    return symbols


def _pair(container: Container, system: System, params: Params) -> list[tuple[UnitSpec, Unit]]:
    specs = system.units(params)
    if len(specs) != len(container.units):
        raise CorruptError(f"{len(container.units)} units do not make a {params['width']}x{params['height']} image")
    return list(zip(specs, container.units, strict=True))


def _decode_unit(system: System, spec: UnitSpec, unit: Unit) -> Symbols:
    if unit.damaged is not None:
        raise unit.damaged
    reader = Reader(system.tables, unit.payload)
    with torch.no_grad():
        decoded = system.code(reader, spec.params, None)
    reader.finish(unit.check)
    return decoded


def find_problems(container: Container, system: System, params: Params) -> list[str]:
    """Return one line for each unit that is damaged or does not decode."""
    found = []
    for i, (spec, unit) in enumerate(_pair(container, system, params)):
        try:
            _decode_unit(system, spec, unit)
        except FormatError as exc:
            found.append(f"unit {i}: {exc}")
    return found


def decode(container: Container, params: Params, system: System, progress: Progress = no_progress) -> Image:
    """Return the picture of a parsed file, with alpha and metadata."""
    symbols = decode_symbols(container, system, params, lambda f: progress(0.4 * f))
    with torch.no_grad():
        picture = system.synthesize(symbols, params, progress=lambda f: progress(0.4 + 0.6 * f))
    alpha = None
    if container.alpha is not None:
        try:
            alpha = media.unpack_plane(container.alpha, params["width"], params["height"])
        except MediaError as exc:
            raise CorruptError(str(exc)) from exc
    return replace(picture, alpha=alpha, metadata=dict(container.metadata))


def estimate_bits(symbols: Symbols, params: Params, system: System) -> float:
    """Return the bits RateMeter estimates for whole symbols: what training minimises, for checks."""
    total = 0.0
    categorical = system.tables.categorical and system.tables.categorical.tables
    for spec in system.units(params):
        meter = RateMeter(system.shape, noise=False, categorical=categorical)
        with torch.no_grad():
            system.code(meter, spec.params, _select(symbols, spec))
        total += float(meter.bits.sum())
    return total
