"""The video codecs that others use: x264, x265, SVT-AV1 and VP9 by PyAV, in memory.

`encode` makes a complete file of a `Video`, `decode` makes a `Video` of such a file again. The rate of an anchor is the
size of that file:

    bpp = 8 * len(file) / (width * height * frames)

A file is by default the raw stream, than which there is no smaller one that a player reads: Annex B of H.264 and HEVC,
the low-overhead format of AV1 (its section 5), and IVF for VP9, which has none (12 bytes a frame). It holds no times,
so frames come back at a constant rate. What x264 and x265 say about themselves in the stream (about 700 bytes) is left
out. `container="mp4"` is what a user of ffmpeg gets instead, with times, for 10 to 20 bytes a frame.

Encoders get the planes of 4:2:0 sources untouched; RGB is converted to 4:2:0 first, and is decoded to 4:2:0. Groups of
pictures, lookahead and B frames are the encoders' own. Decoders are FFmpeg's, of AV1 dav1d.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import av
import av.error
import numpy as np
from av.bitstream import BitStreamFilterContext

from codec.errors import MediaError
from codec.evaluation.chroma import subsampled, subsampled_frames
from codec.evaluation.libraries import runtime, stated_version
from codec.media.video import Frames, Video, VideoFormat
from codec.media.video_frames import FULL, arrays_of, frame_of, is_full

CONTAINERS = ("raw", "mp4")
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
TUNES = ("none", "psnr", "ssim", "film", "animation", "grain")  # of x264; x265 has no film
_SEI = "filter_units=remove_types=6"  # NAL units of H.264 by which x264 tells its settings
_IN_ORDER = 2  # frames, which no encoder reorders; x265 leaves the time of decoding of so few unset
_DEFAULT_TIMES = Fraction(1, 25)  # seconds a frame where a raw stream does not even tell the rate


@dataclass(frozen=True)
class VideoAnchor:
    """One codec.

    Attributes:
        name: for readers.
        encoder: FFmpeg's name.
        raw: FFmpeg's name of its raw stream.
        pixels: that it takes.
        even: width and height have to be.
        options: number of threads -> options that are always given to it.
        version: of the encoder and what it runs in, for rows.
        filter: of packets, or nothing.
    """

    name: str
    encoder: str
    raw: str
    pixels: tuple[str, ...]
    even: bool
    options: Callable[[int], Mapping[str, str]]
    version: Callable[[], str]
    filter: str = ""


def encode(
    name: str, video: Video, options: Mapping[str, str], *, threads: int = 1, container: str = CONTAINERS[0]
) -> bytes:
    """Return a video as the whole file of an anchor.

    Args:
        name: one of `ANCHORS`.
        options: FFmpeg's, `crf` for instance.
        threads: of the encoder. The file depends on their number; the same number gives the same file.
        container: one of `CONTAINERS`.

    Raises:
        MediaError: the encoder cannot take such a video or option.
    """
    anchor = ANCHORS[name]
    source, target = video.format, _target(anchor, video.format)
    os.environ.setdefault("SVT_LOG", "1")  # errors only; it writes to stderr
    out, raw = io.BytesIO(), container != "mp4"
    try:
        with av.open(out, "w", format=anchor.raw if raw else "mp4", options={"fflags": "+bitexact"}) as file:
            stream = file.add_stream(anchor.encoder, rate=source.rate, options={**anchor.options(threads), **options})
            _describe(stream.codec_context, target, threads)
            stream.codec_context.time_base = 1 / Fraction(source.rate) if raw else source.time_base
            mux = _muxer(file, stream, anchor, in_order=video.length <= _IN_ORDER)
            for number, planes in enumerate(subsampled_frames(video, target)):
                frame = _frame(planes, target)
                frame.pts = number if raw else video.frames.times[number]
                frame.time_base = stream.codec_context.time_base
                mux(stream.encode(frame))
            mux(stream.encode(None))
            mux([None])
    except (av.error.FFmpegError, ValueError) as exc:
        words = " ".join(f"{key}={value}" for key, value in options.items())
        raise MediaError(f"{anchor.name} cannot encode {video!r} with {words} ({exc}); try other options") from exc
    return out.getvalue()


def decode(name: str, data: bytes, *, threads: int = 1, container: str = CONTAINERS[0]) -> Video:
    """Return the video of a file, in the pixels that are coded.

    Args:
        name, container: what it was encoded as.

    Raises:
        MediaError: the file is damaged.
    """
    raw = container != "mp4"
    planes: tuple[list[np.ndarray], ...] = ([], [], [])
    times: list[int] = []
    form: VideoFormat | None = None
    try:
        with av.open(io.BytesIO(data), format=ANCHORS[name].raw if raw else "mp4") as file:
            stream = file.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "AUTO", threads
            for frame in file.decode(stream):
                form = form or _format_of(frame)
                times.append(len(times) if raw else frame.pts)
                for kept, plane in zip(planes, arrays_of(frame), strict=True):
                    kept.append(plane.copy())  # FFmpeg uses the memory again
            stated, counted = stream.codec_context.framerate, stream.average_rate
            rate = (stated or counted if raw else counted or stated) or 1 / _DEFAULT_TIMES
            base = 1 / rate if raw else stream.time_base
    except (av.error.FFmpegError, AttributeError, IndexError, ValueError) as exc:  # without a codec PyAV has None
        raise MediaError(f"the file cannot be decoded ({exc}); encode again") from exc
    if form is None:
        raise MediaError("the file holds no frames; encode again")
    whole = tuple(np.stack(kept) for kept in planes)
    return Video(replace(form, rate=Fraction(rate), time_base=Fraction(base)), Frames(whole, tuple(times)))


def _target(anchor: VideoAnchor, source: VideoFormat) -> VideoFormat:
    """Return the format an anchor is given."""
    target = subsampled(source)
    if target.pixels not in anchor.pixels:
        raise MediaError(f"{anchor.name} takes {', '.join(anchor.pixels)} here, not {source.pixels}; leave it out")
    if anchor.even and (source.width % 2 or source.height % 2):
        raise MediaError(f"{anchor.name} takes even sizes, not {source.width}x{source.height}; scale the video")
    return target


def _describe(context: av.VideoCodecContext, form: VideoFormat, threads: int) -> None:
    context.width, context.height, context.pix_fmt = form.width, form.height, form.pixels
    context.thread_count = threads
    context.colorspace, context.color_primaries, context.color_trc = form.matrix, form.primaries, form.transfer
    context.sample_aspect_ratio = form.aspect
    if form.full:
        context.color_range = FULL


def _muxer(
    file: av.container.OutputContainer, stream: av.VideoStream, anchor: VideoAnchor, *, in_order: bool
) -> Callable[[list[av.Packet | None]], None]:
    """Return a function that writes packets; None among them ends the stream."""
    passing = BitStreamFilterContext(anchor.filter, stream) if anchor.filter else None

    def mux(packets: list[av.Packet | None]) -> None:
        for packet in packets:
            for each in passing.filter(packet) if passing else [packet] * (packet is not None):
                if in_order:
                    each.dts = each.pts
                file.mux(each)

    return mux


def _frame(planes: tuple[np.ndarray, ...], form: VideoFormat) -> av.VideoFrame:
    frame = frame_of(planes, form.pixels)
    frame.colorspace, frame.color_range = form.matrix, FULL if form.full else 0
    return frame


def _format_of(frame: av.VideoFrame) -> VideoFormat:
    """Return what a decoded frame says, but for its rate."""
    return VideoFormat(
        frame.width,
        frame.height,
        1 / _DEFAULT_TIMES,
        frame.format.name.replace("yuvj", "yuv"),
        matrix=int(frame.colorspace),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        full=is_full(frame),
    )


@lru_cache(maxsize=1)
def _x264_version() -> str:
    """Return what x264 says of itself in a stream; no function of its library tells more than a number."""
    with av.open(io.BytesIO(), "w", format="h264") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        grey = np.full((16, 16), 128, np.uint8)
        packets = stream.encode(_frame((grey, grey[:8, :8], grey[:8, :8]), VideoFormat(16, 16, Fraction(25))))
        head = b"".join(map(bytes, [*packets, *stream.encode(None)]))
    _, _, said = head.partition(b"x264 - ")
    return said.partition(b" - ")[0].decode("ascii", "replace")


def _version(name: str, number: str) -> str:
    return f"{name} {number}".rstrip() + f" ({runtime()})"


_ALL = ("yuv420p", "yuv420p10le")
ANCHORS = {
    "x264": VideoAnchor(
        "x264", "libx264", "h264", _ALL, True, lambda _: {}, lambda: _version("x264", _x264_version()), _SEI
    ),
    "x265": VideoAnchor(
        "x265",
        "libx265",
        "hevc",
        _ALL,
        True,
        lambda threads: {"x265-params": f"log-level=none:info=0:pools={threads}:frame-threads={threads}"},
        lambda: _version("x265", stated_version("libx265", "x265_version_str", variable=True)),
    ),
    "av1": VideoAnchor(
        "SVT-AV1",
        "libsvtav1",
        "obu",
        _ALL,
        False,
        lambda _: {},
        lambda: _version("SVT-AV1", stated_version("libSvtAv1Enc", "svt_av1_get_version")),
    ),
    "vp9": VideoAnchor(
        "VP9",
        "libvpx-vp9",
        "ivf",
        _ALL[:1],
        False,
        lambda _: {"b": "0", "deadline": "good", "row-mt": "0"},
        lambda: _version("libvpx", stated_version("libvpx", "vpx_codec_version_str")),
    ),
}
