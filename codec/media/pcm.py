"""Audio samples as numbers: integer formats to and from float32, and the names of channel layouts.

Full scale is -1..1: an integer of b bits is x * 2**(b - 1). Up to 24 bits that is exact in float32, in both directions.
"""

from __future__ import annotations

import av
import numpy as np

from codec.errors import MediaError

WIDTH = {"s16": 2, "s24": 3, "s32": 4, "f32": 4}  # depth -> bytes a sample
RAW = {f"{depth}le": depth for depth in WIDTH}  # FFmpeg's names of headerless little-endian PCM
_STANDARD = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def channels_of(layout: str) -> int:
    """Return how many channels an FFmpeg layout such as `5.1` or `12 channels` has.

    Raises:
        MediaError: FFmpeg does not know it.
    """
    try:
        return av.AudioLayout(layout).nb_channels
    except (ValueError, TypeError) as exc:
        raise MediaError(f"unknown channel layout {layout!r}; use a name such as mono, stereo or 5.1") from exc


def layout_of(channels: int) -> str:
    """Return the layout FFmpeg assumes for a number of channels."""
    return _STANDARD.get(channels, f"{channels} channels")


def to_float(samples: np.ndarray) -> np.ndarray:
    """Return integer or float samples as float32 of full scale 1; more than 24 bits are rounded.

    Raises:
        MediaError: the type is not one that holds samples.
    """
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what overflows is infinite, which `check_finite` reports
            return samples.astype(np.float32, order="C")
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32, order="C") - 128) / 128
    if samples.dtype not in (np.int16, np.int32):
        raise MediaError(f"samples must be uint8, int16, int32 or float, not {samples.dtype}")
    return samples.astype(np.float32, order="C") * np.float32(2.0 ** (1 - 8 * samples.dtype.itemsize))


def to_integer(samples: np.ndarray, bits: int) -> np.ndarray:
    """Return float32 samples as int32 of `bits` bits: rounded half to even, clipped."""
    scale = 2.0 ** (bits - 1)
    wide = samples.astype(np.float64 if bits > 24 else np.float32) * scale
    return np.rint(wide).clip(-scale, scale - 1).astype(np.int32)


def pack(samples: np.ndarray, depth: str) -> bytes:
    """Return [channels, n] float32 samples as interleaved little-endian PCM."""
    if depth == "f32":
        return samples.T.astype("<f4").tobytes()
    integers = np.ascontiguousarray(to_integer(samples, 8 * WIDTH[depth]).T, "<i4")
    return integers.view(np.uint8).reshape(*integers.shape, 4)[..., : WIDTH[depth]].tobytes()


def unpack(data: bytes, depth: str, channels: int) -> np.ndarray:
    """Return whole interleaved little-endian PCM samples as [channels, n] float32."""
    if depth == "f32":
        return np.frombuffer(data, "<f4").reshape(-1, channels).T.astype(np.float32, order="C")
    width = WIDTH[depth]
    wide = np.zeros((len(data) // width, 4), np.uint8)
    wide[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)  # little-endian: the high bytes come last
    return to_float(wide.view("<i4").astype(np.int32).reshape(-1, channels).T)


def check_finite(samples: np.ndarray, name: str) -> np.ndarray:
    """Return float samples as they are.

    Raises:
        MediaError: some are NaN or infinite.
    """
    if samples.size and not (np.isfinite(samples.min()) and np.isfinite(samples.max())):
        raise MediaError(f"{name}: some samples are NaN or infinite; replace them first")
    return samples
