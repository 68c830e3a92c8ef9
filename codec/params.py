"""The part of the header that follows the system: what kind of signal, its size, its quality.

Every system's parameters begin with the same 13 bits, so `codec inspect` can read them without the system's code.
Systems of a kind share its layout: `IMAGE`, `AUDIO`, `VIDEO`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from codec.errors import CorruptError, TruncatedError, UnsupportedVersionError
from codec.fields import Field, Layout

if TYPE_CHECKING:
    from codec.media.video import VideoFormat

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
PIXELS = ("yuv420p", "yuv420p10le", "rgb24", "rgb48le")  # of the source's frames
MAX_GROUP = 1 << 16  # frames
MAX_NUMBERS = 32  # a system may put into the header of video
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
_PART = {"minimum": 1, "maximum": (1 << 31) - 1}  # of a fraction
VIDEO = Layout(
    (
        Field(
            "common",
            "bits",
            "what the stream holds",
            parts=(
                _QUALITY,
                _KIND,
                ("pixels", 2, 3, "of the source: 0 yuv420p, 1 yuv420p10, 2 RGB of 8, 3 of 16 bits"),
                ("full", 1, 1, "full range"),
            ),
        ),
        Field("width", "varint", "pixels", 1, MAX_SIDE),
        Field("height", "varint", "pixels", 1, MAX_SIDE),
        Field("group", "varint", "frames a unit; the last may have fewer", 1, MAX_GROUP),
        Field("rate_num", "varint", "nominal frames a second: numerator", **_PART),
        Field("rate_den", "varint", "denominator", **_PART),
        Field("base_num", "varint", "seconds a tick of presentation times: numerator", **_PART),
        Field("base_den", "varint", "denominator", **_PART),
        Field("aspect_num", "varint", "width over height of a pixel: numerator", **_PART),
        Field("aspect_den", "varint", "denominator", **_PART),
        Field("rotation", "varint", "quarter turns clockwise that show it upright", 0, 3),
        Field("matrix", "varint", "code point of ISO/IEC 23091-2", 0, 255),
        Field("primaries", "varint", "code point of ISO/IEC 23091-2", 0, 255),
        Field("transfer", "varint", "code point of ISO/IEC 23091-2", 0, 255),
        Field("numbers", "varints", "how many, then those: the system's own", 0, MAX_NUMBERS),
    )
)
_LAYOUTS_OF = {"image": IMAGE, "audio": AUDIO, "video": VIDEO}


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


def video_params(format: VideoFormat, quality: int, group: int, numbers: tuple[int, ...] = ()) -> dict[str, Any]:
    """Return the header's values for video at a quality index, in groups of some frames.

    Args:
        numbers: the system's own, each below 2**63.
    """
    fractions = {"rate": Fraction(format.rate), "base": Fraction(format.time_base), "aspect": Fraction(format.aspect)}
    values = {"quality": quality, "kind": KINDS.index("video"), "pixels": PIXELS.index(format.pixels)}
    for name, value in fractions.items():
        values |= {f"{name}_num": value.numerator, f"{name}_den": value.denominator}
    values |= {name: getattr(format, name) for name in ("width", "height", "matrix", "primaries", "transfer")}
    return values | {"full": int(format.full), "rotation": format.rotation // 90, "group": group, "numbers": numbers}


def video_format(params: dict[str, Any]) -> VideoFormat:
    """Return the format of a video from its header's values."""
    from codec.media.video import VideoFormat

    parts = {name: Fraction(params[f"{name}_num"], params[f"{name}_den"]) for name in ("rate", "base", "aspect")}
    return VideoFormat(
        params["width"], params["height"], parts["rate"], PIXELS[params["pixels"]], parts["base"], parts["aspect"],
        90 * params["rotation"], params["matrix"], params["primaries"], params["transfer"], bool(params["full"]),
    )  # fmt: skip


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
