"""`codec import`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from codec.errors import ExistsError


@click.command("import")
@click.argument("library", type=click.Choice(["compressai"]))
@click.argument("path", metavar="CHECKPOINT", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--arch", required=True, help="Architecture of the network, e.g. mbt2018-mean.")
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to make.")
@click.option("-f", "--force", is_flag=True, help="Overwrite a model in that folder.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(library: str, path: Path, arch: str, output: Path, force: bool, as_json: bool) -> int:
    """Turn a checkpoint of another library into a model.

    The folder can be given to `codec encode -m FOLDER/`; to decode, add the folder it lies in to CODEC_MODELS. Pickled
    checkpoints are read without running code.
    """
    if not force and (output / "model.json").exists():
        raise ExistsError(f"{output} holds a model already; use -f to overwrite")

    from codec.models.compressai import import_checkpoint

    info = import_checkpoint(path, arch, output)
    size = (output / "model.safetensors").stat().st_size
    if as_json:
        report = {"input": str(path), "output": str(output), "arch": arch, "digest": info.digest, "bytes": size}
        click.echo(json.dumps(report))
    else:
        click.echo(f"{path} -> {output}  {arch}  {size / 1e6:.1f} MB  digest {info.digest[:16]}", err=True)
    return 0
