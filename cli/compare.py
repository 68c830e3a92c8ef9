"""`codec compare`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("compare")
@click.argument("a", metavar="A", type=click.Path(exists=True, dir_okay=False))
@click.argument("b", metavar="B", type=click.Path(exists=True, dir_okay=False))
@click.option("--metric", "metrics", metavar="NAME,...", multiple=True, help="[default: all that are installed]")
@click.option(
    "--weights", metavar="NAME=FILE", multiple=True, help="Network of lpips or dists; see `codec eval --help`."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object on stdout.")
def command(a: str, b: str, metrics: tuple[str, ...], weights: tuple[str, ...], as_json: bool) -> int:
    """Measure how much two files differ.

    A is the original. Both are pictures of any kind, .lcb included; they have to have the same size.
    """
    from codec.cli.options import named_files, names
    from codec.evaluation import metrics as table
    from codec.evaluation.scales import scale_of
    from codec.rate import bits_per_pixel

    try:
        networks = named_files(weights)
        chosen, left_out = table.choose(names(metrics), networks)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    for problem in left_out:
        click.echo(f"codec: left out: {problem}", err=True)
    pictures = [_read(name) for name in (a, b)]
    values = table.compare(*pictures, chosen, networks)
    report = {}
    for key, name, picture in zip("ab", (a, b), pictures, strict=True):
        size = Path(name).stat().st_size
        report[key] = {"file": name, "bytes": size, "bpp": bits_per_pixel(size, picture.width, picture.height)}
    identical = values["mse"] == 0
    if as_json:
        size = {"width": pictures[0].width, "height": pictures[0].height}
        click.echo(json.dumps(report | size | {"identical": identical, "metrics": values}))
        return 0
    for entry in report.values():
        click.echo(f"{entry['file']}  {entry['bytes']:,} bytes  {entry['bpp']:.4f} bpp")
    for name, value in values.items():
        unit = scale_of(name).unit
        click.echo(f"  {name:12s}{_number(name, value, identical)}{f' {unit}' if unit and value is not None else ''}")
    return 0


def _number(name: str, value: float | None, identical: bool) -> str:
    if value is not None:
        return f"{value:.6g}"
    return "infinite: the pixels are the same" if name == "psnr" and identical else "not defined for this size"


def _read(name: str):
    import codec

    with Path(name).open("rb") as file:
        start = file.read(16)
    from codec.container import SIGNATURE

    return codec.decode(name) if start.startswith(SIGNATURE) else codec.read(name)
