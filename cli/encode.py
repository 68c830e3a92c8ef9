"""`codec encode`."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import click

from codec.cli import batch
from codec.limits import UNLIMITED

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


def _is_image(path: Path) -> bool:
    import PIL.Image

    PIL.Image.init()
    return path.suffix.lower() in PIL.Image.EXTENSION and path.suffix.lower() != ".lcb"


@click.command("encode")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...", type=click.Path(exists=True, allow_dash=True))
@click.option("-m", "--model", help="Model; see `codec list models`. [default: walloc-12]")
@click.option("-q", "--quality", type=click.FloatRange(0, 100), help="0 (small) to 100 (good). [default: 60]")
@click.option("-e", "--effort", type=click.IntRange(1, 10), default=1, show_default=True, help="1 (fast) to 10.")
@click.option("--bpp", type=click.FloatRange(0, min_open=True), help="At most so many bits per pixel.")
@click.option("--target-size", type=_Size(), help="At most so many bytes, e.g. 40k.")
@click.option("--psnr", type=click.FloatRange(0, min_open=True), help="At least so many dB.")
@click.option("--strip", is_flag=True, help="Leave ICC, EXIF and XMP out.")
@click.option("--verify", is_flag=True, help="Decode the result and report its PSNR.")
@batch.shared_options
def command(
    inputs: tuple[str, ...],
    output: str | None,
    model: str | None,
    quality: float | None,
    bpp: float | None,
    target_size: int | None,
    psnr: float | None,
    recursive: bool,
    verify: bool,
    max_pixels: int,
    **options: Any,
) -> int:
    """Compress images to .lcb files.

    photo.jpg becomes photo.lcb beside it; -o names a file or folder. IN may be - for stdin.
    """
    given = {"-q": quality, "--bpp": bpp, "--target-size": target_size, "--psnr": psnr}
    if sum(value is not None for value in given.values()) > 1:
        raise click.UsageError("-q, --bpp, --target-size and --psnr exclude each other")
    jobs = batch.plan(inputs, output, ".lcb", _is_image, recursive=recursive)

    import codec

    name = model or codec.DEFAULT_MODEL
    codec.find_model(name)  # a wrong name is one error, not one a file

    def work(job: batch.Job, progress: Any) -> dict[str, Any]:
        batch.check_target(job.target, force=options["force"])
        started = time.perf_counter()
        source = batch.read_input(job.source) if job.source == batch.STDIO else job.source
        picture = codec.read(source, max_pixels=max_pixels)
        data = codec.encode(
            picture, model=name, quality=quality, bpp=bpp, target_size=target_size, psnr=psnr,
            effort=options["effort"], strip=options["strip"], device=options["device"],
            max_pixels=max_pixels, progress=progress,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        stream = codec.open(data, device=options["device"], max_pixels=max_pixels, max_memory=UNLIMITED)
        result = {
            "input": job.source,
            "output": job.target,
            "bytes": len(data),
            "bpp": stream.info.bpp,
            "width": picture.width,
            "height": picture.height,
            "model": name,
            "quality": stream.info.quality,
            "seconds": round(seconds, 4),
        }
        if verify:
            result["psnr"] = round(codec.psnr_of(stream.decode(), picture), 4)
        batch.write_output(job.target, data, force=options["force"])
        return result

    flags = batch.Options(options["jobs"], options["force"], options["skip_existing"], options["as_json"])
    return batch.run(jobs, flags, work)
