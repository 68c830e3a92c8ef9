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
    from codec.media.audio import Audio
    from codec.media.image import Image
    from codec.system import Progress

DEFAULT_QUALITY = 60.0


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
    device: str = "auto",
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> bytes:
    """Compress an image or sound and return the bytes of a .lcb file.

    Args:
        signal: path, bytes or binary file of an image or sound; `codec.Image` or `codec.Audio`; Pillow image; array
            [H, W] or [H, W, C]; tensor [C, H, W].
        model: name of an installed model, see `codec list models`; by default that for the kind of signal.
        quality: 0..100 (default 60). Instead of it, at most one of: `target_size` (bytes, not exceeded), `bpp`
            (bits per pixel of an image's file, not exceeded), `kbps` (kilobits a second of a sound's file, not
            exceeded), `psnr` (dB, at least; images).
        effort: 1..10: 1 is one forward pass, more looks longer for a better stream.
        strip: leave ICC, EXIF, XMP and tags out.
        device: `auto`, `cpu` or `cuda`.
        progress: called with the fraction done.

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
    signal = read(signal, max_pixels=max_pixels)
    kind = kind_of(signal)
    for name, wanted in (("bpp", "image"), ("psnr", "image"), ("kbps", "audio")):
        if given == [name] and kind != wanted:
            raise ValueError(f"{name} is for {wanted}, not for {kind}")
    info = checkpoint.find_model(model or default_model(signal))
    system = checkpoint.load(info, device)
    if system.media != kind:
        raise ValueError(f"the model {info.name} is for {system.media}, not for {kind}")
    if kind == "audio":
        from codec.engine import audio as engine
    else:
        from codec.engine import images as engine

    def attempt(value: float) -> bytes:
        return engine.encode(
            signal, info, system, quality=value, effort=effort, strip=strip, progress=progress or no_progress
        )

    single = system.single_rate
    if psnr is not None:
        measure = lambda data: _psnr(data, signal, device)
        return rate.smallest_above(attempt, measure, psnr, f"a PSNR of {psnr:g} dB", single=single)
    limits = {
        "target_size": lambda: (target_size, f"a size of {target_size} bytes"),
        "bpp": lambda: (bpp * signal.width * signal.height / 8, f"a rate of {bpp:g} bits per pixel"),
        "kbps": lambda: (kbps * 125 * signal.seconds, f"a rate of {kbps:g} kbit/s"),
    }
    if given and given[0] in limits:
        limit, what = limits[given[0]]()
        return rate.largest_below(attempt, len, limit, f"{what} ({limit:.0f} bytes)", single=single)
    quality = DEFAULT_QUALITY if quality is None else quality
    return attempt(quality_of(quality_index(quality)))


def default_model(signal: Any) -> str:
    """Return the name of the model for a signal; of sound, anything with `rate` and `channels` will do."""
    kind = "audio" if hasattr(signal, "rate") else kind_of(signal)
    speech = kind == "audio" and signal.channels == 1 and signal.rate <= checkpoint.SPEECH_RATE
    return checkpoint.DEFAULT_MODELS["speech" if speech else kind]


def read(source: Any, *, max_pixels: int = MAX_PIXELS) -> Image | Audio:
    """Read an image or sound from a path, bytes or binary file, told apart by how the file begins.

    See `codec.media.image.read` for what else is taken as an image, and `codec.media.audio.read` for errors.
    """
    if kind_of(source) == "audio":
        from codec.media import audio

        return source if isinstance(source, audio.Audio) else audio.read(source)
    from codec.media import image

    return image.read(source, max_pixels=max_pixels)


def write(signal: Image | Audio, file: Any, format: str) -> list[str]:
    """Write an image or sound to a file and return the names of metadata the format cannot hold."""
    if kind_of(signal) == "audio":
        from codec.media import audio

        return audio.write(signal, file, format)
    from codec.media import image

    return image.write(signal, file, format)


def decode(source: Source, *, device: str = "auto", **limits: int) -> Image | Audio:
    """Decompress a .lcb file (path, bytes or binary file).

    Args:
        limits: `max_pixels` and `max_memory` (bytes), checked before anything is allocated.

    Raises:
        FormatError: damaged, truncated or not a .lcb file.
        LimitError: larger than the limits.
        UnknownSystemError, MissingModelError: what it needs is not installed.
    """
    return Stream(source, device=device, **limits).decode()


def from_tokens(
    tokens: Any, model: str, *, rate: int | None = None, length: int | None = None, device: str = "auto"
) -> Audio:
    """Return the sound that codebook indices stand for: `Stream.tokens`, or what a language model makes.

    Args:
        tokens: whole numbers [books, frames], or [channels, books, frames]; the first books of the model are enough.
        model: whose codebooks they belong to.
        rate: samples a second of the result; by default the model's.
        length: samples a channel to return; by default all.

    Raises:
        ValueError: they do not fit the model, or it has no codebooks.
    """
    import torch

    from codec.engine import audio

    system = checkpoint.load(checkpoint.find_model(model), device)
    if not hasattr(system, "of_tokens"):
        raise ValueError(f"{model} has no codebooks, so no tokens; choose a model of system rvq")
    given = np.asarray(tokens)
    if given.dtype.kind not in "iu":
        raise ValueError(f"tokens are whole numbers, not {given.dtype}")
    return audio.play(*system.of_tokens(torch.from_numpy(given.astype(np.int64))), system, rate=rate, length=length)


def _psnr(data: bytes, original: Image, device: str) -> float:
    return psnr_of(Stream(data, device=device, max_pixels=UNLIMITED, max_memory=UNLIMITED).decode(), original)


def psnr_of(decoded: Image | Audio, original: Image | Audio) -> float:
    """Return the PSNR in dB over all samples of two signals of the same kind; alpha does not count.

    The peak is the range of the samples: 255 or 65535 of an image, 2 (from -1 to 1) of sound.
    """
    integers = original.samples.dtype.kind == "u"
    peak = float(np.iinfo(original.samples.dtype).max) if integers else 2.0
    mse = squared_error(decoded.samples, original.samples) / max(original.samples.size, 1)
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)
