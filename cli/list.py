"""`codec list`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

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
        default = "".join(f"  (default for {kind})" for kind, name in codec.DEFAULT_MODELS.items() if name == info.name)
        text = f"{info.name:12s} {info.media:6s} {info.system} v{info.version}  {size / 1e6:.1f} MB"
        click.echo(json.dumps(row) if as_json else text + _facts(info.facts, info.media) + default)
    return 0


def _facts(facts: dict[str, Any], media: str) -> str:
    """Return what is known of a model in a line: its size, its work, what `codec eval --record` measured."""
    from codec.evaluation.scales import RATES

    unit, parts = RATES[media], []
    if "parameters" in facts:
        parts.append(f"{facts['parameters'] / 1e6:.1f} M parameters")
    for fact, position in (("kmac_per_pixel", "px"), ("kmac_per_instant", "instant")):
        if fact in facts:
            parts.append(f"{facts[fact]:.1f} kMAC/{position} to decode")
    if "measured" in facts:
        (_, low, worst), *_, (_, high, best) = facts["measured"]["points"]
        rates = f"{low:.{unit.digits - 1}f}..{high:.{unit.digits - 1}f} {unit.unit}"
        parts.append(f"{facts['measured']['data']}: {rates}, {worst:.1f}..{best:.1f} dB")
        deltas = facts["measured"]["bd_rate"].items()
        parts += [f"{value:+.1f} % vs {anchor}" for anchor, value in deltas if ":" not in anchor]  # --json has all
    return "".join(f"  {part}" for part in parts)
