"""`codec truncate`."""

from __future__ import annotations

import time
from typing import Any

import click

from codec.cli import batch
from codec.cli.options import Size
from codec.limits import MAX_MEMORY


@click.command("truncate")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...", type=click.Path(exists=True, allow_dash=True))
@click.option("--bytes", "size", type=Size(), required=True, help="At most so many bytes a file, e.g. 200 or 1k.")
@click.option(
    "--max-memory", type=click.IntRange(1), default=MAX_MEMORY >> 20, show_default=True, help="MiB a file may take."
)
@batch.shared_options
def command(
    inputs: tuple[str, ...],
    size: int,
    output: str | None,
    recursive: bool,
    max_pixels: int,
    max_memory: int,
    **options: Any,
) -> int:
    """Cut .lcb files of pictures to a size, without encoding them again.

    The first tokens are kept, and metadata: a picture of a lower quality. photo.lcb becomes photo.cut.lcb beside it; -o
    names a file or folder, or - for stdout. A file that is small enough is copied as it is.
    """
    import codec

    suffix = lambda source: ".cut.lcb" if output is None else ".lcb"
    wanted = lambda path: path.suffix == ".lcb" and not path.name.endswith(".cut.lcb")
    jobs = batch.plan(inputs, output, suffix, wanted, recursive=recursive)
    limits = {"max_pixels": max_pixels, "max_memory": max_memory << 20}

    def work(job: batch.Job, progress: batch.Report) -> dict[str, Any]:
        batch.check_target(job.target, force=options["force"])
        started = time.perf_counter()
        data = batch.read_input(job.source)
        cut = codec.truncate(data, target_size=size, device=options["device"], **limits)
        batch.write_output(job.target, cut, force=options["force"])
        info = codec.open(cut).info
        facts = {"bytes": len(cut), "before": len(data), "model": info.model, "quality": info.quality, "bpp": info.bpp}
        sides = {"width": info.width, "height": info.height} if info.kind != "audio" else {"duration": info.seconds}
        seconds = round(time.perf_counter() - started, 4)
        return {"input": job.source, "output": job.target} | facts | sides | {"layers": info.layers, "seconds": seconds}

    flags = batch.Options(options["jobs"], options["force"], options["skip_existing"], options["as_json"])
    return batch.run(jobs, flags, work)
