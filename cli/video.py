"""What encode and decode do with video: group by group, so that no clip fills the memory, and fits can be resumed."""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from codec.atomic import atomic_path
from codec.cli import batch, sound
from codec.limits import UNLIMITED

if TYPE_CHECKING:
    from codec.checkpoint import ModelInfo
    from codec.engine.journal import Journal
    from codec.engine.video import Archive
    from codec.info import Info
    from codec.media.video import VideoFormat
    from codec.media.video_raw import RawFormat
    from codec.stream import Stream
    from codec.video_system import VideoSystem

_HEAD = 4096  # bytes that tell what a file is


@dataclass(frozen=True)
class Options:
    """How video is encoded; see `codec encode --help`."""

    model: str | None
    quality: float | None
    effort: int
    group: int | None
    sound: str
    strip: bool
    resume: bool
    force: bool
    device: str
    max_pixels: int
    raw: RawFormat | None = None


@contextmanager
def told(source: str) -> Iterator[tuple[str, bool]]:
    """Yield where a file, or what waits on stdin, is read from, and whether it is video.

    What begins like video may turn out to be sound, and is read more than once, so stdin is then copied to a file.
    """
    from codec.media.kinds import kind_of

    if source != batch.STDIO:
        yield source, kind_of(source) == "video"
        return
    stdin = click.get_binary_stream("stdin")
    if not hasattr(stdin, "peek") or kind_of(bytes(stdin.peek(_HEAD)[:_HEAD])) != "video":
        yield source, False
        return
    with _copied(stdin) as name:
        yield name, kind_of(name) == "video"


def raw_format(pixels: str, size: str | None, rate: str | None) -> RawFormat:
    """Return the form of frames without a header from `352x288` and `30` or `30000/1001`.

    Raises:
        click.UsageError: one of them is missing or something else.
    """
    from codec.media.video_raw import RawFormat

    try:
        width, height = map(int, (size or "").lower().split("x"))
        form = RawFormat(width, height, pixels, Fraction(rate or ""))
        form.format  # noqa: B018 - it checks the numbers
    except (ValueError, ZeroDivisionError) as exc:
        raise click.UsageError("raw video needs --size such as 352x288 and --rate such as 30 or 30000/1001") from exc
    return form


def encode(
    job: batch.Job, source: str, report: batch.Report, options: Options, *, targets: dict[str, float], verify: bool
) -> dict[str, Any]:
    """Compress video and return the report.

    Args:
        source: where it is read from, see `told`.
    """
    import codec
    from codec import checkpoint

    started = time.perf_counter()
    with _source(source, once=not targets and not verify) as source:
        if targets:
            data = codec.encode(
                source, model=options.model, **targets, effort=options.effort, strip=options.strip, group=options.group,
                sound=options.sound, raw=options.raw, device=options.device, max_pixels=options.max_pixels,
                progress=report, tell=report.tell,
            )  # fmt: skip
            batch.write_output(job.target, data, force=options.force)
        else:
            model = checkpoint.find_model(options.model or codec.DEFAULT_MODELS["video"])
            system = checkpoint.load(model, options.device)
            if system.media != "video":
                raise ValueError(f"the model {model.name} is for {system.media}, not for video")
            with fit_for(job, options, model, system) as journal:
                parts = parts_of(source, report, options, model, system, journal=journal)
                write(job.target, parts, journal, force=options.force)
        seconds = time.perf_counter() - started
        if job.target == batch.STDIO:
            return {}
        stream = codec.open(job.target, device=options.device, max_pixels=options.max_pixels, max_memory=UNLIMITED)
        result = facts(job, stream.info) | {"seconds": round(seconds, 4)}
        if verify:
            result["psnr"] = round(_psnr(stream, source, options), 4)
    return result


def facts(job: batch.Job, info: Info) -> dict[str, Any]:
    """Return what is reported of a file that has been encoded."""
    names = ("bytes", "bpp", "kbps", "width", "height", "frames", "fps", "clips", "groups", "model", "quality")
    return {"input": job.source, "output": job.target} | {name: getattr(info, name) for name in names}


@contextmanager
def fit_for(
    job: batch.Job, options: Options, model: ModelInfo, system: VideoSystem, **more: Any
) -> Iterator[Journal | None]:
    """Yield the folder for a long fit from file to file, which is removed once the block ends; else None.

    Args:
        more: JSON values that say what is encoded, beside the source and the options.
    """
    import codec
    from codec.engine.journal import Journal, fingerprint

    if not system.fits or batch.STDIO in (job.source, job.target):
        yield None
        return
    raw = options.raw and [options.raw.width, options.raw.height, options.raw.pixels, str(options.raw.rate)]
    quality = codec.DEFAULT_QUALITY if options.quality is None else options.quality
    identity = {
        "source": fingerprint(Path(job.source)), "model": f"{model.system} {model.version} {model.digest}",
        "quality": quality, "effort": options.effort, "group": options.group, "raw": raw,
    } | more  # fmt: skip
    journal = Journal(Path(job.target), identity, resume=options.resume, force=options.force)
    try:
        yield journal
    except BaseException:
        if journal.empty:
            journal.remove()
        else:
            click.echo(f"codec: what has been found is in {journal.folder}; --resume goes on from there", err=True)
        raise
    journal.remove()


def write(target: str, parts: Iterable[bytes], journal: Journal | None, *, force: bool) -> None:
    """Write a file that appears whole or not at all; while a journal lasts it grows in the fit's folder."""
    if journal is None:
        with sound.output(target, force=force) as out:
            for part in parts:
                out.write(part)
        return
    with journal.stream.open("wb") as out:
        for part in parts:
            out.write(part)
    with atomic_path(Path(target), overwrite=force) as temporary:
        journal.stream.replace(temporary)


def parts_of(
    source: Any,
    report: batch.Report,
    options: Options,
    model: ModelInfo,
    system: VideoSystem,
    *,
    journal: Journal | None,
    archive: Archive | None = None,
) -> Iterator[bytes]:
    """Yield the bytes of a clip, or what adds it to an archive."""
    import codec
    from codec.engine.video import encode_source

    return encode_source(
        source, model, system, quality=codec.DEFAULT_QUALITY if options.quality is None else options.quality,
        effort=options.effort, group=options.group, strip=options.strip, sound=options.sound, raw=options.raw,
        archive=archive, journal=journal, device=options.device, max_pixels=options.max_pixels, progress=report,
        tell=report.tell,
    )  # fmt: skip


@contextmanager
def _source(name: str, *, once: bool) -> Iterator[Any]:
    """Yield a path, or raw frames from stdin: as they are if they are read through once, otherwise copied to a file."""
    if name != batch.STDIO:
        yield name
        return
    stdin = click.get_binary_stream("stdin")
    if once:
        yield stdin
        return
    with _copied(stdin) as copy:
        yield copy


@contextmanager
def _copied(stdin: BinaryIO) -> Iterator[str]:
    """Yield the name of a file with all that comes in."""
    with tempfile.NamedTemporaryFile(prefix="codec-") as file:
        shutil.copyfileobj(stdin, file)
        file.flush()
        yield file.name


def _psnr(stream: Stream, source: Any, options: Options) -> float:
    from codec.engine import clips

    with clips.opened(source, options.raw) as clip:
        return clips.psnr(stream.frames(), clip)


# --- decoding ---------------------------------------------------------------------------------------------------------


def range_of(text: str | None) -> tuple[int, int | None]:
    """Return the first frame and the one after the last from `A:B`, `A:` or `:B`.

    Raises:
        click.UsageError: it is something else.
    """
    if text is None:
        return 0, None
    first, colon, last = text.partition(":")
    if not colon or not (first or "0").isdecimal() or not (last or "0").isdecimal():
        raise click.UsageError(f"--frames takes A:B with A counted from 0 and B left out, not {text!r}")
    return int(first or 0), int(last) if last else None


def suffix_for(source: str, encoder: str | None) -> str:
    """Return .mp4, or .mkv where mp4 cannot hold the sound or pixels of a .lcb file, which is found out by trying."""
    import numpy as np

    import codec
    from codec.engine import soundtracks
    from codec.errors import MediaError
    from codec.media.video import Frames
    from codec.media.video_writer import Writer

    stream = codec.open(source, tolerant=True)
    form = stream.format_of()
    copied = [track for track in stream.sound_of() if not soundtracks.is_coded(track)]
    still = tuple(np.zeros((1, *shape), form.dtype) for shape in form.plane_shapes)
    try:
        with Writer(io.BytesIO(), "mp4", form, encoder=encoder, sound=copied) as writer:
            writer.write(Frames(still, (0,)))
    except MediaError:
        return ".mkv"
    return ".mp4"


def decode(
    job: batch.Job, report: batch.Report, *, data: bytes, container: str, encoder: str | None, frames: str | None,
    clip: int, device: str, force: bool, salvage: bool, limits: dict[str, int],
) -> dict[str, Any]:  # fmt: skip
    """Decompress video and return the report.

    Args:
        data: the .lcb file.
        container: see `codec.media.video_writer.format_of`.
        salvage: decode what is whole of a damaged file, with the frame before for what is not.
    """
    import codec
    from codec.engine import soundtracks
    from codec.media.video_encoders import CONTAINERS
    from codec.media.video_writer import Writer

    started = time.perf_counter()
    say = lambda text: click.echo(f"codec: {job.source}: {text}", err=True)
    stream = codec.open(data, device=device, tolerant=salvage, **limits)
    form, tracks = stream.format_of(clip), stream.sound_of(clip)
    begin, end = range_of(frames)
    if tracks and (frames or not CONTAINERS[container].sound):
        say("sound is left out of a part" if frames else f"{container} holds no sound; left out")
        tracks = ()
    blocks = stream.frames(
        start=begin, stop=end, clip=clip, progress=report,
        damaged=(lambda text: say(f"{text}; the frame before instead")) if salvage else None,
    )  # fmt: skip
    count = 0
    with soundtracks.playable(tracks, container, device=device) as files, sound.output(job.target, force=force) as out:
        with Writer(out, container, form, encoder=encoder, metadata=stream.tags_of(clip), sound=files) as writer:
            for block in blocks:
                writer.write(block)
                count += len(block)
        if writer.lost:
            click.echo(f"codec: {job.target}: {container} cannot hold {', '.join(writer.lost)}; left out", err=True)
    return _decoded(job, stream, form, count) | {"seconds": round(time.perf_counter() - started, 4)}


def _decoded(job: batch.Job, stream: Stream, form: VideoFormat, count: int) -> dict[str, Any]:
    return {
        "input": job.source,
        "output": job.target,
        "bytes": Path(job.target).stat().st_size if job.target != batch.STDIO else None,
        "width": form.width,
        "height": form.height,
        "frames": count,
        "fps": float(form.rate),
        "model": stream.info.model,
        "quality": stream.info.quality,
    }
