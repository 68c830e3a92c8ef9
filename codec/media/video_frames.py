"""Frames as FFmpeg has them (PyAV) to the planes of `codec.media.video.Frames`, and back."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from codec.errors import MediaError
from codec.media.video_pixels import known_matrix, rgb_of_ycc

_SAME = {"yuv420p": "yuv420p", "yuvj420p": "yuv420p", "nv12": "yuv420p", "nv21": "yuv420p",
         "yuv420p10le": "yuv420p10le", "yuv420p10be": "yuv420p10le", "p010le": "yuv420p10le",
         "p010be": "yuv420p10le"}  # fmt: skip
_OPAQUE = ("pal8",)  # flagged as having alpha, as a palette may; this one is looked at
_GRAY_DEPTHS = (8, 9, 10, 12, 14, 16)  # FFmpeg has gray, gbrp and yuv444p of these
# bicubic | full chroma interpolation and input | accurate rounding | bit-exact: no processor-dependent shortcuts
_FLAGS = 0x4 | 0x2000 | 0x4000 | 0x40000 | 0x80000
LIMITED, FULL = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG


def is_full(frame: av.VideoFrame) -> bool:
    """Tell whether luma and chroma span all codes. Where nothing is said FFmpeg takes grays for full, the rest not."""
    if frame.format.name.startswith("yuvj"):
        return True
    return int(frame.color_range) == FULL or (len(frame.format.components) == 1 and frame.color_range != LIMITED)


def carried_as(frame: av.VideoFrame, name: str) -> str:
    """Return which of `PIXELS` holds the pixels of a frame of a file.

    Raises:
        MediaError: none holds them without silent loss.
    """
    form = frame.format
    if form.name in _SAME:
        return _SAME[form.name]
    bits = max(component.bits for component in form.components)
    if any(component.is_alpha for component in form.components) and form.name not in _OPAQUE:
        raise MediaError(f"{name}: has transparency ({form.name}), which is not carried; flatten it first")
    if bits > 16 or "f16" in form.name or "f32" in form.name or form.name.startswith(("bayer", "xyz")):
        raise MediaError(f"{name}: {form.name} pixels cannot be carried; convert it to gbrp16le first")
    return "rgb24" if bits <= 8 else "rgb48le"


class Unpacker:
    """Turn frames of one stream into planes of one of `PIXELS`."""

    def __init__(self, pixels: str, matrix: int, name: str) -> None:
        self._pixels, self._matrix, self._name = pixels, matrix, name
        self._swscale = VideoReformatter()

    def planes(self, frame: av.VideoFrame) -> tuple[np.ndarray, ...]:
        """Return the planes of a frame (`VideoFormat.plane_shapes`), in memory of their own."""
        if self._pixels in ("yuv420p", "yuv420p10le"):
            direct = frame.format.name in (self._pixels, "yuvj420p")
            return tuple(array.copy() for array in arrays_of(frame if direct else self._as(frame, self._pixels)))
        form = frame.format
        if form.name == "pal8":
            self._check_palette(frame)
        bits = max(component.bits for component in form.components)
        depth = next(depth for depth in _GRAY_DEPTHS if depth >= bits)
        if form.is_rgb or form.name == "pal8":
            return (self._rgb(frame, depth),)
        out = np.empty((frame.height, frame.width, 3), np.uint8 if depth == 8 else np.uint16)
        deep = "" if depth == 8 else f"{depth}le"
        if len(form.components) == 1:
            luma = arrays_of(self._as(frame, f"gray{deep}"))[0]
            ycc = (luma, *[np.full(luma.shape, 1 << depth - 1, luma.dtype)] * 2)
        else:
            ycc = arrays_of(self._as(frame, f"yuv444p{deep}"))
        matrix = self._matrix if known_matrix(self._matrix) or len(form.components) > 1 else 1
        rgb_of_ycc(*ycc, depth=depth, matrix=matrix, full=is_full(frame), out=out)
        return (out,)

    def _rgb(self, frame: av.VideoFrame, depth: int) -> np.ndarray:
        if depth == 8 or depth == 16:
            return arrays_of(self._as(frame, "rgb24" if depth == 8 else "rgb48le"))[0].copy()
        top = (1 << depth) - 1  # swscale would make less than full scale of full scale
        green, blue, red = arrays_of(self._as(frame, f"gbrp{depth}le"))
        wide = np.stack((red, green, blue), axis=-1).astype(np.uint32)
        return ((wide * 65535 + top // 2) // top).astype(np.uint16)

    def _as(self, frame: av.VideoFrame, pixels: str) -> av.VideoFrame:
        return reformatted(self._swscale, frame, pixels)

    def _check_palette(self, frame: av.VideoFrame) -> None:
        palette = np.frombuffer(frame.planes[1], np.uint32)
        indices = arrays_of(frame)[0]
        if (palette[np.unique(indices)] >> 24 != 255).any():
            raise MediaError(f"{self._name}: has transparency (pal8), which is not carried; flatten it first")


def reformatted(swscale: VideoReformatter, frame: av.VideoFrame, pixels: str) -> av.VideoFrame:
    """Return a frame in another layout of its samples; their range and matrix stay."""
    if frame.format.name == pixels:
        return frame
    span = FULL if is_full(frame) or frame.format.is_rgb else LIMITED
    return swscale.reformat(
        frame, format=pixels, interpolation=_FLAGS, src_color_range=span, dst_color_range=span, threads=1
    )


def arrays_of(frame: av.VideoFrame) -> list[np.ndarray]:
    """Return views of the planes of a frame without the padding of its lines: [h, w] or [h, w, 3]; a palette is left.

    (PyAV's `to_ndarray` refuses odd sizes.)
    """
    form = frame.format
    dtype = np.dtype("<u2") if max(component.bits for component in form.components) > 8 else np.dtype("u1")
    packed = 3 if form.name in ("rgb24", "rgb48le") else 1
    found = []
    for plane in frame.planes[: 1 if form.name == "pal8" else None]:
        lines = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
        lines = lines[::-1] if plane.line_size < 0 else lines
        line = lines[:, : plane.width * packed * dtype.itemsize]
        # A view of a wider type needs lines of a multiple of it, which FFmpeg's are.
        array = line.view(dtype) if dtype.itemsize > 1 else line
        found.append(array.reshape(plane.height, plane.width, 3) if packed == 3 else array)
    return found


def frame_of(planes: tuple[np.ndarray, ...], pixels: str) -> av.VideoFrame:
    """Return a frame with these planes, [h, w] each or one [h, w, 3], in a layout of the same shape."""
    height, width = planes[0].shape[:2]
    frame = av.VideoFrame(width, height, pixels)
    for plane, array in zip(frame.planes, planes, strict=True):
        lines = np.frombuffer(plane, np.uint8).reshape(array.shape[0], plane.line_size)
        data = np.ascontiguousarray(array).reshape(array.shape[0], -1).view(np.uint8)
        lines[:, : data.shape[1]] = data
    return frame
