"""`codec decode`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from codec import live
from codec.cli import batch, picture, sound, video
from codec.container import parse_header
from codec.errors import CodecError, MediaError
from codec.limits import MAX_MEMORY
from codec.params import KINDS, unpack


@click.command("decode")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...", type=click.Path(exists=True, allow_dash=True))
@click.option(
    "--to", "format_name", metavar="FORMAT", help="png, wav, flac, mp4, ... [default: OUT's, or png, wav, mp4]"
)
@click.option(
    "--max-memory", type=click.IntRange(1), default=MAX_MEMORY >> 20, show_default=True, help="MiB a decode may take."
)
@click.option("--salvage", is_flag=True, help="Decode what is whole of damaged sound or video, or the whole layers.")
@click.option("--repair", is_flag=True, help="Of damaged images: predict what is lost, and say where.")
@click.option("--layers", type=click.IntRange(1), help="Of images in layers: decode the first so many. [default: all]")
@click.option("--encoder", metavar="NAME", help="Of video: x264, x265, av1, vp9, ffv1, ... [default: by OUT's format]")
@click.option("--frames", metavar="A:B", help="Of video: frames A to B - 1, counted from 0.")
@click.option("--clip", type=click.IntRange(0), default=0, help="Of video with several clips: which one. [default: 0]")
@batch.shared_options
def command(
    inputs: tuple[str, ...],
    output: str | None,
    format_name: str | None,
    recursive: bool,
    max_memory: int,
    max_pixels: int,
    salvage: bool,
    repair: bool,
    layers: int | None,
    encoder: str | None,
    frames: str | None,
    clip: int,
    **options: Any,
) -> int:
    """Decompress .lcb files to images, sound and video.

    photo.lcb becomes photo.png beside it, song.lcb song.wav, clip.lcb clip.mp4 (clip.mkv if mp4 cannot hold what is in
    it); -o names a file or folder. IN may be - for stdin; sound is then decoded as it comes in.
    """
    video.range_of(frames)  # a mistake in it is one error, not one a file
    if repair and salvage:
        raise click.UsageError("--repair and --salvage exclude each other")
    if format_name is None:
        named = output not in (None, batch.STDIO) and not Path(output).is_dir() and not output.endswith("/")
        format_name = Path(output).suffix if named else None
    if format_name:
        _known(format_name)
        suffix = lambda source: "." + format_name.lower().removeprefix(".")
    else:
        suffix = lambda source: _suffix(source, encoder)
    jobs = batch.plan(inputs, output, suffix, lambda path: path.suffix == ".lcb", recursive=recursive)

    limits = {"max_pixels": max_pixels, "max_memory": max_memory << 20}
    shown = picture.Options(
        format_name or "png", repair, salvage, layers, options["device"], options["force"], limits
    )  # fmt: skip

    def work(job: batch.Job, progress: Any) -> dict[str, Any]:
        batch.check_target(job.target, force=options["force"])
        start = live.read_start(click.get_binary_stream("stdin")) if job.source == batch.STDIO else b""
        kind = _kind_of(start) if start else _kind(job.source)
        if kind != "image" and (repair or layers):
            raise ValueError(f"--repair and --layers are for images, not for {kind}; --salvage decodes what is whole")
        if kind == "video":
            from codec.media.video_writer import format_of

            return video.decode(
                job, progress, data=start + batch.read_input(job.source),
                container=format_of(format_name or _suffix(job.source, encoder)), encoder=encoder, frames=frames,
                clip=clip, device=options["device"], force=options["force"], salvage=salvage,
                limits=limits,
            )  # fmt: skip
        if kind == "audio":
            return sound.decode(
                job, progress, start=start, format=format_name or "wav", device=options["device"],
                force=options["force"], salvage=salvage,
            )  # fmt: skip
        return picture.decode(job, progress, shown, data=start + batch.read_input(job.source))

    flags = batch.Options(options["jobs"], options["force"], options["skip_existing"], options["as_json"])
    return batch.run(jobs, flags, work)


def _known(name: str) -> None:
    """Refuse a format that nothing can be written in, before any work."""
    from codec.media import audio_writer, image, video_encoders

    problems = []
    for media in (image, audio_writer, video_encoders):
        try:
            media.format_of(name)
            return
        except MediaError as exc:
            problems.append(exc)
    raise problems[0]


def _suffix(source: str, encoder: str | None) -> str:
    """Return the suffix of what a .lcb file becomes where none was asked for."""
    kind = _kind(source)
    if kind == "video":
        return video.suffix_for(source, encoder)
    return ".wav" if kind == "audio" else ".png"


def _kind(source: str) -> str:
    """Return the kind of signal in a .lcb file; what cannot be told is found out by decoding it."""
    try:
        with Path(source).open("rb") as file:
            return _kind_of(live.read_start(file))
    except (CodecError, OSError):
        return "image"


def _kind_of(start: bytes) -> str:
    return KINDS[unpack(parse_header(start)[1])["kind"]]
