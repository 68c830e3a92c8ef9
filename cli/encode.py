"""`codec encode`."""

from __future__ import annotations

import time
from typing import Any

import click

from codec.cli import batch, sound, video
from codec.cli.options import Size
from codec.limits import UNLIMITED
from codec.media.kinds import is_signal
from codec.params import MAX_GROUP, PIXELS

_RAW_SOUND = ("s16le", "s24le", "s32le", "f32le")


@click.command("encode")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...", type=click.Path(exists=True, allow_dash=True))
@click.option("-m", "--model", help="Model; see `codec list models`. [default: that of the kind]")
@click.option("-q", "--quality", type=click.FloatRange(0, 100), help="0 (small) to 100 (good). [default: 60]")
@click.option("-e", "--effort", type=click.IntRange(1, 10), default=1, show_default=True, help="1 (fast) to 10.")
@click.option("--bpp", type=click.FloatRange(0, min_open=True), help="At most so many bits per pixel.")
@click.option("--kbps", type=click.FloatRange(0, min_open=True), help="At most so many kilobits a second.")
@click.option("--target-size", type=Size(), help="At most so many bytes, e.g. 40k.")
@click.option("--psnr", type=click.FloatRange(0, min_open=True), help="At least so many dB.")
@click.option("--strip", is_flag=True, help="Leave ICC, EXIF, XMP and tags out.")
@click.option("--raw", type=click.Choice([*_RAW_SOUND, *PIXELS]), help="IN is sound or video without a header.")
@click.option("--rate", help="Of raw sound: samples a second; of raw video: frames, such as 30 or 30000/1001.")
@click.option("--layout", help="Of raw sound: mono, stereo, 5.1, ...")
@click.option("--size", metavar="WxH", help="Of raw video, such as 352x288.")
@click.option("--group", type=click.IntRange(1, MAX_GROUP), help="Of video: frames a unit. [default: the model's]")
@click.option(
    "--sound",
    "way",
    type=click.Choice(["copy", "code", "none"]),
    default="copy",
    show_default=True,
    help="Of video: what becomes of its sound.",
)
@click.option("--resume", is_flag=True, help="Go on with an encode of video that was interrupted.")
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
    rate: str | None,
    layout: str | None,
    size: str | None,
    group: int | None,
    way: str,
    resume: bool,
    recursive: bool,
    verify: bool,
    max_pixels: int,
    **options: Any,
) -> int:
    """Compress images, sound and video to .lcb files.

    photo.jpg becomes photo.lcb beside it; -o names a file or folder. IN may be - for stdin; sound is then coded as it
    comes in. Models that fit themselves to a video keep what they have found in OUT.lcb.fit/ until they are done;
    --resume goes on there after an interruption.
    """
    targets = {"bpp": bpp, "kbps": kbps, "target_size": target_size, "psnr": psnr}
    targets = {key: value for key, value in targets.items() if value is not None}
    if len(targets) + (quality is not None) > 1:
        raise click.UsageError("-q, --bpp, --kbps, --target-size and --psnr exclude each other")
    raw_sound, raw_video = _raw(raw, rate, layout, size)
    jobs = batch.plan(inputs, output, lambda source: ".lcb", is_signal, recursive=recursive)

    import codec

    if model:
        codec.find_model(model)  # a wrong name is one error, not one a file

    def work(job: batch.Job, progress: batch.Report) -> dict[str, Any]:
        batch.check_target(job.target, force=options["force"])
        if raw:
            return film(job, job.source, progress) if raw_video else listen(job, progress)
        with video.told(job.source) as (source, is_video):
            if is_video:
                return film(job, source, progress)
            there = batch.Job(source, job.target)
            streamed = sound.is_sound(source) and not targets and not verify
            return (listen if streamed else whole)(there, progress) | {"input": job.source}

    def film(job: batch.Job, source: str, progress: batch.Report) -> dict[str, Any]:
        chosen = video.Options(
            model, quality, options["effort"], group, way, options["strip"], resume, options["force"],
            options["device"], max_pixels, raw_video,
        )  # fmt: skip
        return video.encode(job, source, progress, chosen, targets=targets, verify=verify)

    def listen(job: batch.Job, progress: batch.Report) -> dict[str, Any]:
        if targets or verify:
            raise click.UsageError("a target or --verify needs the whole file; encode a .wav instead of --raw")
        return sound.encode(
            job, progress, model=model, quality=codec.DEFAULT_QUALITY if quality is None else quality,
            effort=options["effort"], strip=options["strip"], device=options["device"], force=options["force"],
            raw=raw_sound,
        )  # fmt: skip

    def whole(job: batch.Job, progress: batch.Report) -> dict[str, Any]:
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


def _raw(raw: str | None, rate: str | None, layout: str | None, size: str | None) -> tuple[dict[str, Any], Any]:
    """Return what to know of raw sound, and the form of raw video, None if it is not video.

    Raises:
        click.UsageError: options are missing, or of something else.
    """
    if raw in PIXELS:
        if layout is not None:
            raise click.UsageError("--layout is for raw sound")
        return {}, video.raw_format(raw, size, rate)
    if size is not None:
        raise click.UsageError("--size is for raw video")
    if (raw is None) != (rate is None) or (raw is None) != (layout is None):
        raise click.UsageError("--raw, --rate and --layout belong together")
    if rate is not None and not rate.isdecimal():
        raise click.UsageError(f"--rate of sound is a whole number, not {rate!r}")
    return {"raw": raw, "rate": rate and int(rate), "layout": layout}, None


def _facts(job: batch.Job, info: Any) -> dict[str, Any]:
    """Return what is reported of a file that has been encoded."""
    names = {"bytes": info.bytes, "model": info.model, "quality": info.quality}
    if info.kind == "audio":
        names |= {"kbps": info.kbps, "rate": info.rate, "layout": info.layout, "duration": info.seconds}
    else:
        names |= {"bpp": info.bpp, "width": info.width, "height": info.height}
    return {"input": job.source, "output": job.target} | names
