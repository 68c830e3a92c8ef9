"""`codec predict`."""

from __future__ import annotations

import json
from typing import Any

import click

from codec.cli import batch, exits
from codec.container import SIGNATURE
from codec.errors import CodecError
from codec.limits import MAX_MEMORY, MAX_PIXELS


@click.command("predict")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, allow_dash=True))
@click.option("--top", type=click.IntRange(1), help="So many classes a file. [default: 1; all in JSON]")
@click.option(
    "-m", "--model", help="Model that serves a task, for files that are not .lcb; they are encoded in memory."
)
@click.option("-q", "--quality", type=click.FloatRange(0, 100), help="With -m: 0 (small) to 100. [default: 60]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--max-pixels", type=click.IntRange(1), default=MAX_PIXELS, show_default=True, help="Refuse larger images."
)
@click.option(
    "--max-memory", type=click.IntRange(1), default=MAX_MEMORY >> 20, show_default=True, help="MiB a file may take."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file on stdout.")
def command(
    inputs: tuple[str, ...],
    top: int | None,
    model: str | None,
    quality: float | None,
    device: str,
    max_pixels: int,
    max_memory: int,
    as_json: bool,
) -> int:
    """Say what pictures show, from .lcb files of models that serve a task.

    Prints a line a file: its name, bytes, classes and their probabilities. With -m, pictures that are not .lcb are
    encoded first, and the bytes are those they would take.
    """
    import codec

    if model:
        codec.find_model(model)  # a wrong name is one error, not one a file
    elif quality is not None:
        raise click.UsageError("-q is of an encoder; add -m MODEL")
    limits = {"max_pixels": max_pixels, "max_memory": max_memory << 20}

    def predict(name: str) -> dict[str, Any]:
        data = batch.read_input(name)
        if not data.startswith(SIGNATURE):
            if model is None:
                raise ValueError("not a .lcb file; add -m MODEL to encode it first")
            data = codec.encode(data, model=model, quality=quality, device=device, max_pixels=max_pixels)
        stream = codec.open(data, device=device, **limits)
        found = stream.predict()
        chosen = dict(list(found.probabilities.items())[:top])
        return {"input": name, "model": stream.info.model, "bytes": len(data), "label": found.label} | {
            "probabilities": chosen
        }

    codes = []
    for name in inputs:
        try:
            report = predict(name)
        except (CodecError, OSError, MemoryError, ValueError) as exc:
            text = exits.message_of(exc)
            click.echo(f"codec: {text if text.startswith(name) else f'{name}: {text}'}", err=True)
            codes.append(exits.code_of(exc))
            continue
        click.echo(json.dumps(report) if as_json else _line(report, top or 1))
    return exits.PARTIAL if codes and len(inputs) > 1 else max(codes, default=0)


def _line(report: dict[str, Any], top: int) -> str:
    classes = [f"{name} {100 * share:.1f} %" for name, share in list(report["probabilities"].items())[:top]]
    return f"{report['input']}  {report['bytes']:,} bytes  {', '.join(classes)}"
