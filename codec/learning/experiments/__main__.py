"""The command line of the experiments."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from codec.errors import CodecError

_NAMES = ("classify", "colorize", "esc10", "separate", "teacher")


@click.command()
@click.argument("name", type=click.Choice(_NAMES))
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="[default: runs/NAME]")
@click.option("--threads", type=click.IntRange(1), help="Of the processor. [default: all]")
def main(name: str, data: Path, output: Path | None, threads: int | None) -> None:
    """Run an experiment on the files in DATA and print its table.

    \b
    classify   DATA/train, validation and test with a folder a class: latents against pixels
    colorize   a folder of photographs: colours from gray, latents against pixels
    esc10      the clips of ESC-10: latents against samples and spectra
    separate   the stems of a song: one of them from the mixture
    teacher    as classify: the network that teaches `student`
    """
    import torch

    if threads:
        torch.set_num_threads(threads)
    experiment = import_module(f"codec.learning.experiments.{name}")
    begun = time.perf_counter()
    tell = lambda text: click.echo(f"{time.perf_counter() - begun:6.0f} s  {text}", err=True)
    try:
        rows = experiment.run(data, output or Path("runs") / name, tell=tell)
    except CodecError as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(table(rows))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a table in Markdown; what a row has no value for is left empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([str(row.get(name, "")) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
