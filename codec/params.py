"""The part of the header that follows the system: what kind of signal, its size, its quality.

Every system's parameters begin with the same 13 bits, so `codec inspect` can read them without the system's code.
Systems of a kind share its layout: `IMAGE`, `AUDIO`.
"""

from __future__ import annotations

from typing import Any

from codec.errors import CorruptError, TruncatedError, UnsupportedVersionError
from codec.fields import Field, Layout

QUALITY_STEPS = 1024  # resolution of the quality scale in a stream: 0..1024 stands for 0..100
KINDS = ("image", "audio", "video", "other")
MAX_SIDE = (1 << 31) - 1
MAX_CHANNELS = 255
MAX_RATE = 768_000  # samples a second
DEPTHS = ("s16", "s24", "s32", "f32")  # samples of the source, which a decoder returns to
LAYOUTS = {  # FFmpeg's name -> channels; a stream holds the position in this table: append only
    "mono": 1, "stereo": 2, "2.1": 3, "3.0": 3, "3.0(back)": 3, "4.0": 4, "quad": 4, "quad(side)": 4, "3.1": 4,
    "5.0": 5, "5.0(side)": 5, "4.1": 5, "5.1": 6, "5.1(side)": 6, "6.0": 6, "6.0(front)": 6, "hexagonal": 6,
    "6.1": 7, "6.1(back)": 7, "6.1(front)": 7, "7.0": 7, "7.0(front)": 7, "7.1": 8, "7.1(wide)": 8,
    "7.1(wide-side)": 8, "octagonal": 8, "downmix": 2, "3.1.2": 6, "5.1.2": 8, "5.1.4": 10, "7.1.2": 10,
    "7.1.4": 12, "5.1.2(back)": 8, "hexadecagonal": 16, "22.2": 24, "cube": 8,
}  # fmt: skip
UNNAMED_LAYOUTS = 64  # from here on: that many channels without positions, FFmpeg's "12 channels"

_QUALITY = ("quality", 11, QUALITY_STEPS, "quality x 10.24")
_KIND = ("kind", 2, 3, "0 image, 1 audio, 2 video, 3 other")
IMAGE = Layout(
    (
        Field(
            "common",
            "bits",
            "what the stream holds; the bit left is zero",
            parts=(
                _QUALITY,
                _KIND,
                ("gray", 1, 1, "one channel instead of three"),
                ("deep", 1, 1, "16 bits a sample instead of 8"),
            ),
        ),
        Field("width", "varint", "pixels", 1, MAX_SIDE),
        Field("height", "varint", "pixels", 1, MAX_SIDE),
    )
)
AUDIO = Layout(
    (
        Field(
            "common",
            "bits",
            "what the stream holds; the bit left is zero",
            parts=(_QUALITY, _KIND, ("depth", 2, 3, "samples of the source: 0 s16, 1 s24, 2 s32, 3 f32")),
        ),
        Field("rate", "varint", "samples a second of the source", 1, MAX_RATE),
        Field("layout", "varint", "channel layout, see below", 0, UNNAMED_LAYOUTS + MAX_CHANNELS),
    )
)
_LAYOUTS_OF = {"image": IMAGE, "audio": AUDIO}


def image_params(samples: Any, quality: int) -> dict[str, Any]:
    """Return the header's values for a picture [H, W, 1 or 3] of uint8 or uint16 at a quality index."""
    height, width, channels = samples.shape
    return {
        "quality": quality,
        "kind": KINDS.index("image"),
        "gray": int(channels == 1),
        "deep": int(samples.dtype.itemsize == 2),
        "width": width,
        "height": height,
    }


def audio_params(rate: int, layout: str, channels: int, depth: str, quality: int) -> dict[str, Any]:
    """Return the header's values for sound at a quality index. Layouts without a number become a count of channels."""
    named = layout in LAYOUTS and LAYOUTS[layout] == channels
    return {
        "quality": quality,
        "kind": KINDS.index("audio"),
        "depth": DEPTHS.index(depth),
        "rate": rate,
        "layout": list(LAYOUTS).index(layout) if named else UNNAMED_LAYOUTS + channels,
    }


def layout_of(params: dict[str, Any]) -> tuple[str, int]:
    """Return FFmpeg's name of the channel layout of sound, and the number of channels.

    Raises:
        CorruptError: the layout has no meaning.
    """
    index = params["layout"]
    if index > UNNAMED_LAYOUTS:
        return f"{index - UNNAMED_LAYOUTS} channels", index - UNNAMED_LAYOUTS
    if index >= len(LAYOUTS):
        raise CorruptError(f"channel layout {index} is not known to this release; update codec")
    return list(LAYOUTS.items())[index]


def quality_index(quality: float) -> int:
    """Map a quality of 0..100 to its index 0..1024.

    Raises:
        ValueError: outside 0..100.
    """
    if not 0 <= quality <= 100:
        raise ValueError(f"quality {quality} is outside 0..100")
    return round(quality * QUALITY_STEPS / 100)


def quality_of(index: int) -> float:
    """Map a quality index back to 0..100, rounded to two decimals."""
    return round(index * 100 / QUALITY_STEPS, 2)


def pack(values: dict[str, Any]) -> bytes:
    """Return the packed parameters of a stream of any kind."""
    return _LAYOUTS_OF[KINDS[values["kind"]]].pack(values)


def unpack(params: bytes) -> dict[str, Any]:
    """Read the packed parameters of a stream, whatever its system.

    Raises:
        TruncatedError, CorruptError: see `Layout.unpack`.
        UnsupportedVersionError: the kind of signal is not known to this release.
    """
    if len(params) < 2:
        raise TruncatedError("the stream ends inside common")
    kind = KINDS[int.from_bytes(params[:2], "little") >> _QUALITY[1] & 3]
    if kind not in _LAYOUTS_OF:
        raise UnsupportedVersionError(f"the stream holds {kind}, which this release cannot read")
    values, end = _LAYOUTS_OF[kind].unpack(params)
    if end != len(params):
        raise CorruptError("the header is longer than its fields")
    return values
