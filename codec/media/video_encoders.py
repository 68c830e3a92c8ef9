"""Which encoders and containers video can be written with, and what each cannot hold.

Defaults are visually lossless, as what was decoded is what should be seen: H.264 by x264 for mp4, mov, mkv and avi.
webm is VP9, which every browser plays and which keeps odd sizes and 4:4:4; 10 bits go to AV1 there, as the VP9 encoder
that comes with PyAV has 8. RGB becomes 4:4:4 YCbCr where an encoder has it, not coded RGB, which would take more bytes
and few players show. Lossless is ffv1. x264 and x265 have 4:2:0 in even sizes only; odd ones become 4:4:4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from codec.errors import MediaError
from codec.media.video import VideoFormat


@dataclass(frozen=True)
class Encoder:
    """How FFmpeg encodes.

    Attributes:
        name: FFmpeg's; empty: none is needed.
        pixels: what frames of each of `codec.media.video.PIXELS` become; one that is missing becomes the closest.
        options: settings.
        odd: what 4:2:0 of odd size becomes, where the encoder has none.
        colours: whether its streams say matrix, primaries, transfer and range.
        aspect: whether its streams say the shape of pixels.
        least: pixels of either side below which it fails.
    """

    name: str
    pixels: Mapping[str, str]
    options: Mapping[str, str] = field(default_factory=dict)
    odd: Mapping[str, str] = field(default_factory=dict)
    colours: bool = True
    aspect: bool = True
    least: int = 1


@dataclass(frozen=True)
class Container:
    """How FFmpeg muxes.

    Attributes:
        muxer: FFmpeg's name; empty: planes of one frame after another, written without it.
        encoders: names, the default first.
        tags: names of tags it keeps; None: any.
        rotation, colours, aspect: whether it says these by itself.
        steady: whether frames have no times, only a rate.
        sound: whether it can hold any.
    """

    muxer: str
    encoders: tuple[str, ...]
    tags: tuple[str, ...] | None = None
    rotation: bool = True
    colours: bool = True
    aspect: bool = True
    steady: bool = False
    sound: bool = True


_MANY = {"yuv420p": "yuv420p", "yuv420p10le": "yuv420p10le", "rgb24": "yuv444p", "rgb48le": "yuv444p10le"}
_ODD = {"yuv420p": "yuv444p", "yuv420p10le": "yuv444p10le"}
_PLAIN = {"yuv420p": "yuv420p", "yuv420p10le": "yuv420p10le", "rgb24": "rgb24", "rgb48le": "rgb48le"}
ENCODERS = {
    "x264": Encoder("libx264", _MANY, {"preset": "medium", "crf": "12"}, _ODD),
    "x265": Encoder(
        "libx265",
        _MANY,
        {"preset": "medium", "crf": "12", "x265-params": "log-level=none"},
        _ODD,
        least=64,  # x265 4.1 writes past its memory at widths such as 48
    ),
    "av1": Encoder(
        "libsvtav1",
        {"yuv420p": "yuv420p", "yuv420p10le": "yuv420p10le", "rgb24": "yuv420p", "rgb48le": "yuv420p10le"},
        {"preset": "8", "crf": "12"},
        aspect=False,
    ),
    "vp9": Encoder(
        "libvpx-vp9",
        {"yuv420p": "yuv420p", "rgb24": "yuv444p"},
        {"crf": "12", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
        aspect=False,
    ),
    "ffv1": Encoder(
        "ffv1",
        {"yuv420p": "yuv420p", "yuv420p10le": "yuv420p10le", "rgb24": "bgr0", "rgb48le": "gbrp16le"},
        {"level": "3", "slicecrc": "1"},
        colours=False,
        aspect=False,
    ),
    "utvideo": Encoder("utvideo", {"yuv420p": "yuv420p", "rgb24": "gbrp"}, colours=False, aspect=False),
    "y4m": Encoder("", _MANY, colours=False),
    "raw": Encoder("", _PLAIN, colours=False, aspect=False),
}
_MP4_TAGS = (  # those FFmpeg's muxer has atoms for
    "title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping",
    "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "track", "disc", "creation_time",
)  # fmt: skip
_MOV_TAGS = (
    "title", "artist", "album", "date", "comment", "genre", "copyright", "location", "make", "model", "creation_time",
)  # fmt: skip
_AVI_TAGS = ("title", "artist", "copyright", "comment", "date", "genre", "track")
CONTAINERS = {
    "mp4": Container("mp4", ("x264", "x265", "av1", "vp9"), _MP4_TAGS),
    "mkv": Container("matroska", ("x264", "x265", "av1", "vp9", "ffv1"), aspect=False),
    "webm": Container("webm", ("vp9", "av1"), aspect=False),
    "mov": Container("mov", ("x264", "x265"), _MOV_TAGS),
    "avi": Container("avi", ("x264", "ffv1", "utvideo"), _AVI_TAGS, rotation=False, colours=False, aspect=False,
                     steady=True),
    "y4m": Container("", ("y4m",), (), rotation=False, colours=False, steady=True, sound=False),
    "yuv": Container("", ("raw",), (), rotation=False, colours=False, aspect=False, steady=True, sound=False),
}  # fmt: skip
_SUFFIX = {"m4v": "mp4", "matroska": "mkv", "qt": "mov", "raw": "yuv", "rgb": "yuv", "yuv4mpeg": "y4m"}


def format_of(name: str) -> str:
    """Return the container of a suffix or format name such as `.m4v`.

    Raises:
        MediaError: video cannot be written in it.
    """
    key = name.lower().removeprefix(".")
    key = _SUFFIX.get(key, key)
    if key not in CONTAINERS:
        raise MediaError(f"cannot write {name!r} video; use one of {', '.join(CONTAINERS)}")
    return key


def encoder_for(container: str, format: VideoFormat, wanted: str | None = None) -> str:
    """Return the name of the encoder to use: the one wanted, or the container's first that keeps the bits.

    Raises:
        MediaError: it does not exist, or the container cannot hold it.
    """
    names = CONTAINERS[container].encoders
    if wanted is None:
        return next((name for name in names if format.pixels in ENCODERS[name].pixels), names[0])
    if wanted not in ENCODERS:
        raise MediaError(f"unknown encoder {wanted!r}; use one of {', '.join(names)}")
    if wanted not in names:
        raise MediaError(f"{container} cannot hold {wanted} video here; use one of {', '.join(names)}")
    if min(format.width, format.height) < ENCODERS[wanted].least:
        raise MediaError(
            f"{wanted} fails below {ENCODERS[wanted].least}x{ENCODERS[wanted].least} pixels; use {names[0]}"
        )
    if format.pixels not in ENCODERS[wanted].pixels:
        have = [name for name in names if format.pixels in ENCODERS[name].pixels]
        raise MediaError(f"{wanted} has no {format.pixels}; use {' or '.join(have) or 'mkv'}")
    return wanted


def pixels_for(encoder: Encoder, format: VideoFormat) -> str:
    """Return FFmpeg's name of the pixels that frames of a format are given to an encoder as."""
    odd = format.width % 2 or format.height % 2
    return encoder.odd.get(format.pixels, encoder.pixels[format.pixels]) if odd else encoder.pixels[format.pixels]
