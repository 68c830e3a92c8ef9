"""`codec pack`."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codec.cli import exits
from codec.cli.options import Size
from codec.cli.progress import bar
from codec.limits import MAX_PIXELS

if TYPE_CHECKING:
    from codec.packing.encoding import Encode, Encoded
    from codec.packing.run import Packing
    from codec.packing.sources import Sample

_ADVICE = "the same command tries them again"


@click.command("pack")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.option("-o", "--output", metavar="OUT", required=True, help="Folder of the shards.")
@click.option("-m", "--model", help="Model; see `codec list models`. [default: that of the first file's kind]")
@click.option("-q", "--quality", type=click.FloatRange(0, 100), default=60, show_default=True, help="0 to 100.")
@click.option("-e", "--effort", type=click.IntRange(1, 10), default=1, show_default=True, help="1 (fast) to 10.")
@click.option("--strip", is_flag=True, help="Leave ICC, EXIF, XMP and tags out.")
@click.option("--mirrored", is_flag=True, help="Add each picture with left and right exchanged.")
@click.option("--labels", metavar="folders|none|FILE", default="folders", show_default=True, help="See below.")
@click.option("--shuffle", is_flag=True, help="Mix the classes, in an order that hashes of the paths give.")
@click.option("--shard-size", type=Size(), default="256MB", show_default=True, help="Bytes a tar may have.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Processes of one thread each. [default: 1]")
@click.option("--ray", "address", metavar="ADDRESS", help="Use a Ray cluster: auto, HOST:PORT, ray://..., or local.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--max-pixels", type=click.IntRange(1), default=MAX_PIXELS, show_default=True, help="Refuse larger ones.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(folder: str, output: str, jobs: int | None, address: str | None, as_json: bool, **options: Any) -> int:
    """Encode the pictures, sounds or videos of a folder into tar shards with labels, for training on them.

    OUT gets shard-000000.tar and so on, which WebDataset reads (KEY.lcb, KEY.cls, KEY.mirror.lcb), a list beside each,
    and index.json with the settings, the names of the classes and what has failed.

    A file's label is the first folder below DIR, by name; or --labels FILE says it in lines of path,label.

    The same command goes on after an interruption, packs files that are new into further shards, and tries again what
    has failed. What it writes depends neither on interruptions nor on -j or --ray. Of a file that changes after it was
    packed it takes no notice. -j 1 works in one process, which goes down with a file that takes all the memory; with
    more processes, or Ray, such a file is one that has failed.

    Ray (pip install 'codec[ray]') works on machines that have the same models and see DIR under the same path;
    CODEC_MODELS is passed on.
    """
    if jobs is not None and address is not None:
        raise click.UsageError("-j is for this machine, and --ray for a cluster; give one of them")
    options = _checked(options)
    encode = _encoder(jobs or 1, address)

    from codec.packing.run import Options, opened

    started = time.perf_counter()
    with opened(Path(folder), Path(output), Options(**options)) as packing:
        added = _run(packing, encode)
        report = _report(packing, added) | {"seconds": round(time.perf_counter() - started, 4)}
    if as_json:
        click.echo(json.dumps(report))
    else:
        click.echo(_summary(report), err=True)
    if report["failed"]:
        click.echo(f"codec: {report['failed']} files failed; {_ADVICE}", err=True)
        return exits.PARTIAL
    return 0


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """Refuse what `click` cannot."""
    if options["labels"] not in ("folders", "none") and not Path(options["labels"]).is_file():
        raise click.UsageError(f"--labels {options['labels']!r} is no file; give folders, none or a file that exists")
    return options


def _encoder(jobs: int, address: str | None) -> Encode:
    if address is None:
        from codec.packing import pool

        return partial(pool.encode_all, workers=jobs)
    from codec.packing import cluster

    cluster.find_ray()  # before anything is written
    return partial(cluster.encode_all, address=address)


def _run(packing: Packing, encode: Encode) -> dict[str, int]:
    """Pack, show how it goes, and return what has been added."""
    added = {"added": 0, "coded_bytes": 0, "source_bytes": 0}
    with bar(len(packing.todo)) as shown:

        def report(sample: Sample, encoded: Encoded) -> None:
            shown.advance(1.0)
            if encoded.error:
                shown.echo(f"codec: {sample.source}: {encoded.error}")
                return
            added["added"] += 1
            added["coded_bytes"] += sum(map(len, encoded.members.values()))
            added["source_bytes"] += encoded.size

        try:
            packing.run(encode, report)
        except KeyboardInterrupt:
            shown.echo(f"codec: {packing.samples} samples are in {packing.output}; the same command goes on from there")
            raise
    return added


def _report(packing: Packing, added: dict[str, int]) -> dict[str, Any]:
    index = packing.index
    return {
        "output": str(packing.output),
        "samples": index.samples,
        "shards": len(index.shards),
        "bytes": sum(shard.bytes for shard in index.shards),
        **added,
        "failed": len(index.failed),
        "classes": len(index.classes),
        "model": index.settings["model"],
        "quality": index.settings["quality"],
    }


def _summary(report: dict[str, Any]) -> str:
    share = f" ({report['coded_bytes'] / report['source_bytes']:.1%})" if report["source_bytes"] else ""
    shards = f"{report['shards']} shard{'s' * (report['shards'] != 1)}, {report['bytes']:,} bytes"
    added = f"{report['added']:,} samples, {report['coded_bytes']:,} bytes of {report['source_bytes']:,}{share}"
    return f"{report['output']}  {report['samples']:,} samples in {shards}; new: {added}, {report['seconds']:.1f} s"
