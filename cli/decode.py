"""`codec decode`."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import click

from codec.cli import batch
from codec.limits import MAX_MEMORY


@click.command("decode")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...", type=click.Path(exists=True, allow_dash=True))
@click.option("--to", "format_name", metavar="FORMAT", help="png, webp, tiff, jpeg, ... [default: of OUT, else png]")
@click.option(
    "--max-memory", type=click.IntRange(1), default=MAX_MEMORY >> 20, show_default=True, help="MiB a decode may take."
)
@batch.shared_options
def command(
    inputs: tuple[str, ...],
    output: str | None,
    format_name: str | None,
    recursive: bool,
    max_memory: int,
    max_pixels: int,
    **options: Any,
) -> int:
    """Decompress .lcb files to images.

    photo.lcb becomes photo.png beside it; -o names a file or folder. IN may be - for stdin.
    """
    import codec
    from codec.media.image import format_of

    if format_name is None:
        named = output not in (None, batch.STDIO) and not Path(output).is_dir() and not output.endswith("/")
        format_name = (Path(output).suffix if named else "") or "png"
    kind = format_of(format_name)
    suffix = "." + format_name.lower().removeprefix(".")
    jobs = batch.plan(inputs, output, suffix, lambda path: path.suffix == ".lcb", recursive=recursive)

    def work(job: batch.Job, progress: Any) -> dict[str, Any]:
        batch.check_target(job.target, force=options["force"])
        started = time.perf_counter()
        stream = codec.open(
            batch.read_input(job.source), device=options["device"], max_pixels=max_pixels, max_memory=max_memory << 20
        )
        picture = stream.decode(progress=progress)
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
