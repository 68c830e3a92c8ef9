"""What decode does with pictures: as they are, of damaged files what is predicted or whole."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from typing import Any

import click

from codec.cli import batch
from codec.errors import CodecError, FormatError

_REMEDIES = {"repair": "--repair predicts what is lost", "salvage": "--salvage decodes the layers that are whole"}


@dataclass(frozen=True)
class Options:
    """How a picture is decoded.

    Attributes:
        format: of the output, see `codec.media.image.format_of`.
        repair: predict what is lost of a damaged file.
        salvage: decode the layers of a damaged file that are whole.
        layers: decode no more than so many; None for all.
        device: `auto`, `cpu` or `cuda`.
        force: overwrite the output.
        limits: `max_pixels` and `max_memory` (bytes).
    """

    format: str
    repair: bool
    salvage: bool
    layers: int | None
    device: str
    force: bool
    limits: dict[str, int]


def decode(job: batch.Job, progress: batch.Report, options: Options, *, data: bytes) -> dict[str, Any]:
    """Decompress a picture and return the report.

    Args:
        data: the .lcb file.
    """
    import codec
    from codec.media import image

    started = time.perf_counter()
    form = image.format_of(options.format)
    try:
        stream = _open(data, options)
        picture, more = stream.decode(progress=progress), {}
        if options.layers is not None:
            more["layers"] = options.layers
        if options.repair:
            more["predicted"] = []
    except FormatError as exc:
        stream, picture, more = _rescued(job, progress, options, data, exc)
    buffer = io.BytesIO()
    lost = codec.write(picture, buffer, form)
    batch.write_output(job.target, buffer.getbuffer(), force=options.force)
    if lost:
        click.echo(f"codec: {job.target}: {form} cannot hold {', '.join(lost)}; left out", err=True)
    return {
        "input": job.source,
        "output": job.target,
        "bytes": buffer.getbuffer().nbytes,
        "width": picture.width,
        "height": picture.height,
        "model": stream.info.model,
        "quality": stream.info.quality,
        **more,
        "seconds": round(time.perf_counter() - started, 4),
    }


def _open(data: bytes, options: Options, *, tolerant: bool = False) -> Any:
    import codec

    return codec.open(data, device=options.device, layers=options.layers, tolerant=tolerant, **options.limits)


def _rescued(
    job: batch.Job, progress: batch.Report, options: Options, data: bytes, error: FormatError
) -> tuple[Any, Any, dict[str, Any]]:
    """Return the stream, the picture and the report of a damaged file.

    Raises:
        FormatError: nothing was asked for, or nothing helps; it names what might.
        ValueError: what was asked for is not for files of its system.
    """
    say = lambda text: click.echo(f"codec: {job.source}: {text}", err=True)
    if not (options.repair or options.salvage):
        raise type(error)(f"{error}{_advice(data, options)}") from error
    stream = _open(data, options, tolerant=True)
    if options.repair:
        picture = stream.decode(repair=True, progress=progress)
        predicted = stream.lost()
        for x, y, width, height in predicted:
            say(f"predicted {width}x{height} pixels at {x}, {y}")
        return stream, picture, {"predicted": predicted}
    remedies = stream.remedies()
    if "salvage" not in remedies:
        other = "use --repair" if "repair" in remedies else "fetch the file again"
        raise ValueError(f"{error}; it has no layers to salvage: {other}")
    picture, whole = stream.decode(progress=progress), stream.whole_layers()
    say(f"{whole} of {options.layers or stream.info.units} layers are whole")
    return stream, picture, {"layers": whole}


def _advice(data: bytes, options: Options) -> str:
    """Return what helps with a damaged file, as the rest of a sentence; empty if nothing does."""
    try:
        remedies = _open(data, options, tolerant=True).remedies()
    except (CodecError, ValueError):
        return ""
    return "".join(f"; {_REMEDIES[name]}" for name in remedies)
