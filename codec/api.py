"""`codec.encode`, `codec.decode`, `codec.read`, `codec.write`: whatever the kind of signal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from codec import checkpoint, rate
from codec.distortion import squared_error
from codec.limits import MAX_PIXELS, UNLIMITED
from codec.media.kinds import kind_of
from codec.params import quality_index, quality_of
from codec.stream import Source, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from codec.media.audio import Audio
    from codec.media.image import Image
    from codec.media.video import Video
    from codec.media.video_raw import RawFormat
    from codec.system import Progress
    from codec.video_system import Tell

DEFAULT_QUALITY = 60.0
_TARGETS_OF = {"bpp": ("image", "video"), "psnr": ("image", "video"), "kbps": ("audio", "video")}  # kinds they are for


def encode(
    signal: Any,
    *,
    model: str | None = None,
    quality: float | None = None,
    effort: int = 1,
    target_size: int | None = None,
    bpp: float | None = None,
    kbps: float | None = None,
    psnr: float | None = None,
    strip: bool = False,
    group: int | None = None,
    sound: str = "copy",
    raw: RawFormat | None = None,
    device: str = "auto",
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
    tell: Tell | None = None,
) -> bytes:
    """Compress an image, sound or video and return the bytes of a .lcb file.

    Args:
        signal: path, bytes or binary file of an image, sound or video; `codec.Image`, `codec.Audio` or `codec.Video`;
            Pillow image; array [H, W] or [H, W, C]; tensor [C, H, W]. Of a video's file no more than a group of frames
            is held.
        model: name of an installed model, see `codec list models`; by default that for the kind of signal.
        quality: 0..100 (default 60). Instead of it, at most one of: `target_size` (bytes, not exceeded), `bpp`
            (bits per pixel of the file of an image or video, not exceeded), `kbps` (kilobits a second of the file of
            sound or video, not exceeded), `psnr` (dB, at least; images and video, there of RGB).
        effort: 1..10: 1 is one forward pass, more looks longer for a better stream.
        strip: leave ICC, EXIF, XMP and tags out.
        group: of video, frames a unit; by default as the model likes it.
        sound: of a video's file: `copy` its sound, `code` it by a model for sound, or `none`.
        raw: the form of a file of frames without a header.
        device: `auto`, `cpu` or `cuda`.
        progress: called with the fraction done.
        tell: called with a few words on how the encoding of a video goes.

    Raises:
        ValueError: an option is out of range or not for this kind of signal, or two targets are given.
        MediaError: the signal cannot be carried without silent loss, or not be read at all.
        LimitError: an image has more than `max_pixels` pixels.
        RateError: the target is out of reach.
        ModelError, UnknownSystemError: the model cannot be used.
    """
    from codec.system import no_progress

    targets = {"quality": quality, "target_size": target_size, "bpp": bpp, "kbps": kbps, "psnr": psnr}
    given = [name for name, value in targets.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other")
    signal, kind = _taken(signal, raw, max_pixels)
    for name, wanted in _TARGETS_OF.items():
        if given == [name] and kind not in wanted:
            raise ValueError(f"{name} is for {' and '.join(wanted)}, not for {kind}")
    info = checkpoint.find_model(model or default_model(signal))
    system = checkpoint.load(info, device)
    if system.media != kind:
        raise ValueError(f"the model {info.name} is for {system.media}, not for {kind}")
    options = {"effort": effort, "strip": strip, "progress": progress or no_progress}
    if kind == "video":
        from codec.engine.video import encode_source
        from codec.video_system import tell_nobody

        options |= {"group": group, "sound": sound, "raw": raw, "device": device, "max_pixels": max_pixels}
        options["tell"] = tell or tell_nobody
        attempt = lambda value: b"".join(encode_source(signal, info, system, quality=value, **options))
    elif kind == "audio":
        from codec.engine import audio

        attempt = lambda value: audio.encode(signal, info, system, quality=value, **options)
    else:
        from codec.engine import images

        if given in ([], ["quality"]):
            attempt = lambda value: images.encode(signal, info, system, quality=value, **options)
        else:
            attempt = images.encoder(signal, info, system, **options)
    single = system.single_rate
    if psnr is not None:
        measure = lambda data: _psnr(data, signal, raw, device)
        return rate.smallest_above(attempt, measure, psnr, f"a PSNR of {psnr:g} dB", single=single)
    if given and given[0] != "quality":
        return rate.largest_below(attempt, *_limit(signal, target_size, bpp, kbps), single=single)
    quality = DEFAULT_QUALITY if quality is None else quality
    return attempt(quality_of(quality_index(quality)))


def _taken(signal: Any, raw: RawFormat | None, max_pixels: int) -> tuple[Any, str]:
    """Return what an encoder goes through, maybe several times, and its kind. A video's file stays one."""
    kind = "video" if raw else kind_of(signal)
    if kind != "video":
        signal = read(signal, max_pixels=max_pixels)
    elif hasattr(signal, "read"):
        signal = signal.read()
    return signal, kind


def _limit(
    signal: Any, target_size: int | None, bpp: float | None, kbps: float | None
) -> tuple[Callable[[bytes], float], float, str]:
    """Return what to measure of a file, what it must not exceed, and that in words."""
    if target_size is not None:
        return len, target_size, f"a size of {target_size} bytes"
    name, wanted, what = (
        ("bpp", bpp, f"a rate of {bpp:g} bits per pixel")
        if kbps is None
        else ("kbps", kbps, f"a rate of {kbps:g} kbit/s")
    )
    if hasattr(signal, "samples"):
        size = wanted * signal.width * signal.height / 8 if kbps is None else wanted * 125 * signal.seconds
        return len, size, f"{what} ({size:.0f} bytes)"
    return lambda data: getattr(Stream(data).info, name), wanted, what


def default_model(signal: Any) -> str:
    """Return the name of the model for a signal; of sound, anything with `rate` and `channels` will do."""
    if hasattr(signal, "rate"):
        return checkpoint.sound_model(signal.channels, signal.rate)
    return checkpoint.DEFAULT_MODELS[kind_of(signal)]


def read(source: Any, *, max_pixels: int = MAX_PIXELS) -> Image | Audio | Video:
    """Read an image, sound or video from a path, bytes or binary file, told apart by how the file begins.

    See `codec.media.image.read` for what else is taken as an image, and `codec.media.audio.read` for errors. All frames
    of a video are held in memory; `codec.media.video_reader.Reader` reads it in groups.
    """
    kind = kind_of(source)
    if kind == "video":
        from codec.engine import clips
        from codec.media import video

        signal = source if isinstance(source, video.Video) else video.read(source)
        clips.check_size(signal.format, max_pixels)
        return signal
    if kind == "audio":
        from codec.media import audio

        return source if isinstance(source, audio.Audio) else audio.read(source)
    from codec.media import image

    return image.read(source, max_pixels=max_pixels)


def write(signal: Image | Audio | Video, file: Any, format: str) -> list[str]:
    """Write an image, sound or video to a file and return the names of what the format cannot hold."""
    kind = kind_of(signal)
    if kind == "video":
        from codec.media import video

        return video.write(signal, file, format)
    if kind == "audio":
        from codec.media import audio

        return audio.write(signal, file, format)
    from codec.media import image

    return image.write(signal, file, format)


def decode(source: Source, *, device: str = "auto", layers: int | None = None, **limits: int) -> Image | Audio | Video:
    """Decompress a .lcb file (path, bytes or binary file).

    Args:
        layers: take the first layers of a picture alone, of systems that have them.
        limits: `max_pixels` and `max_memory` (bytes), checked before anything is allocated.

    Raises:
        FormatError: damaged, truncated or not a .lcb file.
        LimitError: larger than the limits.
        UnknownSystemError, MissingModelError: what it needs is not installed.
        ValueError: there are not so many layers.
    """
    return Stream(source, device=device, layers=layers, **limits).decode()


def truncate(source: Source, *, target_size: int, device: str = "auto", **limits: int) -> bytes:
    """Cut a .lcb file of a picture to a size, keeping the first of its tokens: a file of a lower quality.

    The picture is neither decoded nor encoded again. A file that is small enough is returned as it is.

    Args:
        target_size: bytes of the whole file, metadata included, not exceeded.
        limits: `max_pixels` and `max_memory` (bytes), checked before anything is allocated.

    Raises:
        FormatError: damaged, truncated or not a .lcb file.
        LimitError: larger than the limits.
        RateError: not even the first tokens fit.
        ValueError: the files of its system cannot be cut.
        UnknownSystemError, MissingModelError: what it needs is not installed.
    """
    return Stream(source, device=device, **limits).truncated(target_size)


def from_tokens(
    tokens: Any,
    model: str,
    *,
    rate: int | None = None,
    length: int | None = None,
    width: int | None = None,
    height: int | None = None,
    device: str = "auto",
) -> Audio | Image:
    """Return the sound or picture that codebook indices stand for: `Stream.tokens`, or what a generator makes.

    Args:
        tokens: whole numbers. Of sound [books, frames], or [channels, books, frames]; the first books of the model are
            enough. Of pictures [h, w] for vqgan, [regions, tokens] for onedpiece; the first tokens are enough.
        model: whose codebooks they belong to.
        rate: of sound, samples a second of the result; by default the model's.
        length: of sound, samples a channel to return; by default all.
        width, height: of a picture, pixels; by default as many as the tokens stand for.

    Raises:
        ValueError: they do not fit the model, it has no codebooks, or an option is for the other kind of signal.
    """
    import torch

    system = checkpoint.load(checkpoint.find_model(model), device)
    if not hasattr(system, "of_tokens"):
        raise ValueError(f"{model} has no codebooks, so no tokens; choose a model of system rvq, vqgan or onedpiece")
    foreign = {"rate": rate, "length": length} if system.media == "image" else {"width": width, "height": height}
    if any(value is not None for value in foreign.values()):
        raise ValueError(f"{model} makes {system.media}, which has no {' or '.join(foreign)} to choose; leave them out")
    given = np.asarray(tokens)
    if given.dtype.kind not in "iu":
        raise ValueError(f"tokens are whole numbers, not {given.dtype}")
    indices = torch.from_numpy(given.astype(np.int64))
    if system.media == "image":
        from codec.system import no_progress

        with torch.no_grad():
            return system.synthesize(*system.of_tokens(indices, width=width, height=height), progress=no_progress)
    from codec.engine import audio

    return audio.play(*system.of_tokens(indices), system, rate=rate, length=length)


def _psnr(data: bytes, original: Any, raw: RawFormat | None, device: str) -> float:
    stream = Stream(data, device=device, max_pixels=UNLIMITED, max_memory=UNLIMITED)
    if stream.kind != "video":
        return psnr_of(stream.decode(), original)
    from codec.engine import clips

    with clips.opened(original, raw) as clip:
        return clips.psnr(stream.frames(), clip)


def psnr_of(decoded: Image | Audio | Video, original: Image | Audio | Video) -> float:
    """Return the PSNR in dB over all samples of two signals of the same kind; alpha does not count.

    The peak is the range of the samples: 255 or 65535 of an image, 2 (from -1 to 1) of sound. Of video the samples are
    those of all frames as RGB.
    """
    if kind_of(original) == "video":
        from codec.engine import clips

        if decoded.length != original.length:
            raise ValueError(f"videos must have as many frames, not {decoded.length} and {original.length}")
        return clips.psnr([decoded.frames], clips.InMemory(original))
    integers = original.samples.dtype.kind == "u"
    peak = float(np.iinfo(original.samples.dtype).max) if integers else 2.0
    mse = squared_error(decoded.samples, original.samples) / max(original.samples.size, 1)
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)
