"""`codec tokens`."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from codec.atomic import atomic_path
from codec.cli import batch
from codec.cli.progress import progress
from codec.container import SIGNATURE
from codec.errors import CodecError, CorruptError

if TYPE_CHECKING:
    import numpy as np

    from codec.info import Info
    from codec.stream import Stream

PICTURES = "vqgan"  # model for pictures when none is named; the default one has no codebook


@click.command("tokens")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...", type=click.Path(exists=True))
@click.option("-o", "--output", required=True, metavar="OUT", help="File, or for several pictures a folder.")
@click.option("-m", "--model", help="Model whose codebooks to use; else that of an .npz or .lcb, vqgan, rvq-speech.")
@click.option(
    "-q", "--quality", type=click.FloatRange(0, 100), default=100, show_default=True, help="More books or tokens."
)
@click.option("-r", "--recursive", is_flag=True, help="Take the pictures in folders.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the output.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    inputs: tuple[str, ...],
    output: str,
    model: str | None,
    quality: float,
    recursive: bool,
    force: bool,
    device: str,
    as_json: bool,
) -> int:
    """Turn pictures or sound, or .lcb files of them, into tokens; or tokens into pictures or sound.

    \b
    codec tokens -r photos/ -o photos.npz    tokens of pictures, by vqgan
    codec tokens photo.lcb -o photo.npz      those that are in the file
    codec tokens photos.npz -o back/         back; -o back.png if there is one
    codec tokens speech.wav -o speech.npz    tokens of one sound, by rvq-speech
    codec tokens speech.npz -o speech.wav    back; the first books alone are enough

    \b
    An .npz of pictures holds, for numpy.load:
      tokens          [pictures, h, w] int32, or [pictures, regions, n] of onedpiece
      tokens_0, ...   instead, one each, where the grids have different shapes
      model           its name
      names           [pictures] files they become again
      width, height   [pictures] pixels
    tokens and model are enough to go back.

    \b
    An .npz of sound: tokens [books, frames] int32, model, rate, length.
    """
    if any(name.lower().endswith(".npz") for name in inputs):
        if len(inputs) > 1:
            raise click.UsageError("one .npz at a time goes back; give it alone")
        report = {"input": inputs[0], "output": output} | _back(Path(inputs[0]), output, model, device, force)
    else:
        report = _tokens(inputs, output, model, quality, recursive=recursive, device=device, force=force)
    shape = "x".join(map(str, report["tokens"])) if report["tokens"] else "unequal grids of"
    line = f"{report['input']} -> {output}  {shape} tokens of {report['model']}"
    click.echo(json.dumps(report) if as_json else line, err=not as_json)
    return 0


# --- signals to tokens -----------------------------------------------------------------------------------------


def _tokens(
    inputs: Sequence[str], output: str, model: str | None, quality: float, *, recursive: bool, device: str, force: bool
) -> dict[str, Any]:
    import numpy as np

    if not output.lower().endswith(".npz"):
        raise click.UsageError(f"{output}: tokens go to an .npz file")
    jobs = batch.plan(inputs, "." + os.sep, lambda source: ".png", _is_picture, recursive=recursive)
    batch.check_target(output, force=force)
    grids, infos = [], []
    with progress(len(jobs)) as (advance, _):
        for job in jobs:
            stream = _stream(job.source, model, quality, device)
            if stream.kind == "audio" and len(jobs) > 1:
                raise click.UsageError(f"{job.source} is sound; of sound, one file at a time")
            grids.append(stream.tokens())
            infos.append(stream.info)
            advance(1.0)
    facts = _facts(infos, [job.target for job in jobs])
    arrays = {"tokens": grids[0]} if infos[0].kind == "audio" else _stacked(grids)
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(Path(output), overwrite=force) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays, **facts)
    shape = list(arrays["tokens"].shape) if "tokens" in arrays else None
    return {"input": " ".join(inputs), "output": output, "tokens": shape} | facts


def _facts(infos: Sequence[Info], names: Sequence[str]) -> dict[str, Any]:
    """Return what is told beside the tokens of some files, in the form they have in an .npz.

    Raises:
        ValueError: the tokens are of several models.
    """
    info, models = infos[0], {info.model for info in infos}
    if len(models) > 1:
        raise ValueError(f"tokens of {' and '.join(sorted(models))} do not mix; write a file for each model")
    if info.kind == "audio":
        return {"model": info.model, "rate": info.rate, "length": info.length}
    sizes = {side: [getattr(info, side) for info in infos] for side in ("width", "height")}
    return {"model": info.model, "names": list(names)} | sizes


def _is_picture(path: Path) -> bool:
    """Tell which files of a folder are taken: what sound there is goes one by one."""
    from codec.media.kinds import SOUND_SUFFIXES, VIDEO_SUFFIXES, is_signal

    suffix = path.suffix.lower()
    return suffix == ".lcb" or (is_signal(path) and suffix not in (*SOUND_SUFFIXES, *VIDEO_SUFFIXES))


def _stream(source: str, model: str | None, quality: float, device: str) -> Stream:
    """Return a .lcb file, opened, or what encoding a signal gives.

    Raises:
        CodecError: it cannot be read; the message names it.
    """
    import codec
    from codec.media.kinds import kind_of

    with Path(source).open("rb") as file:
        coded = file.read(len(SIGNATURE)) == SIGNATURE
    if coded and model:
        raise click.UsageError("an .lcb file has its model; leave -m out")
    try:
        if coded:
            return codec.open(source, device=device)
        name = model or (codec.DEFAULT_MODELS["speech"] if kind_of(source) == "audio" else PICTURES)
        return codec.open(codec.encode(source, model=name, quality=quality, strip=True, device=device), device=device)
    except CodecError as exc:
        if source in str(exc):
            raise
        raise type(exc)(f"{source}: {exc}") from exc


def _stacked(grids: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return grids as one array, or one each where their shapes differ."""
    import numpy as np

    if len({grid.shape for grid in grids}) == 1:
        return {"tokens": np.stack(grids)}
    return {f"tokens_{i}": grid for i, grid in enumerate(grids)}


# --- tokens to signals -----------------------------------------------------------------------------------------


def _back(source: Path, output: str, model: str | None, device: str, force: bool) -> dict[str, Any]:
    import numpy as np

    import codec

    try:
        with np.load(source, allow_pickle=False) as archive:
            found = dict(archive.items())
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as exc:
        raise CorruptError(f"{source}: not an archive of arrays ({exc})") from exc
    if not ("tokens" in found or "tokens_0" in found) or not (model or "model" in found):
        raise CorruptError(f"{source}: lacks tokens or model; give the model with -m")
    name = model or str(found["model"])
    back = _to_pictures if codec.find_model(name).media == "image" else _to_sound
    return back(found, source, output, name, device, force)


def _to_sound(
    found: Mapping[str, np.ndarray], source: Path, output: str, model: str, device: str, force: bool
) -> dict[str, Any]:
    import codec

    if "tokens" not in found:
        raise CorruptError(f"{source}: holds tokens of pictures, and {model} makes sound; give another -m")
    rate, length = (int(found[key]) if key in found else None for key in ("rate", "length"))
    sound = codec.from_tokens(found["tokens"], model, rate=rate, length=length, device=device)
    with atomic_path(Path(output), overwrite=force) as temporary, temporary.open("wb") as file:
        codec.write(sound, file, Path(output).suffix.lstrip(".").lower())
    return {"tokens": list(found["tokens"].shape), "model": model, "rate": sound.rate, "length": sound.length}


def _to_pictures(
    found: Mapping[str, np.ndarray], source: Path, output: str, model: str, device: str, force: bool
) -> dict[str, Any]:
    import codec

    grids = _grids(found, source)
    names = _listed(found, "names", len(grids), source) or [f"{i:04d}.png" for i in range(len(grids))]
    sizes = [_listed(found, side, len(grids), source) or [None] * len(grids) for side in ("width", "height")]
    targets = _targets([str(name) for name in names], output, source)
    for target in targets:
        batch.check_target(str(target), force=force)
    with progress(len(grids)) as (advance, _):
        for grid, target, width, height in zip(grids, targets, *sizes, strict=True):
            picture = codec.from_tokens(grid, model, width=width, height=height, device=device)
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target, overwrite=force) as temporary, temporary.open("wb") as file:
                codec.write(picture, file, target.suffix.lstrip(".").lower())
            advance(1.0)
    shape = list(found["tokens"].shape) if "tokens" in found else None
    return {"tokens": shape, "model": model, "pictures": [str(target) for target in targets]}


def _grids(found: Mapping[str, np.ndarray], source: Path) -> list[np.ndarray]:
    """Return the tokens of each picture.

    Raises:
        CorruptError: they have no axis of pictures.
    """
    if "tokens" not in found:
        count = next(i for i in range(len(found) + 1) if f"tokens_{i}" not in found)
        return [found[f"tokens_{i}"] for i in range(count)]
    tokens = found["tokens"]
    if tokens.ndim not in (2, 3) or not len(tokens):
        raise CorruptError(f"{source}: tokens of shape {list(tokens.shape)}; of pictures they are [pictures, h, w]")
    return [tokens] if tokens.ndim == 2 else list(tokens)


def _listed(found: Mapping[str, np.ndarray], key: str, count: int, source: Path) -> list[Any] | None:
    """Return an array that has a value for each picture, None if there is no such array.

    Raises:
        CorruptError: it has another number of them, or no numbers where it should.
    """
    if key not in found:
        return None
    values = found[key].reshape(-1).tolist()
    if len(values) != count or (key != "names" and not all(isinstance(value, int) for value in values)):
        raise CorruptError(f"{source}: {key} is not one for each of {count} pictures; remove it")
    return values


def _targets(names: Sequence[str], output: str, source: Path) -> list[Path]:
    """Return the files to write: OUT itself for one picture, in the folder OUT for several.

    Raises:
        CorruptError: a name leads out of the folder, or two are alike.
    """
    folder = len(names) > 1 or Path(output).is_dir() or output.endswith(os.sep)
    if not folder:
        return [Path(output)]
    if Path(output).is_file():
        raise click.UsageError(f"-o {output} is a file, but there are several pictures; give a folder")
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or not path.name or ".." in path.parts or set(name) & set("\\:\0"):
            raise CorruptError(f"{source}: {name!r} is no name of a file in a folder; remove names")
    if len(set(names)) < len(names):
        raise CorruptError(f"{source}: two pictures have one name; remove names")
    return [Path(output) / name for name in names]
