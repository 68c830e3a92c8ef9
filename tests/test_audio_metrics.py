import math
import subprocess
import sys

import numpy as np
import pytest

from codec import distortion, mel
from codec.errors import MediaError, MissingPackageError
from codec.evaluation import audio_errors, audio_listeners, audio_spectra
from codec.evaluation.audio_errors import psnr, si_sdr, snr
from codec.evaluation.audio_metrics import METRICS, PADDING, alike
from codec.evaluation.audio_spectra import log_mel, stft
from codec.evaluation.metrics import choose, compare
from codec.evaluation.scales import scale_of
from codec.evaluation.sounds import SOUNDS
from codec.media.audio import Audio
from codec.media.image import Image
from codec.media.resample import resample

RATE = 16_000
OWN = ("psnr", "mse", "snr", "si-sdr", "mel", "stft")
MODULES = {  # metric -> what its packages are imported as
    "pesq": ("pesq",),
    "stoi": ("pystoi",),
    "visqol": ("visqol",),
    "visqol-speech": ("visqol", "ai_edge_litert"),
    "dnsmos": ("speechmos", "onnxruntime"),
}


def speech(seconds: float = 3, rate: int = RATE, seed: int = 1) -> np.ndarray:
    """Return [1, samples] of something like speech: syllables of a gliding pitch through two formants, and pauses."""
    random = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    pitch = np.cumsum(120 + 30 * np.sin(5 * times)) / rate
    voice = np.zeros_like(times)
    for harmonic in range(1, 30):
        formants = np.exp(-(((harmonic * 120 - 600 - 200 * np.sin(9 * times)) / 250) ** 2))
        formants += 0.5 * np.exp(-(((harmonic * 120 - 1800 + 400 * np.sin(7 * times)) / 300) ** 2))
        voice += formants * np.sin(2 * np.pi * harmonic * pitch)
    voice += 0.05 * random.standard_normal(times.size)
    syllables = np.sin(np.pi * 3 * times).clip(0) ** 0.5 * (np.sin(2 * np.pi * times / 1.7) > -0.7)
    return (0.3 * voice * syllables / np.abs(voice).max()).astype(np.float32)[None]


def with_noise(signal: np.ndarray, db: float) -> np.ndarray:
    """Return a signal plus white noise of exactly this SNR."""
    noise = np.random.default_rng(2).standard_normal(signal.shape)
    scale = math.sqrt(float(np.square(signal, dtype=np.float64).sum()) / np.square(noise).sum()) * 10 ** (-db / 20)
    return (signal + scale * noise).astype(np.float32)


def measure(name: str, reference: np.ndarray, decoded: np.ndarray, rate: int = RATE) -> float | None:
    return METRICS[name].measure(Audio(reference, rate), Audio(decoded, rate), None)


def installed(name: str) -> None:
    for module in MODULES.get(name, ()):
        pytest.importorskip(module)


def test_snr_of_known_noise():
    signal = speech()
    for db in (-7, 0, 25):
        assert snr(signal, with_noise(signal, db)) == pytest.approx(db, abs=1e-3)
        assert si_sdr(signal, with_noise(signal, db)) == pytest.approx(db, abs=0.1)  # noise is hardly correlated


def test_psnr_is_that_of_signals_in_half_a_unit():
    signal = speech() + np.float32(0.01)
    centred = signal.astype(np.float64) - signal.mean(dtype=np.float64)
    unit = centred / np.abs(centred).max() / 2
    noise = 0.01 * np.random.default_rng(3).standard_normal(signal.shape)
    decoded = signal + noise * 2 * np.abs(centred).max()
    assert psnr(signal, decoded) == pytest.approx(-10 * math.log10(np.mean((unit - unit - noise) ** 2)), abs=1e-4)
    assert psnr(signal / 8, decoded / 8) == pytest.approx(psnr(signal, decoded), abs=1e-4)


def test_psnr_by_hand():
    square = np.array([[0.5, -0.5, 0.5, -0.5]], np.float32)
    assert psnr(square, square + np.array([[0.1, -0.1, 0.1, -0.1]])) == pytest.approx(20)


def test_si_sdr_does_not_see_scale_and_offset():
    signal = speech()
    assert si_sdr(signal, signal * np.float32(0.5)) == math.inf
    assert si_sdr(signal, signal * np.float32(-0.3)) > 130
    noisy = with_noise(signal, 10)
    assert si_sdr(signal, 0.1 * noisy + 0.2) == pytest.approx(si_sdr(signal, noisy), abs=1e-3)
    wave = np.arange(1600) * 2 * np.pi / 160
    assert si_sdr(np.sin(wave)[None], np.cos(wave)[None]) < -200


def test_channels_are_one_signal():
    left, right = speech(seed=1), 0.1 * speech(seed=5)
    noise = 0.01 * np.random.default_rng(4).standard_normal((2, left.shape[1]))
    both = np.concatenate([left, right])
    assert snr(both, both + noise) == pytest.approx(
        10 * math.log10(np.square(both, dtype=np.float64).sum() / np.square(noise).sum()), abs=1e-3
    )


def test_distances_by_hand():
    signal = 0.5 * np.random.default_rng(5).standard_normal((1, 8000)).astype(np.float32)
    assert log_mel(signal, 10 * signal, RATE) == pytest.approx(7, abs=0.01)  # one decade in each of seven windows
    quiet = 1e-12 * signal  # all is below the least magnitude that counts
    assert log_mel(quiet, quiet * 10, RATE) == 0
    assert log_mel(signal, signal, RATE) == stft(signal, signal) == 0
    magnitudes = stft(signal, 2 * signal) - 2 * 2 * math.log10(2)
    assert stft(signal, 3 * signal) - 2 * 2 * math.log10(3) == pytest.approx(2 * magnitudes, rel=1e-3)


def test_distances_do_not_depend_on_blocks(monkeypatch):
    signal, noisy = speech(), with_noise(speech(), 15)
    whole = [measure(name, signal, noisy) for name in OWN]
    for module, name in ((audio_errors, "BLOCK"), (audio_spectra, "BLOCK"), (distortion, "_BLOCK")):
        monkeypatch.setattr(module, name, 3000)
    assert [measure(name, signal, noisy) for name in OWN] == pytest.approx(whole, rel=1e-5)


def test_magnitudes_are_those_of_a_centred_stft():
    torch = pytest.importorskip("torch")
    signal = torch.from_numpy(speech(0.2)[:, :3001].copy())
    expected = torch.stft(signal, 512, 128, window=torch.hann_window(512), return_complex=True).abs()
    assert torch.allclose(torch.cat(list(audio_spectra._magnitudes(signal.numpy(), 512)), dim=2), expected, atol=1e-5)


def test_mel_bands_are_slaneys():
    assert mel._to_mel(1000) == 15
    assert mel._to_mel(6400) == pytest.approx(42)
    hertz = np.array([0, 440, 1000, 3000, 8000])
    assert mel._from_mel(np.array([mel._to_mel(f) for f in hertz])) == pytest.approx(hertz)
    bands = mel.mel_bands(RATE, 2048, 20)
    assert bands.shape == (20, 1025)
    assert bands.sum(axis=1) * RATE / 2048 == pytest.approx(np.ones(20), abs=0.02)  # areas


def test_mel_bands_are_librosas():
    filters = pytest.importorskip("librosa.filters")
    for rate, window, bands in ((44_100, 2048, 320), (16_000, 512, 80)):
        expected = filters.mel(sr=rate, n_fft=window, n_mels=bands)
        assert np.abs(mel.mel_bands(rate, window, bands) - expected).max() < 1e-6


@pytest.mark.parametrize(("before", "after"), [(48_000, 16_000), (16_000, 48_000), (44_100, 48_000), (11_025, 16_000)])
def test_resampling_keeps_tones_in_place(before, after):
    def tones(rate: int, count: int) -> np.ndarray:
        times = np.arange(count) / rate
        return np.sin(2 * np.pi * 440 * times) + 0.3 * np.cos(2 * np.pi * 0.45 * min(before, after) * times)

    result = resample(tones(before, 20_001)[None], before, after)
    assert result.dtype == np.float32
    assert result.shape == (1, round(20_001 * after / before))
    middle = slice(after // 20, -after // 20)
    assert np.abs(result[0] - tones(after, result.shape[1]))[middle].max() < 1e-4


def test_resampling_does_not_alias():
    tone = np.sin(2 * np.pi * 9_000 * np.arange(24_000) / 48_000)[None]
    assert np.abs(resample(tone, 48_000, 16_000)[:, 500:-500]).max() < 1e-4


def test_resampling_odd_and_impossible_rates():
    signal = speech(0.1)
    assert np.array_equal(resample(signal, RATE, RATE), signal)
    assert resample(signal, 44_099, RATE).shape[1] == pytest.approx(1600 * RATE / 44_099, abs=1)
    assert resample(signal[:, :0], 8000, RATE).shape == (1, 0)
    for rates in ((0, RATE), (RATE, -1)):
        with pytest.raises(MediaError, match="cannot resample"):
            resample(signal, *rates)


@pytest.mark.parametrize("name", [name for name in METRICS if name != "dnsmos"])  # it knows people, not tones
def test_worse_signals_get_worse_values(name):
    installed(name)
    signal = speech()
    values = [measure(name, signal, with_noise(signal, db)) for db in (50, 20, 3)]
    assert all(math.isfinite(value) for value in values)
    assert values == sorted(values, reverse=not scale_of(name).falling)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("psnr", math.inf, math.inf),
        ("mse", 0, 0),
        ("snr", math.inf, math.inf),
        ("si-sdr", math.inf, math.inf),
        ("mel", 0, 0),
        ("stft", 0, 0),
        ("pesq", 4.64, 4.65),
        ("stoi", 0.9999, 1.0001),
        ("visqol", 4.73, 4.74),
        ("visqol-speech", 4, 5),
        ("dnsmos", 1, 5),
    ],
)
def test_the_same_signal(name, low, high):
    installed(name)
    assert low <= measure(name, speech(), speech()) <= high


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("channels", [1, 2])
def test_silence_and_short_signals_have_a_value_or_none(name, channels):
    installed(name)
    signal = np.repeat(speech(1.2), channels, axis=0)
    silence, constant = np.zeros_like(signal), np.full_like(signal, 0.1)
    pairs = [(silence, silence), (silence, signal), (signal, silence), (constant, constant), (signal, constant)]
    lengths = (0, 1, 2, 100, 1024, 1025, 4100, 6500, 16_000)
    if name == "dnsmos":  # slow, and every sound is repeated to the same length
        pairs, lengths = pairs[:3], (0, 1) if channels == 1 else ()
    pairs += [(signal[:, :n], signal[:, :n] / 2) for n in lengths]
    for original, decoded in pairs:
        value = measure(name, original, decoded)
        assert value is None or not math.isnan(value)
        if not original.any() and name not in ("mse", "mel", "stft"):
            assert value is None


@pytest.mark.parametrize("name", METRICS)
def test_signals_must_fit(name):
    installed(name)
    signal = speech(0.2)
    with pytest.raises(ValueError, match="equal length"):
        measure(name, signal, signal[:, 1:])
    with pytest.raises(ValueError, match="finite"):
        measure(name, signal, signal * np.float32(np.nan))


def test_what_can_be_compared():
    sound = Audio(speech(0.5), RATE)
    longer = Audio(np.pad(sound.samples, ((0, 0), (0, PADDING - 1))), RATE)
    assert alike(sound, longer)[1].length == sound.length
    assert compare(sound, longer, ["psnr", "mse"]) == {"psnr": None, "mse": 0}
    others = Audio(longer.samples, RATE // 2), Audio(np.repeat(sound.samples, 2, axis=0), RATE)
    for other in (*others, Audio(longer.samples[:, : sound.length - 1], RATE)):
        with pytest.raises(MediaError, match="cannot be compared"):
            compare(sound, other, ["psnr"])
    with pytest.raises(MediaError, match="sound and a picture cannot be compared"):
        compare(sound, Image(np.zeros((2, 2, 1), np.uint8)), ["psnr"])


def test_speech_has_metrics_of_its_own():
    signal = speech(0.2)
    music = Audio(np.repeat(signal, 2, axis=0), RATE), Audio(signal, 48_000)
    for sounds, suits in (([Audio(signal, RATE)], True), (music[:1], False), ([Audio(signal, RATE), *music], False)):
        chosen, left_out = choose([], {}, SOUNDS, sounds)
        assert set(OWN) <= set(chosen)
        assert ("stoi are for speech" in " ".join(left_out).replace(", visqol-speech, dnsmos", "")) != suits
        assert suits or not {"pesq", "stoi", "dnsmos"} & set(chosen)
    installed("stoi")
    assert choose(["stoi"], {}, SOUNDS, music) == (("psnr", "mse", "stoi"), [])


@pytest.mark.parametrize("name", [name for name in METRICS if name not in OWN])
def test_a_missing_package(name, monkeypatch):
    for module in MODULES[name]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "visqol.api", raising=False)
    for cached in (audio_listeners._visqol_api, audio_listeners._dnsmos_network):
        cached.cache_clear()
    with pytest.raises(MissingPackageError, match=f"pip install {' '.join(METRICS[name].packages)}$"):
        measure(name, speech(), speech())
    assert METRICS[name].missing({}).startswith(f"{name} needs a package; pip install ")


def test_nothing_is_missing_for_our_own():
    assert all(METRICS[name].missing({}) is None for name in OWN)


def test_a_silent_channel_does_not_count():
    installed("pesq")
    signal, noisy = speech(), with_noise(speech(), 20)
    alone = audio_listeners.pesq_wb(signal, noisy, RATE)
    with_silence = [np.concatenate([channel, 0 * channel]) for channel in (signal, noisy)]
    assert audio_listeners.pesq_wb(*with_silence, RATE) == alone


def test_pesq_at_another_rate():
    installed("pesq")
    signal, noisy = speech(), with_noise(speech(), 20)
    expected = audio_listeners.pesq_wb(signal, noisy, RATE)
    high = [resample(channel, RATE, 48_000) for channel in (signal, noisy)]
    assert audio_listeners.pesq_wb(*high, 48_000) == pytest.approx(expected, abs=0.05)


def test_pesq_of_many_utterances_does_not_crash():
    installed("pesq")
    times = np.arange(45 * RATE) / RATE  # 75 beeps: the package has room for 50
    beeps = (0.3 * np.sin(2 * np.pi * 500 * times) * (times % 0.6 < 0.3)).astype(np.float32)[None]
    assert 1 <= audio_listeners.pesq_wb(beeps, with_noise(beeps, 30), RATE) <= 4.65


def test_importing_is_light():
    code = "import sys, codec.evaluation.audio_metrics; print(sorted({'torch', 'pesq', 'visqol'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
