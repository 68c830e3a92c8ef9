"""`codec compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
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

    A is the original. Both are pictures, or sounds, or videos, of any kind, .lcb included; they have to have the same
    size.
    Metrics of speech are measured of one channel at up to 24 kHz, or by --metric.
    """
    from codec.cli.options import named_files, names
    from codec.evaluation import metrics as table
    from codec.evaluation.medium import medium_of
    from codec.evaluation.scales import scale_of

    original, decoded = (_read(name) for name in (a, b))
    medium = medium_of(original)
    try:
        networks = named_files(weights)
        chosen, left_out = table.choose(names(metrics), networks, medium, [original])
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    for problem in left_out:
        click.echo(f"codec: left out: {problem}", err=True)
    values = table.compare(original, decoded, chosen, networks)
    report, unit = {}, medium.rate
    for key, name, signal in (("a", a, original), ("b", b, decoded)):
        size = Path(name).stat().st_size
        report[key] = {"file": name, "bytes": size, unit.name: medium.rate_of(size, medium.size_of(signal))}
    identical = values["mse"] == 0
    if as_json:
        click.echo(json.dumps(report | medium.size_of(original) | {"identical": identical, "metrics": values}))
        return 0
    for entry in report.values():
        click.echo(f"{entry['file']}  {entry['bytes']:,} bytes  {entry[unit.name]:.{unit.digits}f} {unit.unit}")
    width = max(12, *(len(name) + 2 for name in values))
    for name, value in values.items():
        number = _number(name, value, identical=identical, infinite=medium.infinite)
        click.echo(f"  {name:{width}s}{number}{f' {scale_of(name).unit}'.rstrip() if value is not None else ''}")
    return 0


def _number(name: str, value: float | None, *, identical: bool, infinite: Sequence[str]) -> str:
    if value is not None:
        return f"{value:.6g}"
    return "infinite: they are the same" if name in infinite and identical else "not defined for these"


def _read(name: str):
    import codec

    with Path(name).open("rb") as file:
        start = file.read(16)
    from codec.container import SIGNATURE

    return codec.decode(name) if start.startswith(SIGNATURE) else codec.read(name)
