"""The part of the header that follows the system: what kind of signal, its size, its quality.

Every system's parameters begin with the same 16 bits, so `codec inspect` can read them without the system's
code. Image systems use `IMAGE` as it is.
"""

from __future__ import annotations

from typing import Any

from codec.errors import UnsupportedVersionError
from codec.fields import Field, Layout

QUALITY_STEPS = 1024  # resolution of the quality scale in a stream: 0..1024 stands for 0..100
KINDS = ("image", "audio", "video", "other")
MAX_SIDE = (1 << 31) - 1

_COMMON = Field(
    "common",
    "bits",
    "what the stream holds; the bit left is zero",
    parts=(
        ("quality", 11, QUALITY_STEPS, "quality x 10.24"),
        ("kind", 2, 3, "0 image, 1 audio, 2 video, 3 other"),
        ("gray", 1, 1, "image: one channel instead of three"),
        ("deep", 1, 1, "image: 16 bits a sample instead of 8"),
    ),
)
IMAGE = Layout(
    (
        _COMMON,
        Field("width", "varint", "pixels", 1, MAX_SIDE),
        Field("height", "varint", "pixels", 1, MAX_SIDE),
    )
)


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


def unpack(params: bytes) -> dict[str, Any]:
    """Read the packed parameters of a stream, whatever its system.

    Raises:
        TruncatedError, CorruptError: see `Layout.unpack`.
        UnsupportedVersionError: the kind of signal is not known to this release.
    """
    head, _ = Layout((_COMMON,)).unpack(params)
    if KINDS[head["kind"]] != "image":
        raise UnsupportedVersionError(f"the stream holds {KINDS[head['kind']]}, which this release cannot read")
    values, _ = IMAGE.unpack(params)
    return values
