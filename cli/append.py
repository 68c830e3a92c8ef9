"""`codec append`."""

from __future__ import annotations

import hashlib
import time
from itertools import chain
from pathlib import Path
from typing import Any

import click

from codec import container
from codec.cli import batch, video
from codec.limits import MAX_MEMORY, MAX_PIXELS
from codec.params import KINDS, MAX_GROUP, quality_of, unpack


@click.command("append")
@click.argument("archive", metavar="ARCHIVE", type=click.Path(exists=True, dir_okay=False))
@click.argument("source", metavar="IN", type=click.Path(exists=True, dir_okay=False))
@click.option("-m", "--model", help="Must be the archive's.")
@click.option("-q", "--quality", type=click.FloatRange(0, 100), help="0 to 100. [default: that of the last clip]")
@click.option("-e", "--effort", type=click.IntRange(1, 10), default=1, show_default=True, help="1 (fast) to 10.")
@click.option("--group", type=click.IntRange(1, MAX_GROUP), help="Frames a unit. [default: the model's]")
@click.option(
    "--sound", type=click.Choice(["copy", "code", "none"]), default="copy", show_default=True,
    help="What becomes of the clip's sound.",
)  # fmt: skip
@click.option("--strip", is_flag=True, help="Leave tags out.")
@click.option("--resume", is_flag=True, help="Go on with an append that was interrupted.")
@click.option("-f", "--force", is_flag=True, help="Start again where one was interrupted.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--max-pixels", type=click.IntRange(1), default=MAX_PIXELS, show_default=True, help="Refuse larger frames."
)
@click.option("--max-memory", type=click.IntRange(1), default=MAX_MEMORY >> 20, show_default=True, help="MiB to take.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object on stdout.")
def command(archive: str, source: str, as_json: bool, **options: Any) -> int:
    """Add a clip to a .lcb file of video, with the model that is in it.

    The clips before stay as they are, to the bit. Models that fit themselves to a video start from what they have
    learned of those. The file is replaced when the new clip is complete.
    """
    jobs = [batch.Job(source, archive)]
    work = lambda job, report: _append(job, report, **options)
    return batch.run(jobs, batch.Options(1, options["force"], False, as_json), work)


def _append(
    job: batch.Job,
    report: batch.Report,
    *,
    model: str | None,
    quality: float | None,
    group: int | None,
    max_memory: int,
    **options: Any,
) -> dict[str, Any]:
    """Add the clip and return the report."""
    import codec
    from codec import checkpoint
    from codec.engine.video import Archive

    started = time.perf_counter()
    data = Path(job.target).read_bytes()
    parsed = container.parse(data)
    last = unpack(parsed.clips[-1].params)
    if KINDS[last["kind"]] != "video":
        raise ValueError(f"{job.target} holds {KINDS[last['kind']]}; clips are added to video")
    info = checkpoint.find_digest(parsed.system, parsed.version, parsed.digest, "video")
    if model and checkpoint.find_model(model).digest != info.digest:
        raise ValueError(f"{job.target} was made with {info.name}; leave out -m, or encode a file of its own")
    system = checkpoint.load(info, options["device"])
    archive = Archive(parsed, data, system, max_pixels=options["max_pixels"], max_memory=max_memory << 20)
    quality = quality_of(last["quality"]) if quality is None else quality
    chosen = video.Options(info.name, quality, group=group, **options)
    with video.fit_for(job, chosen, info, system, archive=hashlib.sha256(data).hexdigest()) as journal:
        parts = video.parts_of(job.source, report, chosen, info, system, journal=journal, archive=archive)
        video.write(job.target, chain([data], parts), journal, force=True)
    result = video.facts(job, codec.open(job.target).info)
    more = {"added": result["bytes"] - len(data), "seconds": round(time.perf_counter() - started, 4)}
    return result | {"quality": quality} | more
