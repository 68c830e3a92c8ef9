"""The codecs of `codec.evaluation.video_anchors` as families to evaluate.

    x264:crf=18..42/4      x265:preset=slow      av1:preset=4,crf=25..60      vp9

`crf` is the encoders' own scale of quality, smaller for better; the rate of a point is the size of its files.
"""

from __future__ import annotations

from typing import Any

from codec.evaluation import video_anchors
from codec.evaluation.codecs import Codec, Option, family, one_of, real, whole
from codec.evaluation.video_anchors import ANCHORS, CONTAINERS, PRESETS, TUNES
from codec.media.video import Video


def _crf(high: int, *default: int) -> Option:
    return Option("quality, 0 is best", real(0, high), tuple(map(str, default)), spans=True)


_CONTAINER = Option("of the file", one_of(*CONTAINERS), CONTAINERS[:1])
_X26 = {
    "crf": _crf(51, 18, 22, 26, 30, 34, 38, 42),
    "preset": Option("placebo is slowest", one_of(*PRESETS), ("medium",)),
    "tune": Option("what it is tuned for", one_of(*TUNES), TUNES[:1]),
    "container": _CONTAINER,
}


def _codec(name: str, options: dict[str, Any], container: str) -> Codec:
    """Return an anchor with some options, on as many threads as torch has."""
    import torch

    threads = torch.get_num_threads()
    given = {key: str(value) for key, value in options.items()}

    def encode(video: Video) -> bytes:
        return video_anchors.encode(name, video, given, threads=threads, container=container)

    def decode(data: bytes) -> Video:
        return video_anchors.decode(name, data, threads=threads, container=container)

    shown = options | {"container": container, "threads": threads}
    return Codec(ANCHORS[name].version(), shown, encode, decode)


def _x26(name: str, options: dict[str, str]) -> Codec:
    chosen = {"crf": float(options["crf"]), "preset": options["preset"]}
    if options["tune"] != TUNES[0]:
        chosen["tune"] = options["tune"]
    return _codec(name, chosen, options["container"])


@family(kind="anchor", media="video", options=_X26)
def x264(options: dict[str, str]) -> Codec:
    """H.264 by x264."""
    return _x26("x264", options)


@family(kind="anchor", media="video", options=_X26)
def x265(options: dict[str, str]) -> Codec:
    """HEVC by x265."""
    return _x26("x265", options)


@family(
    kind="anchor",
    media="video",
    options={
        "crf": Option("quality, 1 is best", whole(1, 63), ("25", "32", "39", "46", "53", "60", "63"), spans=True),
        "preset": Option("0 is slowest", whole(0, 13), ("4",)),
        "container": _CONTAINER,
    },
)
def av1(options: dict[str, str]) -> Codec:
    """AV1 by SVT-AV1."""
    chosen = {"crf": int(options["crf"]), "preset": int(options["preset"])}
    return _codec("av1", chosen, options["container"])


@family(
    kind="anchor",
    media="video",
    options={
        "crf": _crf(63, 20, 28, 36, 44, 52, 60),
        "speed": Option("cpu-used, 0 is slowest", whole(0, 5), ("1",)),
        "container": _CONTAINER,
    },
)
def vp9(options: dict[str, str]) -> Codec:
    """VP9 by libvpx, constant quality in one pass."""
    chosen = {"crf": int(float(options["crf"])), "cpu-used": int(options["speed"])}
    return _codec("vp9", chosen, options["container"])
