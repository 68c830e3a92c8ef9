"""The codecs of `codec.evaluation.audio_anchors` as families to evaluate.

    opus:kbps=6..64,application=voip      mp3:kbps=64,128      aac      lyra

The values of `kbps` are what an encoder is asked for; the rate of a point is the size of its files.
"""

from __future__ import annotations

from typing import Any

from codec.evaluation.audio_anchors import ANCHORS, FRAMES_MS, LYRA_KBPS, OPUS_APPLICATIONS
from codec.evaluation.codecs import Codec, Option, family, one_of, real, whole
from codec.media.audio import Audio


def _kbps(low: float, high: float, *default: int) -> Option:
    return Option("kbit/s asked for", real(low, high), tuple(map(str, default)), spans=True)


def _codec(name: str, kbps: str, **options: Any) -> Codec:
    """Return an anchor at one bit rate."""
    anchor, rate = ANCHORS[name], float(kbps)

    def decode(data: bytes) -> Audio:
        return Audio(*anchor.decode(data, rate))

    return Codec(
        anchor.version(),
        {"kbps": rate, **options},
        lambda sound: anchor.encode(sound.samples, sound.rate, rate, **options),
        decode,
    )


@family(
    kind="anchor",
    media="audio",
    options={
        "kbps": _kbps(6, 510, 16, 24, 32, 48, 64, 96),
        "application": Option("what it is tuned for", one_of(*OPUS_APPLICATIONS), ("audio",)),
        "complexity": Option("10 is slowest", whole(0, 10), ("10",)),
        "frame": Option("ms a packet", one_of(*(f"{ms:g}" for ms in FRAMES_MS)), ("20",)),
        "vbr": Option("variable bit rate", one_of("on", "off"), ("on",)),
    },
)
def opus(options: dict[str, str]) -> Codec:
    """Opus by libopus; `application=voip` is its tuning for speech."""
    return _codec(
        "opus",
        options["kbps"],
        application=options["application"],
        complexity=int(options["complexity"]),
        frame_ms=float(options["frame"]),
        vbr=options["vbr"] == "on",
    )


@family(kind="anchor", media="audio", options={"kbps": _kbps(8, 576, 24, 32, 48, 64, 80, 96)})
def aac(options: dict[str, str]) -> Codec:
    """AAC-LC by FFmpeg's own encoder."""
    return _codec("aac", options["kbps"])


@family(kind="anchor", media="audio", options={"kbps": _kbps(8, 320, 32, 48, 64, 96, 128, 160)})
def mp3(options: dict[str, str]) -> Codec:
    """MP3 by LAME, constant bit rate."""
    return _codec("mp3", options["kbps"])


@family(
    kind="peer",
    media="audio",
    options={
        "kbps": Option("kbit/s", one_of(*(f"{rate:g}" for rate in LYRA_KBPS)), ("3.2", "6", "9.2"), spans=True),
    },
)
def lyra(options: dict[str, str]) -> Codec:
    """Lyra V2 for speech at 16 kHz, on its published networks in the folder that the environment calls CODEC_LYRA."""
    return _codec("lyra", options["kbps"])
