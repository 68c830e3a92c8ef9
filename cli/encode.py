"""`codec encode`."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import click

from codec.cli import batch, sound
from codec.limits import UNLIMITED

_SOUNDS = {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff"}
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


class _Size(click.ParamType):
    """A number of bytes: 40000, 40k, 40KiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", value.strip().lower())
        if not match or float(match[1]) <= 0:
            self.fail(f"{value!r} is not a size such as 40000, 40k or 39KiB", param, context)
        return int(float(match[1]) * _UNITS[match[2] or ""])


def _is_signal(path: Path) -> bool:
    import PIL.Image

    PIL.Image.init()
    suffix = path.suffix.lower()
    return suffix in _SOUNDS or (suffix in PIL.Image.EXTENSION and suffix != ".lcb")


@click.command("encode")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...", type=click.Path(exists=True, allow_dash=True))
@click.option("-m", "--model", help="Model; see `codec list models`. [default: that of the kind]")
@click.option("-q", "--quality", type=click.FloatRange(0, 100), help="0 (small) to 100 (good). [default: 60]")
@click.option("-e", "--effort", type=click.IntRange(1, 10), default=1, show_default=True, help="1 (fast) to 10.")
@click.option("--bpp", type=click.FloatRange(0, min_open=True), help="At most so many bits per pixel.")
@click.option("--kbps", type=click.FloatRange(0, min_open=True), help="At most so many kilobits a second of sound.")
@click.option("--target-size", type=_Size(), help="At most so many bytes, e.g. 40k.")
@click.option("--psnr", type=click.FloatRange(0, min_open=True), help="At least so many dB.")
@click.option("--strip", is_flag=True, help="Leave ICC, EXIF, XMP and tags out.")
@click.option("--raw", type=click.Choice(["s16le", "s24le", "s32le", "f32le"]), help="IN is sound without a header.")
@click.option("--rate", type=click.IntRange(1), help="Of raw sound: samples a second.")
@click.option("--layout", help="Of raw sound: mono, stereo, 5.1, ...")
@click.option("--verify", is_flag=True, help="Decode the result and report its PSNR.")
@batch.shared_options
def command(
    inputs: tuple[str, ...],
    output: str | None,
    model: str | None,
    quality: float | None,
    bpp: float | None,
    target_size: int | None,
    kbps: float | None,
    psnr: float | None,
    raw: str | None,
    rate: int | None,
    layout: str | None,
    recursive: bool,
    verify: bool,
    max_pixels: int,
    **options: Any,
) -> int:
    """Compress images and sound to .lcb files.

    photo.jpg becomes photo.lcb beside it; -o names a file or folder. IN may be - for stdin; sound is then coded as it
    comes in.
    """
    targets = {"bpp": bpp, "kbps": kbps, "target_size": target_size, "psnr": psnr}
    targets = {key: value for key, value in targets.items() if value is not None}
    if len(targets) + (quality is not None) > 1:
        raise click.UsageError("-q, --bpp, --kbps, --target-size and --psnr exclude each other")
    if (raw is None) != (rate is None) or (raw is None) != (layout is None):
        raise click.UsageError("--raw, --rate and --layout belong together")
    jobs = batch.plan(inputs, output, lambda source: ".lcb", _is_signal, recursive=recursive)

    import codec

    if model:
        codec.find_model(model)  # a wrong name is one error, not one a file

    def work(job: batch.Job, progress: Any) -> dict[str, Any]:
        batch.check_target(job.target, force=options["force"])
        if raw or sound.is_sound(job.source):
            if not targets and not verify:
                return sound.encode(
                    job, progress, model=model,
                    quality=codec.DEFAULT_QUALITY if quality is None else quality, effort=options["effort"],
                    strip=options["strip"], device=options["device"], force=options["force"],
                    raw={"raw": raw, "rate": rate, "layout": layout},
                )  # fmt: skip
            if raw:
                raise click.UsageError("a target or --verify needs the whole file; encode a .wav instead of --raw")
        started = time.perf_counter()
        source = batch.read_input(job.source) if job.source == batch.STDIO else job.source
        signal = codec.read(source, max_pixels=max_pixels)
        data = codec.encode(
            signal, model=model, quality=quality, **targets, effort=options["effort"], strip=options["strip"],
            device=options["device"], max_pixels=max_pixels, progress=progress,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        stream = codec.open(data, device=options["device"], max_pixels=max_pixels, max_memory=UNLIMITED)
        result = _facts(job, stream.info) | {"seconds": round(seconds, 4)}
        if verify:
            result["psnr"] = round(codec.psnr_of(stream.decode(), signal), 4)
        batch.write_output(job.target, data, force=options["force"])
        return result

    flags = batch.Options(options["jobs"], options["force"], options["skip_existing"], options["as_json"])
    return batch.run(jobs, flags, work)


def _facts(job: batch.Job, info: Any) -> dict[str, Any]:
    """Return what is reported of a file that has been encoded."""
    names = {"bytes": info.bytes, "model": info.model, "quality": info.quality}
    if info.kind == "audio":
        names |= {"kbps": info.kbps, "rate": info.rate, "layout": info.layout, "duration": info.seconds}
    else:
        names |= {"bpp": info.bpp, "width": info.width, "height": info.height}
    return {"input": job.source, "output": job.target} | names
