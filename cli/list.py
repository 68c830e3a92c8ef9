"""`codec list`."""

from __future__ import annotations

import dataclasses
import json

import click


@click.command("list")
@click.argument("what", type=click.Choice(["models", "systems"]))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object an entry on stdout.")
def command(what: str, as_json: bool) -> int:
    """List installed models or systems."""
    import codec

    if what == "systems":
        for name, entry in sorted(codec.installed_systems().items()):
            origin = {"name": name, "object": entry.value, "package": entry.dist.name if entry.dist else None}
            click.echo(json.dumps(origin) if as_json else f"{name:12s} {entry.value}")
        return 0
    for info in codec.installed_models():
        size = (info.folder / "model.safetensors").stat().st_size
        row = dataclasses.asdict(info) | {"folder": str(info.folder), "bytes": size}
        facts = "  ".join(f"{key} {value}" for key, value in info.facts.items())
        default = "  (default)" if info.name == codec.DEFAULT_MODEL else ""
        text = f"{info.name:12s} {info.media:6s} {info.system} v{info.version}  {size / 1e6:.1f} MB  {facts}{default}"
        click.echo(json.dumps(row) if as_json else text)
    return 0
