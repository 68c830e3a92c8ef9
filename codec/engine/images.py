"""Image values to .lcb bytes and back: joins media, systems, coder and container."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from codec import checkpoint
from codec.container import Container
from codec.engine import layers, units
from codec.errors import CorruptError, FormatError, LimitError, MediaError
from codec.media import image as media
from codec.media.image import Image
from codec.params import pack
from codec.system import Params, Progress, Symbols, System, UnitSpec, no_progress

Area = tuple[int, int, int, int]  # x, y, width, height in pixels
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
    symbols, params = _analyzed(picture, system, quality, effort, progress)
    coding = lambda f: progress(ANALYZE_SHARE + f * (1 - ANALYZE_SHARE))
    coded = units.encode(symbols, params, system, coding)
    return replace(_empty(picture, model, system, params, strip=strip), units=coded).pack()


def encoder(
    picture: Image,
    model: checkpoint.ModelInfo,
    system: System,
    *,
    effort: int = 1,
    strip: bool = False,
    progress: Progress = no_progress,
) -> Callable[[float], bytes]:
    """Return a function: quality 0..100 -> .lcb file, for who tries several; see `encode`.

    Systems with layers look at the picture once, for the best quality, and files of lower ones are cut from that.
    """
    if not system.layered:
        options = {"effort": effort, "strip": strip, "progress": progress}
        return lambda quality: encode(picture, model, system, quality=quality, **options)
    symbols, params = _analyzed(picture, system, 100, effort, progress)
    return layers.cutter(_empty(picture, model, system, params, strip=strip), symbols, params, system)


def _analyzed(
    picture: Image, system: System, quality: float, effort: int, progress: Progress
) -> tuple[Symbols, Params]:
    if not 1 <= effort <= 10:
        raise ValueError(f"effort {effort} is outside 1..10")
    return system.analyze(picture, quality=quality, effort=effort, progress=lambda f: progress(f * ANALYZE_SHARE))


def _empty(picture: Image, model: checkpoint.ModelInfo, system: System, params: Params, *, strip: bool) -> Container:
    """Return a file of a picture, without its units."""
    alpha = None if picture.alpha is None else media.pack_plane(picture.alpha)
    metadata = {} if strip else picture.metadata
    head = model.system, model.version, model.short_digest
    return Container(*head, pack(params), [], metadata, alpha, compact=system.compact)


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


def decode(
    container: Container,
    params: Params,
    system: System,
    progress: Progress = no_progress,
    *,
    damaged: Callable[[Area], None] | None = None,
) -> Image:
    """Return the picture of a parsed file, with alpha and metadata.

    Args:
        damaged: called with the area of each unit that is lost, whose symbols are then predicted; None: it raises.

    Raises:
        CorruptError, DesyncError: units are lost, all of them if they may be predicted.
        ValueError: they are to be predicted, which the system cannot.
    """
    coding = lambda f: progress(0.4 * f)
    if damaged is None:
        symbols = units.decode_symbols(container, system, params, coding)
    else:
        symbols = _repaired(container, params, system, coding, damaged)
    with torch.no_grad():
        picture = system.synthesize(symbols, params, progress=lambda f: progress(0.4 + 0.6 * f))
    alpha = None
    if container.alpha is not None:
        try:
            alpha = media.unpack_plane(container.alpha, params["width"], params["height"])
        except MediaError as exc:
            raise CorruptError(str(exc)) from exc
    return replace(picture, alpha=alpha, metadata=dict(container.metadata))


def _repaired(
    container: Container, params: Params, system: System, progress: Progress, damaged: Callable[[Area], None]
) -> Symbols:
    """Return whole symbols, those of lost units predicted."""
    errors: dict[int, FormatError] = {}
    symbols = units.decode_symbols(container, system, params, progress, lost=errors.__setitem__)
    specs = system.units(params)
    lost = [specs[i] for i in sorted(errors)]
    if not lost:
        return symbols
    if len(lost) == len(specs):
        raise CorruptError("no unit is whole, so there is nothing to predict from; fetch the file again")
    with torch.no_grad():
        symbols = system.repair(symbols, params, lost)
    for spec in lost:
        damaged(area_of(spec, params, system))
    return symbols


def lost_areas(container: Container, params: Params, system: System) -> list[Area]:
    """Return what cannot be decoded, an area for each unit."""
    errors: dict[int, FormatError] = {}
    units.decode_symbols(container, system, params, lost=errors.__setitem__)
    specs = system.units(params)
    return [area_of(specs[i], params, system) for i in sorted(errors)]


def area_of(spec: UnitSpec, params: Params, system: System) -> Area:
    """Return the pixels that a unit stands for; all of them, where units are layers or sites are no blocks of pixels.

    Systems whose first symbols are sites [h, w, ...] of a block of pixels each say how large it is: `block`.
    """
    width, height = params["width"], params["height"]
    block = getattr(system, "block", None)
    if system.layered or block is None:
        return 0, 0, width, height
    name, region = next(iter(spec.regions.items()))
    (top, bottom, _), (left, right, _) = (
        part.indices(size) for part, size in zip(region[:2], system.shapes(params)[name][:2], strict=True)
    )
    x, y = left * block, top * block
    return x, y, min(right * block, width) - x, min(bottom * block, height) - y
