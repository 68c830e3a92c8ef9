"""`codec tokens`."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import click

from codec.atomic import atomic_path
from codec.container import SIGNATURE
from codec.errors import CorruptError

_FIELDS = ("tokens", "model", "rate", "length")


@click.command("tokens")
@click.argument("source", metavar="IN", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@click.option("-m", "--model", help="Model whose codebooks to use for sound, or instead of the one an .npz names.")
@click.option("-q", "--quality", type=click.FloatRange(0, 100), default=100, show_default=True, help="More books.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the output.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    source: Path, output: Path, model: str | None, quality: float, force: bool, device: str, as_json: bool
) -> int:
    """Turn sound, or an .lcb file of it, into tokens; or tokens into sound.

    \b
    codec tokens speech.wav -o speech.npz    tokens [books, frames] int32, model, rate, length
    codec tokens speech.lcb -o speech.npz    those that are in the file
    codec tokens speech.npz -o speech.wav    back; the first books alone are enough
    """
    report = (
        _to_sound(source, output, model, device, force)
        if source.suffix.lower() == ".npz"
        else _to_tokens(source, output, model, quality, device, force)
    )
    report = {"input": str(source), "output": str(output)} | report
    shape = "x".join(map(str, report["tokens"]))
    click.echo(
        json.dumps(report) if as_json else f"{source} -> {output}  {shape} tokens of {report['model']}", err=not as_json
    )
    return 0


def _to_tokens(
    source: Path, output: Path, model: str | None, quality: float, device: str, force: bool
) -> dict[str, Any]:
    import numpy as np

    import codec

    if output.suffix.lower() != ".npz":
        raise click.UsageError(f"{output}: tokens go to an .npz file")
    data = source.read_bytes()
    if not data.startswith(SIGNATURE):
        sound = codec.read(source)
        name = model or codec.DEFAULT_MODELS["speech"]
        data = codec.encode(sound, model=name, quality=quality, device=device)
    elif model:
        raise click.UsageError("an .lcb file has its model; leave -m out")
    stream = codec.open(data, device=device)
    if stream.kind != "audio":
        raise ValueError(f"{source} holds an {stream.kind}, not sound")
    tokens, info = stream.tokens(), stream.info
    with atomic_path(output, overwrite=force) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, tokens=tokens, model=info.model, rate=info.rate, length=info.length)
    return {"tokens": list(tokens.shape), "model": info.model, "rate": info.rate, "length": info.length}


def _to_sound(source: Path, output: Path, model: str | None, device: str, force: bool) -> dict[str, Any]:
    import numpy as np

    import codec

    try:
        with np.load(source, allow_pickle=False) as archive:
            found = {name: archive[name] for name in _FIELDS if name in archive}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as exc:
        raise CorruptError(f"{source}: not an archive of arrays ({exc})") from exc
    if "tokens" not in found or not (model or "model" in found):
        raise CorruptError(f"{source}: lacks tokens or model; give the model with -m")
    name = model or str(found["model"])
    rate, length = (int(found[key]) if key in found else None for key in ("rate", "length"))
    sound = codec.from_tokens(found["tokens"], name, rate=rate, length=length, device=device)
    with atomic_path(output, overwrite=force) as temporary, temporary.open("wb") as file:
        codec.write(sound, file, output.suffix.lstrip(".").lower())
    return {"tokens": list(found["tokens"].shape), "model": name, "rate": sound.rate, "length": sound.length}
