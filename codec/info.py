"""What the header of a .lcb file says, without decoding; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codec import times
from codec.container import Container
from codec.params import DEPTHS, KINDS, layout_of, video_format
from codec.rate import bits_per_pixel, kilobits_per_second


@dataclass(frozen=True)
class Info:
    """Facts of a stream's header. What does not apply to its kind is None.

    Attributes:
        width, height, bpp: of an image or video: pixels, and 8 * bytes / pixels; a video has as many as all its frames.
        rate, layout: of sound: samples a second, channel layout.
        length: of sound whose end is not missing: samples a channel.
        seconds, kbps: of sound whose end is not missing, and of video: how long it lasts, and 8 * bytes / seconds /
            1000.
        frames, clips, groups: of video: how many there are; frames are those of all clips.
        clip_frames: of video: frames of each clip.
        fps: of video: nominal frames a second.
        pixels: of video: how the source held them, FFmpeg's name.
        bit_depth: of the source's samples.
        bytes: file size, everything included.
        model: name of the installed model, or None if it is not installed.
        single_rate: quality has no effect, the installed model being one point of rate and distortion.
        layers: of files whose units refine one another, as the installed model says: entropy-coded bytes of each.
        payload_bytes, units: entropy-coded bytes and the number of independent units.
        metadata: name -> bytes of ICC, EXIF, XMP, tags (inflated), alpha and, of video, sound.
    """

    kind: str
    channels: int
    bit_depth: int
    quality: float
    system: str
    version: int
    digest: str
    model: str | None
    bytes: int
    payload_bytes: int
    units: int
    metadata: dict[str, int]
    single_rate: bool = False
    layers: tuple[int, ...] | None = None
    width: int | None = None
    height: int | None = None
    bpp: float | None = None
    rate: int | None = None
    layout: str | None = None
    length: int | None = None
    seconds: float | None = None
    kbps: float | None = None
    frames: int | None = None
    fps: float | None = None
    pixels: str | None = None
    clips: int | None = None
    clip_frames: tuple[int, ...] | None = None
    groups: int | None = None

    @property
    def size(self) -> str:
        """Size of the signal in words."""
        if self.kind == "image":
            return f"{self.width}x{self.height}"
        if self.kind == "video":
            return f"{self.width}x{self.height}, {self.frames} frames"
        return f"{self.rate} Hz {self.layout}" + (f", {self.seconds:.2f} s" if self.seconds is not None else "")


def layers_of(parsed: Container) -> tuple[int, ...]:
    """Return the entropy-coded bytes of each unit."""
    return tuple(len(unit.payload) for unit in parsed.units)


def facts(parsed: Container, params: dict[str, Any], size: int) -> dict[str, Any]:
    """Return what `Info` has of a kind of signal, for a file of `size` bytes."""
    return {"image": _image, "audio": _audio, "video": _video}[KINDS[params["kind"]]](parsed, params, size)


def _image(parsed: Container, params: dict[str, Any], size: int) -> dict[str, Any]:
    width, height = params["width"], params["height"]
    return {
        "channels": (1 if params["gray"] else 3) + (parsed.alpha is not None),
        "bit_depth": 16 if params["deep"] else 8,
        "width": width,
        "height": height,
        "bpp": bits_per_pixel(size, width, height),
    }


def _audio(parsed: Container, params: dict[str, Any], size: int) -> dict[str, Any]:
    layout, channels = layout_of(params)
    rate, length = params["rate"], parsed.length
    return {
        "channels": channels,
        "bit_depth": int(DEPTHS[params["depth"]][1:]),
        "rate": rate,
        "layout": layout,
        "length": length,
        "seconds": None if length is None else length / rate,
        "kbps": kilobits_per_second(size, length / rate) if length else None,
    }


def _video(parsed: Container, params: dict[str, Any], size: int) -> dict[str, Any]:
    form, clips = video_format(params), parsed.clips
    lengths = tuple(map(times.frames_of, clips))
    seconds, frames = sum(map(times.seconds_of, clips)), sum(lengths)
    return {
        "channels": 3,
        "bit_depth": form.depth,
        "width": form.width,
        "height": form.height,
        "bpp": bits_per_pixel(size, form.width, form.height, frames) if frames else None,
        "seconds": seconds,
        "kbps": kilobits_per_second(size, seconds) if frames else None,
        "frames": frames,
        "fps": float(form.rate),
        "pixels": form.pixels,
        "clips": len(clips),
        "clip_frames": lengths,
        "groups": sum(len(clip.units) for clip in clips),
    }
