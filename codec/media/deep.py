"""16-bit colour, which Pillow reads as 8 bits and cannot write: PNG through FFmpeg (PyAV)."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from fractions import Fraction

import av
import numpy as np

from codec.errors import MediaError

_PNG_START = 8 + 25  # signature and IHDR


def read_png(data: bytes) -> np.ndarray:
    """Return the samples [H, W, 3] uint16 of a 16-bit RGB or opaque RGBA PNG.

    Raises:
        MediaError: it has transparency (alpha is carried with 8 bits only) or cannot be read.
    """
    try:
        with av.open(io.BytesIO(data), format="png_pipe") as file:
            frame = next(file.decode(video=0))
            if "a" not in frame.format.name:
                return frame.to_ndarray(format="rgb48le")
            samples = frame.to_ndarray(format="rgba64le")
    except (av.FFmpegError, StopIteration, ValueError) as exc:
        raise MediaError(f"16-bit PNG cannot be read ({exc})") from exc
    if samples[..., 3].min() < 65535:
        raise MediaError("16-bit transparency would be cut to 8 bits; convert the image to 8 bits first")
    return np.ascontiguousarray(samples[..., :3])


def write_png(samples: np.ndarray, metadata: Mapping[str, bytes]) -> bytes:
    """Return a 16-bit RGB PNG of [H, W, 3] uint16 samples with ICC, EXIF and XMP."""
    context = av.CodecContext.create("png", "w")
    context.height, context.width = samples.shape[:2]
    context.pix_fmt, context.time_base = "rgb48be", Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(samples), format="rgb48le").reformat(format="rgb48be")
    data = b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
    return data[:_PNG_START] + b"".join(_metadata_chunks(metadata)) + data[_PNG_START:]


def _metadata_chunks(metadata: Mapping[str, bytes]):
    """Yield the PNG chunks (PNG specification, third edition, 11.3) that hold metadata."""
    if "icc" in metadata:
        yield _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata["icc"], 9))
    if "exif" in metadata:
        yield _chunk(b"eXIf", metadata["exif"].removeprefix(b"Exif\0\0"))
    if "xmp" in metadata:
        yield _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata["xmp"])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
