import os
import sys

import numpy as np
import pytest

from codec.errors import MediaError, MissingModelError, MissingPackageError
from codec.evaluation import audio_anchors
from codec.evaluation.audio_anchors import (
    ANCHORS,
    decode,
    decode_lyra,
    encode_aac,
    encode_lyra,
    encode_mp3,
    encode_opus,
)
from codec.evaluation.audio_errors import si_sdr, snr
from codec.media.resample import resample

RATES = {
    "opus": (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    "aac": (8_000, 16_000, 44_100, 48_000),
    "mp3": (8_000, 11_025, 16_000, 22_050, 44_100, 48_000),
}
CASES = [(name, rate) for name, rates in RATES.items() for rate in rates]


def noise(rate: int, seconds: float, channels: int = 1, low: float = 300, high: float = 3400) -> np.ndarray:
    """Return noise of a band of frequencies [channels, samples]: it resembles itself at no other time."""
    random, count = np.random.default_rng(1), round(seconds * rate)
    frequencies = np.fft.rfftfreq(count, 1 / rate)
    spectrum = random.standard_normal((channels, frequencies.size)) * (frequencies >= low) * (frequencies <= high)
    signal = np.fft.irfft(spectrum * np.exp(2j * np.pi * random.random(spectrum.shape)), count)
    return (0.3 * signal / np.abs(signal).max()).astype(np.float32)


def voice(rate: int, seconds: float) -> np.ndarray:
    """Return [1, samples] of a voice that never repeats: a gliding pitch with 30 harmonics."""
    times = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(110 + 40 * np.sin(1.3 * times) + 9 * times) / rate
    harmonics = [np.exp(-(((k - 6) / 8) ** 2)) * np.sin(k * phase + k * k) for k in range(2, 22)]
    return (0.1 * np.sum(harmonics, axis=0) * np.sin(np.pi * 2.5 * times) ** 2).astype(np.float32)[None]


def lag(original: np.ndarray, decoded: np.ndarray) -> int:
    """Return by how many samples a decoded channel is late, from the peak of the cross-correlation."""
    size = 2 * original.size
    correlation = np.fft.irfft(np.fft.rfft(decoded, size) * np.fft.rfft(original, size).conj(), size)
    peak = int(correlation.argmax())
    return peak if peak < size // 2 else peak - size


@pytest.mark.parametrize(("name", "rate"), CASES)
@pytest.mark.parametrize("channels", [1, 2])
def test_decoded_signals_are_aligned(name, rate, channels):
    signal = noise(rate, 0.6 + 1 / 7, channels)
    data = ANCHORS[name].encode(signal, rate, 40 if rate == 8_000 else 64)
    decoded, decoded_rate = decode(data)
    assert (decoded_rate, decoded.shape, decoded.dtype) == (rate, signal.shape, np.float32)
    assert [lag(*pair) for pair in zip(signal, decoded, strict=True)] == [0] * channels
    assert snr(signal, decoded) > 4


@pytest.mark.parametrize("kbps", [6, 8, 10, 12, 16, 24, 64])
def test_every_mode_of_opus_is_aligned(kbps):
    """Narrowband, wideband and hybrid; a quarter of a sample away from where it should be is seen."""
    signal = voice(16_000, 3)
    decoded, _ = decode(encode_opus(signal, 16_000, kbps))
    fine = [resample(x, 16_000, 64_000) for x in (signal, decoded)]
    shifts = {shift: si_sdr(fine[0], np.roll(fine[1], -shift, axis=1)) for shift in range(-8, 9)}
    assert abs(max(shifts, key=shifts.get)) <= 2


@pytest.mark.parametrize(("name", "rate"), [("opus", 16_000), ("opus", 22_050), ("opus", 44_100), ("aac", 44_100)])
@pytest.mark.parametrize("count", [1, 2, 100, 959, 960, 961, 1023, 1024, 1025, 2048, 5001])
def test_length_comes_back(name, rate, count):
    signal = noise(rate, 0.4)[:, :count]
    assert decode(ANCHORS[name].encode(signal, rate, 32))[0].shape == (1, count)


@pytest.mark.parametrize("count", [1, 47, 577, 1153, 5001])
def test_length_of_mp3_comes_back_where_it_is_told(count):
    data = encode_mp3(noise(44_100, 0.3)[:, :count], 44_100, 64)
    assert 0 <= decode(data)[0].shape[1] - count <= 46
    assert decode(data, samples=count)[0].shape == (1, count)


def test_size_is_about_what_was_asked_for():
    signal = voice(16_000, 4)
    for kbps in (8, 16, 32):
        assert 8 * len(encode_opus(signal, 16_000, kbps)) / 4000 == pytest.approx(kbps, rel=0.35)
        assert 8 * len(encode_mp3(signal, 16_000, kbps)) / 4000 == pytest.approx(kbps, rel=0.2)
    assert 8 * len(encode_aac(signal, 16_000, 32)) / 4000 == pytest.approx(32, rel=0.2)


def test_more_bits_give_less_error():
    signal = voice(44_100, 2)
    for encode, rates in ((encode_opus, (16, 64, 160)), (encode_aac, (32, 64, 160)), (encode_mp3, (32, 64, 160))):
        values = [snr(signal, decode(encode(signal, 44_100, kbps))[0]) for kbps in rates]
        assert values == sorted(values)


def test_files_are_what_they_are_called():
    signal = noise(44_100, 0.2)
    data = encode_opus(signal, 44_100, 64)
    head = data.index(b"OpusHead")
    assert data.startswith(b"OggS")
    assert int.from_bytes(data[head + 12 : head + 16], "little") == 44_100
    assert encode_aac(signal, 44_100, 64)[4:12] == b"ftypM4A "
    assert encode_mp3(signal, 44_100, 64).startswith(b"ID3")


def test_options_of_opus():
    signal = voice(16_000, 2)
    usual = encode_opus(signal, 16_000, 16)
    again = encode_opus(signal, 16_000, 16)
    assert again == usual
    for changed in ({"application": "voip"}, {"complexity": 0}, {"frame_ms": 60}, {"frame_ms": 2.5}, {"vbr": False}):
        data = encode_opus(signal, 16_000, 16, **changed)
        decoded, _ = decode(data)
        assert decoded.shape == signal.shape
        assert not np.array_equal(decoded, decode(usual)[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: encode_opus(x, 16_000, 5), "6 to 256 kbit/s"),
        (lambda x: encode_opus(x, 16_000, 300), "6 to 256 kbit/s"),
        (lambda x: encode_opus(np.repeat(x, 2, 0), 48_000, 511), "6 to 510 kbit/s"),
        (lambda x: encode_opus(x, 16_000, float("nan")), "6 to 256 kbit/s"),
        (lambda x: encode_opus(x, 96_000, 64), "8000 to 48000"),
        (lambda x: encode_opus(x, 44_099, 64), "resample to 48000"),
        (lambda x: encode_opus(x, 16_000, 16, application="music"), "voip"),
        (lambda x: encode_opus(x, 16_000, 16, frame_ms=30), "frame_ms"),
        (lambda x: encode_opus(x, 16_000, 16, complexity=11), "complexity"),
        (lambda x: encode_aac(x, 16_000, 97), "8 to 96 kbit/s"),
        (lambda x: encode_aac(x, 17_000, 64), "44100"),
        (lambda x: encode_mp3(x, 16_000, 320), "160"),
        (lambda x: encode_mp3(x, 44_100, 33), "40"),
        (lambda x: encode_mp3(x, 96_000, 64), "48000"),
        (lambda x: encode_lyra(x, 16_000, 5), "3.2, 6.0, 9.2"),
        (lambda x: encode_lyra(x, 48_000, 6.0), "16000"),
        (lambda x: encode_lyra(np.repeat(x, 2, 0), 16_000, 6.0), "one channel"),
        (lambda x: decode_lyra(b"123456789", kbps=3.2), "3.2 kbit/s"),
        (lambda x: encode_opus(x[0], 16_000, 16), "missing axis"),
        (lambda x: encode_opus(np.repeat(x, 3, 0), 16_000, 16), "one or two"),
        (lambda x: encode_aac(x[:, :0], 16_000, 16), "without samples"),
        (lambda x: encode_mp3(x * np.float32("inf"), 16_000, 16), "finite"),
    ],
)
def test_what_is_impossible_is_said(call, message):
    with pytest.raises(MediaError, match=message):
        call(noise(16_000, 0.1) + np.float32(1e-6))


@pytest.mark.parametrize("name", ["opus", "aac", "mp3"])
def test_damaged_files(name):
    signal = noise(16_000, 0.5)
    data = ANCHORS[name].encode(signal, 16_000, 32)
    for damaged in (b"", b"junk" * 99, data[:40]):
        with pytest.raises(MediaError, match="encode again"):
            decode(damaged)
    with pytest.raises(MediaError, match="samples too short"):
        decode(data, samples=signal.shape[1] + 47)


def test_versions():
    assert "libopus " in ANCHORS["opus"].version()
    assert all("FFmpeg" in ANCHORS[name].version() for name in ("opus", "aac", "mp3"))


def test_lyra_without_its_package_or_weights(monkeypatch, tmp_path):
    signal = noise(16_000, 0.1)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingPackageError, match="pip install ai-edge-litert"):
        encode_lyra(signal, 16_000, 3.2)
    monkeypatch.undo()
    pytest.importorskip("ai_edge_litert.interpreter")
    monkeypatch.delenv("CODEC_LYRA", raising=False)
    with pytest.raises(MissingModelError, match="CODEC_LYRA"):
        encode_lyra(signal, 16_000, 3.2)
    with pytest.raises(MissingModelError, match=r"soundstream_encoder.tflite.*CODEC_LYRA"):
        decode_lyra(b"12345678", kbps=3.2, folder=str(tmp_path))


@pytest.mark.skipif("CODEC_LYRA" not in os.environ, reason="CODEC_LYRA does not name its weights")
def test_lyra():
    pytest.importorskip("ai_edge_litert.interpreter")
    signal = voice(16_000, 1.01)
    errors = []
    for kbps, bits in ((3.2, 64), (6.0, 120), (9.2, 184)):
        data = encode_lyra(signal, 16_000, kbps)
        assert len(data) == 51 * bits // 8
        assert encode_lyra(signal, 16_000, kbps) == data  # no state is left over
        decoded, rate = decode_lyra(data, kbps=kbps, samples=signal.shape[1])
        assert (rate, decoded.shape, decoded.dtype) == (16_000, signal.shape, np.float32)
        assert lag(signal[0], decoded[0]) in range(-2, 3)
        assert np.array_equal(decode_lyra(data, kbps=kbps)[0][:, : signal.shape[1]], decoded)
        errors.append(si_sdr(signal, decoded))
    assert errors == sorted(errors)
    assert "weights" in audio_anchors.lyra_version()
