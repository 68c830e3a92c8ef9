"""The sound beside a video, into a .lcb file and out of it: copied packets, or coded by a model for sound."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np

from codec import checkpoint
from codec.container import SIGNATURE
from codec.engine import audio
from codec.errors import MediaError
from codec.media import audio as media
from codec.media.sound_tracks import copy_sound

WAYS = ("copy", "code", "none")
_WRITTEN = {"mkv": "flac", "mp4": "m4a", "mov": "m4a", "avi": "wav", "webm": "opus"}  # container -> for coded sound
_MUXED = ("mkv", "avi")  # where what is written is no file that the writer of video reads, unless in Matroska
_TRIMMED = "opus"  # by its decoder, of what the encoder added in front


@contextmanager
def tracks_of(
    source: Any, way: str, *, start: Fraction | None = None, quality: float = 60.0, device: str = "auto"
) -> Iterator[list[BinaryIO]]:
    """Yield files with the sound beside a video, to be put into a .lcb file as they are; there may be none.

    Args:
        source: path, bytes or binary file; a `Video` has no sound.
        way: `copy` packets as they are, `code` each track anew, or `none`.
        start: when the first picture is shown, see `copy_sound`.
        quality: of tracks that are coded, 0..100.

    Raises:
        MediaError: a track cannot be read or carried.
    """
    if way not in WAYS:
        raise ValueError(f"sound must be one of {', '.join(WAYS)}, not {way!r}")
    with ExitStack() as opened:
        copied = opened.enter_context(tempfile.TemporaryFile())
        if way == "none" or not copy_sound(source, copied, start=start):
            yield []
            return
        copied.seek(0)
        if way == "copy":
            yield [copied]
            return
        yield [opened.enter_context(_coded(copied, i, quality, device)) for i in range(_count(copied))]


@contextmanager
def playable(tracks: Sequence[bytes], container: str, *, device: str = "auto") -> Iterator[list[BinaryIO]]:
    """Yield the tracks of a clip as files that `codec.media.video_writer.Writer` takes.

    Those that were coded are decoded and written as FLAC for mkv, AAC for mp4 and mov, Opus for webm, PCM for avi.

    Args:
        container: see `codec.media.video_encoders.format_of`.

    Raises:
        FormatError, UnknownSystemError, MissingModelError: a track that was coded cannot be decoded.
    """
    with ExitStack() as opened:
        files = []
        for track in tracks:
            written, muxed = (opened.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            if not is_coded(track):
                written.write(track)
            else:
                _play(track, written, _WRITTEN[container], device)
                if container in _MUXED:
                    written.seek(0)
                    _separate(written, 0, muxed)
                    written = muxed
            written.seek(0)
            files.append(written)
        yield files


def is_coded(track: bytes) -> bool:
    """Tell a .lcb file of sound from copied packets."""
    return track.startswith(SIGNATURE)


def _count(file: BinaryIO) -> int:
    with av.open(file) as container:
        count = len(container.streams.audio)
    file.seek(0)
    return count


@contextmanager
def _coded(copied: BinaryIO, index: int, quality: float, device: str) -> Iterator[BinaryIO]:
    """Yield a track of a Matroska file as a .lcb file that begins with the first picture."""
    with tempfile.TemporaryFile() as alone, tempfile.TemporaryFile() as out:
        begin, name = _separate(copied, index, alone)
        with media.Reader(alone) as reader:
            model = checkpoint.find_model(checkpoint.sound_model(reader.channels, reader.rate))
            encoder = audio.Encoder(
                model, checkpoint.load(model, device), rate=reader.rate, layout=reader.layout,
                channels=reader.channels, depth=reader.depth, quality=quality,
            )  # fmt: skip
            skip = 0 if name == _TRIMMED and begin < 0 else -round(begin * reader.rate)
            if skip < 0:
                out.write(encoder.push(np.zeros((reader.channels, -skip), np.float32)))
            for block in reader:
                rest = block[:, max(skip, 0) :]
                skip -= block.shape[1]
                out.write(encoder.push(rest))
            out.write(encoder.finish())
        out.seek(0)
        yield out


def _separate(copied: BinaryIO, index: int, alone: BinaryIO) -> tuple[Fraction, str]:
    """Copy one track of a file into a Matroska file; return when it begins, in seconds, and the codec's name."""
    copied.seek(0)
    with av.open(copied) as container, av.open(alone, "w", format="matroska") as output:
        stream = container.streams.audio[index]
        added = output.add_stream_from_template(stream)
        for packet in container.demux(stream):
            if packet.size:
                packet.stream = added
                output.mux(packet)
        tags = {key.lower(): value for key, value in stream.metadata.items()}
        try:
            begin = Fraction(tags.get("begin", "0"))
        except (ValueError, ZeroDivisionError) as exc:
            raise MediaError(f"track {index} of the sound says it begins at {tags['begin']!r}; leave it out") from exc
        name = stream.codec_context.codec.canonical_name
    alone.seek(0)
    return begin, name


def _play(track: bytes, file: BinaryIO, format: str, device: str) -> None:
    """Decode a .lcb file of sound into a file."""
    decoder = audio.Decoder(io.BytesIO(track), device=device)
    form = {"rate": decoder.rate, "layout": decoder.layout, "depth": decoder.depth}
    with media.Writer(file, format, **form) as writer:
        for block in decoder:
            writer.write(block)
