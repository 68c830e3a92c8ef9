"""What encode and decode do with sound: block by block, so that neither hours of it nor a live pipe fill the memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click

from codec.atomic import atomic_path
from codec.cli import batch

Progress = Callable[[float], None]


def is_sound(source: str) -> bool:
    """Tell whether a file, or what waits on stdin, is sound."""
    from codec.media.kinds import kind_of

    if source != batch.STDIO:
        return kind_of(source) == "audio"
    stdin = click.get_binary_stream("stdin")
    return hasattr(stdin, "peek") and kind_of(stdin.peek(16)[:16]) == "audio"


@contextmanager
def _input(source: str) -> Iterator[BinaryIO]:
    if source == batch.STDIO:
        yield click.get_binary_stream("stdin")
    else:
        with Path(source).open("rb") as file:
            yield file


@contextmanager
def output(target: str, *, force: bool) -> Iterator[BinaryIO]:
    """Open a file that appears whole or not at all, or stdout, which is flushed as it is written."""
    if target == batch.STDIO:
        stream = click.get_binary_stream("stdout")
        if stream.isatty():
            raise click.UsageError("will not write binary data to a terminal; use -o FILE or redirect")
        yield stream
        stream.flush()
        return
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(Path(target), overwrite=force) as temporary, temporary.open("wb") as file:
        yield file


def encode(
    job: batch.Job,
    progress: Progress,
    *,
    model: str | None,
    quality: float,
    effort: int,
    strip: bool,
    device: str,
    force: bool,
    raw: dict[str, Any],
) -> dict[str, Any]:
    """Compress sound and return the report."""
    import codec
    from codec import checkpoint
    from codec.engine.audio import Encoder
    from codec.media.audio import Reader
    from codec.rate import kilobits_per_second

    started = time.perf_counter()
    with _input(job.source) as file, Reader(file, **raw) as reader, output(job.target, force=force) as out:
        info = checkpoint.find_model(model or codec.default_model(reader))
        system = checkpoint.load(info, device)
        if system.media != "audio":
            raise ValueError(f"the model {info.name} is for {system.media}, not for audio")
        encoder = Encoder(
            info, system, rate=reader.rate, layout=reader.layout, channels=reader.channels, depth=reader.depth,
            quality=quality, effort=effort, tags={} if strip else reader.metadata,
        )  # fmt: skip
        length = size = 0
        for block in reader:
            size += _put(out, encoder.push(block))
            length += block.shape[1]
            progress(min(length / (reader.expected or length), 1.0))
        size += _put(out, encoder.finish())
    duration = length / reader.rate
    return {
        "input": job.source,
        "output": job.target,
        "bytes": size,
        "kbps": kilobits_per_second(size, duration) if length else None,
        "rate": reader.rate,
        "layout": reader.layout,
        "duration": duration,
        "model": info.name,
        "quality": quality,
        "seconds": round(time.perf_counter() - started, 4),
    }


def _put(out: BinaryIO, data: bytes) -> int:
    if data:
        out.write(data)
        out.flush()  # somebody may be listening
    return len(data)


def decode(
    job: batch.Job, progress: Progress, *, start: bytes, format: str, device: str, force: bool, salvage: bool
) -> dict[str, Any]:
    """Decompress sound and return the report.

    Args:
        start: the header, which has been read from stdin already; empty for a file.
        salvage: decode what is whole of a damaged file, with silence for what is not.
    """
    import codec
    from codec.engine.audio import Decoder
    from codec.media.audio import Writer

    started = time.perf_counter()
    with _input(job.source) as file, output(job.target, force=force) as out:
        if salvage:
            stream = codec.open(start + file.read(), device=device, tolerant=True)
            for problem in stream.problems():
                click.echo(f"codec: {job.source}: {problem}; silence instead", err=True)
            sound, info = stream.decode(), stream.info
            facts = {"model": info.model, "quality": info.quality}
            blocks = iter([sound.samples])
        else:
            sound = Decoder(file, start=start, device=device)
            facts = {"model": sound.model, "quality": sound.quality}
            blocks = iter(sound)
        block = next(blocks, None)  # tags come before the first unit
        form = {"rate": sound.rate, "layout": sound.layout, "depth": sound.depth, "metadata": sound.metadata}
        length = 0
        with Writer(out, format, **form) as writer:
            while block is not None:
                writer.write(block)
                out.flush()
                length += block.shape[1]
                progress(0.5)
                block = next(blocks, None)
        if writer.lost:
            click.echo(f"codec: {job.target}: {format} cannot hold {', '.join(writer.lost)}; left out", err=True)
    return {
        "input": job.source,
        "output": job.target,
        "bytes": Path(job.target).stat().st_size if job.target != batch.STDIO else None,
        "rate": sound.rate,
        "layout": sound.layout,
        "duration": length / sound.rate,
        **facts,
        "seconds": round(time.perf_counter() - started, 4),
    }
