"""Sound in an evaluation: kilobits per second, and metrics of samples, spectra and listeners."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from codec.checkpoint import SPEECH_RATE
from codec.errors import MediaError
from codec.evaluation.audio_errors import constant
from codec.evaluation.audio_metrics import METRICS, OF_SPEECH, alike
from codec.evaluation.medium import Medium
from codec.media import audio
from codec.media.audio import Audio
from codec.media.kinds import SOUND_SUFFIXES
from codec.rate import kilobits_per_second


def _read(path: str) -> Audio:
    """Return sound without tags.

    Raises:
        MediaError: it cannot be read, or is silent from end to end: neither a rate nor a ratio would mean anything.
    """
    sound = audio.read(path)
    if constant(sound.samples):
        raise MediaError(f"{path}: there is no sound in it; leave it out")
    return Audio(sound.samples, sound.rate, sound.depth, sound.layout)


def _size_of(sound: Audio) -> dict[str, int]:
    return {"channels": sound.channels, "sample_rate": int(sound.rate), "samples": sound.length}


def _duration_of(size: Mapping[str, int]) -> float:
    return size["samples"] / size["sample_rate"]


def _rate_of(size: int, of: Mapping[str, int]) -> float:
    return kilobits_per_second(size, _duration_of(of))


def _unsuited(sources: Iterable[Any]) -> tuple[tuple[str, ...], str]:
    """Return the metrics of speech, unless all that can be read is like recorded speech: one channel, up to 24 kHz."""
    if all(map(_like_speech, sources)):
        return (), ""
    why = f"one channel at up to {SPEECH_RATE / 1000:g} kHz; name them by --metric to have them"
    return OF_SPEECH, f"{', '.join(OF_SPEECH)} are for speech, and this is not all {why}"


def _like_speech(source: Any) -> bool:
    if isinstance(source, Audio):
        return source.channels == 1 and source.rate <= SPEECH_RATE
    try:
        with audio.Reader(source) as reader:
            return reader.channels == 1 and reader.rate <= SPEECH_RATE
    except MediaError:
        return True  # it counts for nothing


SOUNDS = Medium(
    name="audio",
    thing="sound",
    things="sounds",
    suffixes=lambda: set(SOUND_SUFFIXES),
    read=_read,
    size_of=_size_of,
    rate_of=_rate_of,
    duration_of=_duration_of,
    alike=alike,
    excerpt=lambda signal: signal,
    keeps=False,
    metrics=METRICS,
    derived={},
    columns=tuple(name for name in METRICS if name != "mse"),
    infinite=("psnr", "snr", "si-sdr", "mse"),
    unsuited=_unsuited,
    published={name: name for name in METRICS},
    conventions={
        "Data": "Every codec gets the same samples in memory: the file at its own sample rate and with all its "
        "channels, without tags. What is decoded is compared as the decoder gives it, before it is rounded to the "
        "depth of a file, aligned with the original by what the file itself says; the few samples that MP3 and Lyra "
        "append are left out.",
        "Rate": "Kilobits per second: 8 x size of the whole file / duration / 1000, header included; mean over files. "
        "What an encoder was asked for (kbps=... in the name of a setting) is not the rate.",
        "Speech": f"{', '.join(OF_SPEECH)} are measured by default only where all files have one channel at up to "
        f"{SPEECH_RATE:,} samples a second: they say nothing about music.",
        "Seconds": "Samples in memory to the bytes of the file in memory, and back. Times real time: duration of the "
        "files / these seconds. The codecs of FFmpeg and Lyra use one thread whatever is allowed.",
    },
    packages=("codec", "torch", "numpy", "av"),
)
