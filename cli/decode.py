"""`codec decode`."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import click

from codec import live
from codec.cli import batch, sound
from codec.container import parse_header
from codec.errors import CodecError, MediaError
from codec.limits import MAX_MEMORY
from codec.params import KINDS, unpack


@click.command("decode")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...", type=click.Path(exists=True, allow_dash=True))
@click.option("--to", "format_name", metavar="FORMAT", help="png, webp, wav, flac, ... [default: OUT's, or png, wav]")
@click.option(
    "--max-memory", type=click.IntRange(1), default=MAX_MEMORY >> 20, show_default=True, help="MiB a decode may take."
)
@click.option("--salvage", is_flag=True, help="Decode what is whole of damaged sound.")
@batch.shared_options
def command(
    inputs: tuple[str, ...],
    output: str | None,
    format_name: str | None,
    recursive: bool,
    max_memory: int,
    max_pixels: int,
    salvage: bool,
    **options: Any,
) -> int:
    """Decompress .lcb files to images and sound.

    photo.lcb becomes photo.png beside it, song.lcb song.wav; -o names a file or folder. IN may be - for stdin; sound is
    then decoded as it comes in.
    """
    import codec
    from codec.media import image

    if format_name is None:
        named = output not in (None, batch.STDIO) and not Path(output).is_dir() and not output.endswith("/")
        format_name = Path(output).suffix if named else None
    if format_name:
        _known(format_name)
        suffix = lambda source: "." + format_name.lower().removeprefix(".")
    else:
        suffix = lambda source: ".wav" if _kind(source) == "audio" else ".png"
    jobs = batch.plan(inputs, output, suffix, lambda path: path.suffix == ".lcb", recursive=recursive)

    def work(job: batch.Job, progress: Any) -> dict[str, Any]:
        batch.check_target(job.target, force=options["force"])
        start = live.read_start(click.get_binary_stream("stdin")) if job.source == batch.STDIO else b""
        if (_kind_of(start) if start else _kind(job.source)) == "audio":
            return sound.decode(
                job, progress, start=start, format=format_name or "wav", device=options["device"],
                force=options["force"], salvage=salvage,
            )  # fmt: skip
        started = time.perf_counter()
        data = start + batch.read_input(job.source)
        stream = codec.open(data, device=options["device"], max_pixels=max_pixels, max_memory=max_memory << 20)
        picture = stream.decode(progress=progress)
        kind = image.format_of(format_name or "png")
        buffer = io.BytesIO()
        lost = codec.write(picture, buffer, kind)
        batch.write_output(job.target, buffer.getbuffer(), force=options["force"])
        if lost:
            click.echo(f"codec: {job.target}: {kind} cannot hold {', '.join(lost)}; left out", err=True)
        return {
            "input": job.source,
            "output": job.target,
            "bytes": buffer.getbuffer().nbytes,
            "width": picture.width,
            "height": picture.height,
            "model": stream.info.model,
            "quality": stream.info.quality,
            "seconds": round(time.perf_counter() - started, 4),
        }

    flags = batch.Options(options["jobs"], options["force"], options["skip_existing"], options["as_json"])
    return batch.run(jobs, flags, work)


def _known(name: str) -> None:
    """Refuse a format that nothing can be written in, before any work."""
    from codec.media import audio_writer, image

    try:
        image.format_of(name)
    except MediaError as exc:
        try:
            audio_writer.format_of(name)
        except MediaError:
            raise exc from None


def _kind(source: str) -> str:
    """Return the kind of signal in a .lcb file; what cannot be told is found out by decoding it."""
    try:
        with Path(source).open("rb") as file:
            return _kind_of(live.read_start(file))
    except (CodecError, OSError):
        return "image"


def _kind_of(start: bytes) -> str:
    return KINDS[unpack(parse_header(start)[1])["kind"]]
