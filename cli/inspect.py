"""`codec inspect`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from codec.cli import batch, exits
from codec.errors import CodecError


@click.command("inspect")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...", type=click.Path(exists=True, allow_dash=True))
@click.option("--check", is_flag=True, help="Also decode all symbols and name damaged units.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file on stdout.")
def command(inputs: tuple[str, ...], check: bool, as_json: bool) -> int:
    """Show what is in .lcb files, without decoding. Checksums are verified."""
    import codec

    codes = []
    for name in inputs:
        try:
            data = batch.read_input(name)
            stream = codec.open(data, tolerant=check)
            report: dict[str, Any] = {"input": name} | dataclasses.asdict(stream.info)
            problems = stream.problems() if check else []
            if check:
                report |= {"problems": problems, "symbols": None if problems else stream.symbols_digest()}
        except (CodecError, OSError) as exc:
            click.echo(f"codec: {name}: {exits.message_of(exc)}", err=True)
            codes.append(exits.code_of(exc))
            continue
        click.echo(json.dumps(report) if as_json else _describe(report))
        if problems:
            codes.append(exits.DAMAGED)
    return exits.PARTIAL if codes and len(inputs) > 1 else max(codes, default=0)


def _describe(report: dict[str, Any]) -> str:
    overhead = report["bytes"] - report["payload_bytes"]
    metadata = ", ".join(f"{name} {size} bytes" for name, size in report["metadata"].items()) or "none"
    size, rate = f"{report['width']}x{report['height']}", ""
    if report["kind"] == "audio":
        length = "its end is missing" if report["seconds"] is None else f"{report['seconds']:.3f} s"
        size = f"{report['rate']} Hz {report['layout']}, {length}"
    if report["kind"] == "video":
        size += (
            f" {report['pixels']}, {report['frames']} frames at {report['fps']:g} a second, {report['seconds']:.3f} s"
        )
    if report["bpp"] is not None:
        rate = f"{report['bpp']:.4f} bpp, "
    if report["kbps"] is not None:
        rate += f"{report['kbps']:.2f} kbit/s, "
    lines = [
        f"{report['input']}",
        f"  {report['kind']}     {size}, {report['channels']} channels, {report['bit_depth']} bits",
        f"  file      {report['bytes']} bytes, {rate}{overhead} bytes around the payload",
        f"  coded by  {report['system']} version {report['version']}, model "
        f"{report['model'] or 'not installed'} ({report['digest']}), "
        + ("single rate" if report["single_rate"] else f"quality {report['quality']:g}"),
        f"  units     {report['units']}",
        f"  beside it {metadata}",
    ]
    if report["kind"] == "video" and report["clips"] > 1:
        lines.insert(-1, f"  clips     {report['clips']}, of {', '.join(map(str, report['clip_frames']))} frames")
    if report["layers"]:
        sizes = ", ".join(map(str, report["layers"]))
        lines.insert(-1, f"  layers    {len(report['layers'])}, of {sizes} bytes")
    lines += [f"  problem   {text}" for text in report.get("problems", [])]
    if report.get("problems") == []:
        lines.append(f"  checked   all symbols decode, SHA-256 {report['symbols'][:16]}...")
    return "\n".join(lines)
