"""Pixels of video to RGB and back, in NumPy: the same numbers on every machine, exact grays, any size and depth.

(FFmpeg's swscale is no faster where it is accurate, makes white of 10 bits 65280 of 65535, and darkens full-range
video by a third of a level.) Arithmetic is float32, every product and sum rounded on its own.

Chroma of 4:2:0 lies on even columns and between rows, as H.264 and its successors assume where nothing is said. It is
interpolated by cubics and reduced by a half-band filter, chosen so that 4:2:0 to RGB and back changes little.
"""

from __future__ import annotations

import numpy as np

from codec.errors import MediaError
from codec.media.video import UNSPECIFIED, VideoFormat

# Weights of red and blue in luma by code point of ISO/IEC 23091-2, table 4. Unspecified means BT.601 at any size, as in
# FFmpeg; some players take BT.709 from 720 lines on.
_WEIGHTS = {
    1: (0.2126, 0.0722), 2: (0.299, 0.114), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114),
    7: (0.212, 0.087), 9: (0.2627, 0.0593),
}  # fmt: skip
_GBR = 0  # code point of RGB itself
_NO_MATRIX = 1  # what RGB that has none becomes YCbCr by: BT.709
_BETWEEN = np.float32([-1, 9, 9, -1]) / 16  # cubic, half way between two samples
_QUARTER = np.float32([-9, 111, 29, -3]) / 128  # Catmull-Rom, a quarter of the way from the second to the third sample
_HALFBAND = np.float32([-1, 0, 9, 16, 9, 0, -1]) / 32


def known_matrix(matrix: int) -> bool:
    """Tell whether YCbCr with this code point can be turned into RGB."""
    return matrix in _WEIGHTS


def matrix_for(format: VideoFormat) -> int:
    """Return the matrix that frames of a format become YCbCr with: their own, or BT.709 for RGB that has none."""
    without = format.rgb and (format.matrix in (UNSPECIFIED, _GBR) or not known_matrix(format.matrix))
    return _NO_MATRIX if without else format.matrix


def to_rgb(planes: tuple[np.ndarray, ...], format: VideoFormat) -> np.ndarray:
    """Turn frames (`Frames.planes`) into RGB [T, H, W, 3]: uint8, or uint16 of 0..65535 above 8 bits.

    Raises:
        MediaError: the matrix of the format is not known.
    """
    if format.rgb:
        return planes[0]
    out = np.empty((len(planes[0]), format.height, format.width, 3), format.dtype)
    for index, (luma, *chroma) in enumerate(zip(*planes, strict=True)):
        wide = [_enlarged(plane, luma.shape) for plane in chroma]
        rgb_of_ycc(luma, *wide, depth=format.depth, matrix=format.matrix, full=format.full, out=out[index])
    return out


def from_rgb(rgb: np.ndarray, format: VideoFormat) -> tuple[np.ndarray, ...]:
    """Turn RGB [T, H, W, 3] of uint8, or of uint16 with full scale 65535, into frames of a format (`Frames.planes`).

    Raises:
        MediaError: the matrix of the format is not known.
    """
    dtype = format.dtype
    if format.rgb:
        return (rgb,) if rgb.dtype == dtype else (_rescaled(rgb, dtype),)
    planes = tuple(np.empty((len(rgb), *shape), dtype) for shape in format.plane_shapes)
    for index, picture in enumerate(rgb):
        ycc = ycc_of_rgb(picture, depth=format.depth, matrix=format.matrix, full=format.full)
        reduced = [ycc[0], *(_reduced(plane) for plane in ycc[1:])]
        for plane, values in zip(planes, reduced, strict=True):
            plane[index] = _rounded(values, (1 << format.depth) - 1)
    return planes


def rgb_of_ycc(
    luma: np.ndarray,
    blue: np.ndarray,
    red: np.ndarray,
    *,
    depth: int,
    matrix: int,
    full: bool,
    out: np.ndarray,
) -> None:
    """Turn one picture of YCbCr without subsampling, integers or float32 [H, W] each, into RGB.

    Args:
        depth: bits of a sample.
        out: [H, W, 3] of uint8 or uint16, written to.
    """
    kr, kb = _weights(matrix)
    kg = 1 - kr - kb
    top = np.iinfo(out.dtype).max
    black, span, middle, chroma_span = _range(depth, full)
    y = (luma.astype(np.float32) - np.float32(black)) * np.float32(top / span)
    u = (blue.astype(np.float32) - np.float32(middle)) * np.float32(top / chroma_span)
    v = (red.astype(np.float32) - np.float32(middle)) * np.float32(top / chroma_span)
    out[..., 0] = _rounded(y + v * np.float32(2 * (1 - kr)), top)
    out[..., 2] = _rounded(y + u * np.float32(2 * (1 - kb)), top)
    y -= u * np.float32(2 * (1 - kb) * kb / kg)
    y -= v * np.float32(2 * (1 - kr) * kr / kg)
    out[..., 1] = _rounded(y, top)


def ycc_of_rgb(rgb: np.ndarray, *, depth: int, matrix: int, full: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn one picture [H, W, 3] into float32 YCbCr [H, W] each of some depth, without subsampling, not rounded."""
    kr, kb = _weights(matrix)
    black, span, middle, chroma_span = _range(depth, full)
    scale = 1 / np.iinfo(rgb.dtype).max
    r, g, b = (rgb[..., channel].astype(np.float32) for channel in range(3))
    # Differences to green are exact and vanish for grays, so that gray stays gray to the bit.
    r -= g
    b -= g
    over = r * np.float32(kr) + b * np.float32(kb)  # luma over green
    blue = (b - over) * np.float32(scale * chroma_span / (2 * (1 - kb))) + np.float32(middle)
    red = (r - over) * np.float32(scale * chroma_span / (2 * (1 - kr))) + np.float32(middle)
    return (g + over) * np.float32(scale * span) + np.float32(black), blue, red


def ycc_planes(rgb: np.ndarray, depth: int, matrix: int, full: bool) -> tuple[np.ndarray, ...]:
    """Turn one picture [H, W, 3] into integer YCbCr [H, W] each of some depth, without subsampling (4:4:4)."""
    dtype, top = (np.uint8 if depth == 8 else np.uint16), (1 << depth) - 1
    return tuple(_rounded(plane, top).astype(dtype) for plane in ycc_of_rgb(rgb, depth=depth, matrix=matrix, full=full))


def enlarged_planes(planes: tuple[np.ndarray, ...], depth: int) -> tuple[np.ndarray, ...]:
    """Turn the planes of one 4:2:0 picture into those of 4:4:4."""
    luma, *chroma = planes
    return luma, *(_rounded(_enlarged(plane, luma.shape), (1 << depth) - 1).astype(luma.dtype) for plane in chroma)


def _weights(matrix: int) -> tuple[float, float]:
    if not known_matrix(matrix):
        known = ", ".join(map(str, _WEIGHTS))
        raise MediaError(f"colours of matrix {matrix} cannot be turned into RGB, only {known}; convert the video first")
    return _WEIGHTS[matrix]


def _range(depth: int, full: bool) -> tuple[int, int, int, int]:
    """Return the code of black, codes from black to white, the code of no colour, and codes of chroma's range."""
    if full:
        top = (1 << depth) - 1
        return 0, top, 1 << depth - 1, top
    unit = 1 << depth - 8
    return 16 * unit, 219 * unit, 128 * unit, 224 * unit


def _rounded(values: np.ndarray, top: int) -> np.ndarray:
    """Return float32 values rounded half to even and clipped to 0..top; the given array is overwritten."""
    np.rint(values, out=values)
    return np.clip(values, 0, top, out=values)


def _rescaled(rgb: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return RGB of one integer type as the other, full scale to full scale."""
    if dtype == np.uint16:
        return rgb * np.uint16(257)
    return ((rgb.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _filtered(padded: np.ndarray, weights: np.ndarray, count: int, axis: int, step: int = 1) -> np.ndarray:
    """Correlate along an axis: `count` values, `step` samples apart."""
    total = None
    for offset, weight in enumerate(weights):
        if weight:
            part = slice(offset, offset + step * (count - 1) + 1, step)
            term = (padded[part] if axis == 0 else padded[:, part]) * weight
            total = term if total is None else np.add(total, term, out=total)
    return total


def _enlarged(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Interpolate a chroma plane [h, w] to the size of luma, float32."""
    height, width = plane.shape
    tall = np.empty((2 * height, width), np.float32)
    padded = np.pad(plane.astype(np.float32), ((2, 2), (0, 0)), "edge")
    tall[0::2] = _filtered(padded, _QUARTER[::-1], height, 0)  # a quarter towards the row above
    tall[1::2] = _filtered(padded[1:], _QUARTER, height, 0)
    wide = np.empty((shape[0], 2 * width), np.float32)
    tall = tall[: shape[0]]
    wide[:, 0::2] = tall
    wide[:, 1::2] = _filtered(np.pad(tall, ((0, 0), (1, 2)), "edge"), _BETWEEN, width, 1)
    return wide[:, : shape[1]]


def _reduced(plane: np.ndarray) -> np.ndarray:
    """Filter a chroma plane [H, W] of float32 down to [ceil(H / 2), ceil(W / 2)]."""
    height, width = -(-plane.shape[0] // 2), -(-plane.shape[1] // 2)
    narrow = _filtered(np.pad(plane, ((0, 0), (3, 4)), "edge"), _HALFBAND, width, 1, 2)
    return _filtered(np.pad(narrow, ((1, 2), (0, 0)), "edge"), _BETWEEN, height, 0, 2)
