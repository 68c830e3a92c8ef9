"""The audio codecs that others use: Opus, AAC and MP3 by PyAV, and Lyra V2, a learned one, by its published networks.

Each has a function that encodes a signal [channels, samples] (float, full scale -1..1) to a complete file, as a user of
ffmpeg would get it, and one that decodes such a file to a signal and its sample rate, aligned with the original: what
encoders put in front is taken off, and so is what they append. The rate of an anchor is the size of its file:

    kbps = 8 * len(file) / seconds / 1000

Each codec at the settings it is best at: Opus at complexity 10 with variable bit rate, LAME at its slowest, AAC by
FFmpeg's own encoder, the only one there is in PyAV. All decoders are FFmpeg's.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from importlib import import_module, metadata
from math import ceil
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from codec.errors import MediaError, MissingModelError, MissingPackageError
from codec.evaluation.libraries import runtime, stated_version
from codec.media.resample import resample

_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)  # what the encoder takes; it decodes to the last
OPUS_APPLICATIONS = ("voip", "audio", "lowdelay")
FRAMES_MS = (2.5, 5, 10, 20, 40, 60, 80, 100, 120)  # ms
_STATED = slice(12, 16)  # of the header of Opus: original sample rate, little endian (RFC 7845, 5.1)
_NARROWBAND_DELAY = 5  # samples at 48 kHz that FFmpeg decodes it late (measured: 5 to 6.5; other modes: 0)
_MP3_KBPS = {  # lowest sample rate of a version of MPEG audio -> the bit rates it can state
    32_000: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    16_000: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    8_000: (8, 16, 24, 32, 40, 48, 56, 64),
}
_LYRA_RATE, _LYRA_HOP = 16_000, 320  # samples per second, samples per packet
_LYRA_BITS = {3.2: 64, 6.0: 120, 9.2: 184}  # kbit/s -> bits per packet (lyra/lyra_config.cc)
LYRA_KBPS = tuple(_LYRA_BITS)
_LYRA_STAGES = 46  # of its residual vector quantizer; 4 bits each
_LYRA_FILES = ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite")
_LYRA_WEIGHTS = "download lyra/model_coeffs of github.com/google/lyra and name that folder by CODEC_LYRA"


@dataclass(frozen=True)
class AudioAnchor:
    """One codec.

    Attributes:
        encode: signal [channels, samples], samples per second, kbit/s, options by keyword -> the whole file.
        decode: the whole file, kbit/s it was encoded with -> signal [channels, samples] float32, samples per second.
        version: of the encoder and what it runs in, for rows.
    """

    encode: Callable[..., bytes]
    decode: Callable[[bytes, float], tuple[np.ndarray, int]]
    version: Callable[[], str]


def encode_opus(
    samples: np.ndarray,
    rate: int,
    kbps: float,
    *,
    application: str = "audio",
    complexity: int = 10,
    frame_ms: float = 20,
    vbr: bool = True,
) -> bytes:
    """Return an .opus file by libopus.

    A signal at another rate than 8, 12, 16, 24 or 48 kHz is resampled to the next higher of them, as ffmpeg and opusenc
    do; the file states the original rate (RFC 7845, 5.1), which `decode` goes back to. Ogg draws no serial number and
    names no version of FFmpeg, so that the same signal gives the same file.

    Args:
        rate: 8,000..48,000.
        kbps: 6..256 for each channel, and 510 at most.
        application: what it is tuned for: `voip` (speech), `audio` or `lowdelay`.
        complexity: 0..10.
        frame_ms: 2.5, 5, 10, 20, 40, 60, 80, 100 or 120.
        vbr: variable bit rate; otherwise every packet has the same size.

    Raises:
        MediaError: Opus has no such rate, bit rate or option, or cannot hold the signal.
    """
    _check(samples)
    highest = min(256 * len(samples), 510)
    _require(8_000 <= rate <= 48_000, f"Opus holds 8000 to 48000 samples per second, not {rate}; resample")
    _require(Fraction(rate, 48_000).denominator <= 1000, f"{rate} samples per second are odd; resample to 48000")
    _require(6 <= kbps <= highest, f"Opus takes 6 to {highest} kbit/s for {len(samples)} channels, not {kbps:g}")
    _require(application in OPUS_APPLICATIONS, f"application is one of {OPUS_APPLICATIONS}, not {application!r}")
    _require(frame_ms in FRAMES_MS, f"frame_ms is one of {FRAMES_MS}, not {frame_ms}")
    _require(complexity in range(11), f"complexity is 0 to 10, not {complexity}")
    options = {
        "application": application,
        "compression_level": str(complexity),
        "frame_duration": f"{frame_ms:g}",
        "vbr": "on" if vbr else "off",
    }
    coded = next(r for r in _OPUS_RATES if r >= rate)
    muxer = {"fflags": "+bitexact"}
    signal = resample(samples, rate, coded)
    return _encode(signal, coded, kbps, "libopus", "opus", "flt", options, muxer=muxer, made_from=rate)


def encode_aac(samples: np.ndarray, rate: int, kbps: float) -> bytes:
    """Return an .m4a file with AAC-LC by FFmpeg's encoder.

    Args:
        rate: one that AAC knows, 7,350..96,000.
        kbps: 8 to 6 bits for each sample. The encoder does not get below about 14 kbit/s at 16 kHz and 24 kbit/s at
            44.1 kHz in stereo, whatever is asked for: what counts is the size of the file.

    Raises:
        MediaError: AAC has no such rate or bit rate, or cannot hold the signal.
    """
    _check(samples)
    rates, highest = sorted(av.Codec("aac", "w").audio_rates), 6 * rate * len(samples) / 1000
    _require(rate in rates, f"AAC knows the sample rates {rates}, not {rate}; resample")
    _require(8 <= kbps <= highest, f"AAC takes 8 to {highest:g} kbit/s for this signal, not {kbps:g}")
    # By default the length is stated in milliseconds, and what is beyond is lost.
    return _encode(samples, rate, kbps, "aac", "ipod", "fltp", {}, muxer={"movie_timescale": str(rate)})


def encode_mp3(samples: np.ndarray, rate: int, kbps: float) -> bytes:
    """Return an .mp3 file of constant bit rate by LAME, joint stereo.

    Args:
        rate: 8,000, 11,025, 12,000, 16,000, 22,050, 24,000, 32,000, 44,100 or 48,000.
        kbps: one that this version of MPEG audio can state: 32..320 from 32,000 samples per second, 8..160 from 16,000,
            else 8..64.

    Raises:
        MediaError: MP3 has no such rate or bit rate, or cannot hold the signal.
    """
    _check(samples)
    rates = sorted(av.Codec("libmp3lame", "w").audio_rates)
    _require(rate in rates, f"MP3 knows the sample rates {rates}, not {rate}; resample")
    allowed = next(of for lowest, of in _MP3_KBPS.items() if rate >= lowest)
    _require(kbps in allowed, f"MP3 at {rate} samples per second has the bit rates {allowed} kbit/s, not {kbps:g}")
    return _encode(samples, rate, kbps, "libmp3lame", "mp3", "fltp", {"compression_level": "0"})


def decode(data: bytes, *, samples: int | None = None) -> tuple[np.ndarray, int]:
    """Return the signal [channels, samples] float32 of an .opus, .m4a or .mp3 file, and its sample rate.

    Sample 0 is the original's sample 0, and there are as many. MP3 alone may have up to 46 too many: LAME can state no
    less padding.

    Args:
        samples: cut to this length.

    Raises:
        MediaError: the file is damaged, or shorter than `samples`.
    """
    pieces, end, narrow = [], None, []
    try:
        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.audio[0]
            rate, head = stream.rate, stream.codec_context.extradata or b""
            for packet in container.demux(stream):
                if packet.pts is not None and packet.duration:
                    end = round((packet.pts + packet.duration) * packet.time_base * rate)
                    narrow.append(bytes(packet)[0] >> 5 == 0)  # Opus: configurations 0 to 3 (RFC 6716, 3.1)
                pieces += [frame.to_ndarray() for frame in packet.decode()]
    except (av.error.FFmpegError, IndexError) as exc:
        raise MediaError(f"the file cannot be decoded ({exc}); encode again") from exc
    _require(bool(pieces), "the file holds no sound; encode again")
    signal = np.concatenate(pieces, axis=1)[:, :end].astype(np.float32, copy=False)
    if head.startswith(b"OpusHead"):
        if 2 * sum(narrow) > len(narrow):
            signal = np.pad(signal, ((0, 0), (0, _NARROWBAND_DELAY)))[:, _NARROWBAND_DELAY:]
        signal, rate = _at_stated_rate(signal, rate, int.from_bytes(head[_STATED], "little"))
    return _cut(signal, samples), rate


def encode_lyra(samples: np.ndarray, rate: int, kbps: float, *, folder: str | None = None) -> bytes:
    """Return a Lyra V2 file: its packets one after another, as the reference encoder writes it, without any header.

    The last packet is filled up with silence. Neither rate nor length is in the file.

    Args:
        samples: one channel.
        rate: 16,000.
        kbps: 3.2, 6.0 or 9.2.
        folder: with the weights; else environment variable CODEC_LYRA.

    Raises:
        MediaError: it is not one channel at 16 kHz, or there is no such bit rate.
        MissingPackageError: ai-edge-litert is not installed.
        MissingModelError: the weights are not there.
    """
    _check(samples)
    stages = _lyra_stages(kbps)
    _require(len(samples) == 1 and rate == _LYRA_RATE, "Lyra takes one channel at 16000 samples per second; convert")
    padded = np.zeros(ceil(samples.shape[1] / _LYRA_HOP) * _LYRA_HOP, np.float32)
    padded[: samples.shape[1]] = samples[0]
    networks = _lyra(folder)
    encoder, quantizer = _runner(networks[0]), _interpreter(networks[1]).get_signature_runner("encode")
    packets = []
    for frame in padded.reshape(-1, 1, _LYRA_HOP):
        features = encoder(frame)
        indices = quantizer(input_frames=features, num_quantizers=np.int32(stages))["output_0"].ravel()[:stages]
        halves = indices.astype(np.uint8)  # two 4-bit indices a byte, the first in the high half
        packets.append((halves[::2] << 4 | halves[1::2]).tobytes())
    return b"".join(packets)


def decode_lyra(
    data: bytes, *, kbps: float, samples: int | None = None, folder: str | None = None
) -> tuple[np.ndarray, int]:
    """Return the signal [1, samples] float32 of a Lyra V2 file, and 16,000.

    Args:
        kbps: that it was encoded with; the file does not say.
        samples: cut to this length; otherwise there are 320 for each packet.
        folder: with the weights; else environment variable CODEC_LYRA.

    Raises:
        MediaError: the file is not made of packets of this bit rate, or shorter than `samples`.
        MissingPackageError: ai-edge-litert is not installed.
        MissingModelError: the weights are not there.
    """
    stages = _lyra_stages(kbps)
    _require(bool(data) and len(data) % (stages // 2) == 0, f"the file is not Lyra at {kbps:g} kbit/s; encode again")
    networks = _lyra(folder)
    quantizer, decoder = _interpreter(networks[1]).get_signature_runner("decode"), _runner(networks[2])
    pieces = []
    for packet in np.frombuffer(data, np.uint8).reshape(-1, stages // 2):
        indices = np.full((_LYRA_STAGES, 1, 1), -1, np.int32)  # -1: this stage was not sent
        indices[:stages, 0, 0] = np.stack([packet >> 4, packet & 15], axis=1).ravel()
        pieces.append(decoder(quantizer(encoding_indices=indices)["output_0"]).reshape(1, -1))
    return _cut(np.concatenate(pieces, axis=1).clip(-1, 1), samples), _LYRA_RATE


def lyra_version(folder: str | None = None) -> str:
    """Return what runs Lyra and the SHA-256 of its weights.

    Raises:
        MissingPackageError, MissingModelError: it cannot run here.
    """
    digest = hashlib.sha256(b"".join(_lyra(folder)))
    return f"Lyra V2, weights {digest.hexdigest()[:12]} (ai-edge-litert {metadata.version('ai-edge-litert')})"


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise MediaError(otherwise)


def _check(samples: np.ndarray) -> None:
    _require(samples.ndim == 2, f"a signal is [channels, samples], not {samples.shape}; add the missing axis")
    _require(len(samples) in (1, 2), f"these codecs take one or two channels here, not {len(samples)}; mix them down")
    _require(samples.shape[1] > 0, "a signal without samples cannot be encoded; leave it out")
    _require(bool(np.isfinite(samples).all()), "a signal must hold finite numbers only; repair it")


def _cut(signal: np.ndarray, samples: int | None) -> np.ndarray:
    missing = 0 if samples is None else samples - signal.shape[1]
    _require(missing <= 0, f"the file is {missing} samples too short; encode again")
    return np.ascontiguousarray(signal[:, :samples])


def _encode(
    samples: np.ndarray,
    rate: int,
    kbps: float,
    encoder: str,
    container: str,
    sample_format: str,
    options: Mapping[str, str],
    *,
    muxer: Mapping[str, str] | None = None,
    made_from: int | None = None,
) -> bytes:
    """Return a file by PyAV.

    Args:
        made_from: sample rate that the header of Opus shall state.
    """
    layout = ("mono", "stereo")[len(samples) - 1]
    out = io.BytesIO()
    try:
        with av.open(out, "w", format=container, options=dict(muxer or {})) as file:
            stream = file.add_stream(encoder, rate=rate, layout=layout, options=dict(options))
            stream.bit_rate = round(kbps * 1000)
            stream.codec_context.format = sample_format  # else the first it knows: 16 bits
            stream.codec_context.open()
            if made_from:
                head = stream.codec_context.extradata
                stream.codec_context.extradata = (
                    head[: _STATED.start] + made_from.to_bytes(4, "little") + head[_STATED.stop :]
                )
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), "fltp", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    except av.error.FFmpegError as exc:
        raise MediaError(f"{encoder} cannot encode this at {kbps:g} kbit/s ({exc}); try another bit rate") from exc
    return out.getvalue()


def _at_stated_rate(signal: np.ndarray, rate: int, stated: int) -> tuple[np.ndarray, int]:
    """Return what Opus decoded at the rate it was made from; 0 or one it cannot have come from says nothing."""
    if stated == rate or not 8_000 <= stated <= 48_000:
        return signal, rate
    return resample(signal, rate, stated), stated


def _version(encoder: str, library: str, function: str) -> str:
    """Return an encoder with the versions of what it runs in."""
    return f"{encoder} {stated_version(library, function)}".rstrip() + f" ({runtime()})"


def _lyra_stages(kbps: float) -> int:
    _require(kbps in _LYRA_BITS, f"Lyra has the bit rates {', '.join(map(str, _LYRA_BITS))} kbit/s, not {kbps:g}")
    return _LYRA_BITS[kbps] // 4


def _lyra(folder: str | None) -> tuple[bytes, bytes, bytes]:
    """Return the networks: encoder, quantizer, decoder."""
    try:
        import_module("ai_edge_litert.interpreter")
    except ImportError as exc:
        raise MissingPackageError("Lyra needs a package; pip install ai-edge-litert") from exc
    folder = folder or os.environ.get("CODEC_LYRA")
    if not folder:
        raise MissingModelError(f"Lyra needs its weights; {_LYRA_WEIGHTS}")
    return _read_lyra(folder)


@lru_cache(maxsize=2)
def _read_lyra(folder: str) -> tuple[bytes, bytes, bytes]:
    try:
        return tuple((Path(folder) / name).read_bytes() for name in _LYRA_FILES)
    except OSError as exc:
        raise MissingModelError(f"{exc.filename}: Lyra's weights cannot be read; {_LYRA_WEIGHTS}") from exc


def _interpreter(network: bytes) -> Any:
    """Return a new interpreter: these networks have a state, and resetting it does not bring back how it began."""
    return import_module("ai_edge_litert.interpreter").Interpreter(model_content=network, num_threads=1)


def _runner(network: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Return a network of one input and one output as a function."""
    interpreter = _interpreter(network)
    interpreter.allocate_tensors()
    into, out = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(value: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(into, value)
        interpreter.invoke()
        return interpreter.get_tensor(out)

    return run


def _decode(data: bytes, kbps: float) -> tuple[np.ndarray, int]:
    return decode(data)


ANCHORS = {
    "opus": AudioAnchor(encode_opus, _decode, lambda: _version("libopus", "libopus", "opus_get_version_string")),
    "aac": AudioAnchor(encode_aac, _decode, lambda: f"FFmpeg's aac ({runtime()})"),
    "mp3": AudioAnchor(encode_mp3, _decode, lambda: _version("libmp3lame", "libmp3lame", "get_lame_version")),
    "lyra": AudioAnchor(encode_lyra, lambda data, kbps: decode_lyra(data, kbps=kbps), lyra_version),
}
