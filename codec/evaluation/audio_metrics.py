"""Distortion metrics for audio: what can be measured between an original signal and what was decoded.

Signals are float arrays [channels, samples], full scale -1..1, of the same shape and aligned in time. A metric that is
not defined for a signal (silence, too short) is None; a perfect ratio in dB is infinite. Where a measure knows only one
channel, the mean over the channels that are not silent in the original is taken. Packages and torch are imported by the
function that needs them; none of them downloads anything.

Every metric raises ValueError for signals of different shapes and for samples that are not finite numbers, and
MissingPackageError, which ends with the pip command, where its package is not installed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codec.errors import MissingPackageError

if TYPE_CHECKING:
    import torch

Measure = Callable[[np.ndarray, np.ndarray, int], float | None]  # original, decoded, samples per second -> value

_BLOCK = 1 << 20  # samples of each channel that are looked at together: bounds the memory of float64 copies
_CLAMP = 1e-5  # below this a magnitude counts as this (DAC: clamp_eps)
_MEL_BANDS = {32: 5, 64: 10, 128: 20, 256: 40, 512: 80, 1024: 160, 2048: 320}  # window in samples -> bands
_STFT_WINDOWS = (2048, 512)
_PESQ_SECONDS = 20  # see _pesq_of_channel
_VISQOL_SECONDS = 1  # shorter signals hold none of ViSQOL's patches
_DNSMOS_SAMPLES = 144_160  # 9.01 s at 16 kHz, the input of its network
_DNSMOS_FIT = (-0.06766283, 1.11546468, 0.04602535)  # network output -> MOS: quadratic, linear, constant
_MODULES = {"visqol-python": "visqol", "ai-edge-litert": "ai_edge_litert.interpreter"}  # where names differ


@dataclass(frozen=True)
class AudioMetric:
    """One way to compare two signals.

    Attributes:
        measure: the function.
        unit: `dB`, `MOS` or empty.
        rises: greater is better.
        how: what exactly is computed, for the conventions.
        packages: what to give to `pip install` before it can be computed.
    """

    measure: Measure
    unit: str
    rises: bool
    how: str
    packages: tuple[str, ...] = ()

    def missing(self) -> str | None:
        """Return what to do before it can be measured, or None."""
        absent = [name for name in self.packages if not util.find_spec(_MODULES.get(name, name).partition(".")[0])]
        return f"pip install {' '.join(absent)}" if absent else None


def psnr(reference: np.ndarray, decoded: np.ndarray) -> float | None:
    """Return the PSNR in dB, greater is better, infinite for no error; None where the original is constant.

    The original's mean over all channels is taken off and the peak is 2 max |x| of what remains. That is WaLLoC's
    convention (Jacobellis and Yadwadkar 2024; LCCL, RD/opus.ipynb): a signal is divided by 2 max |x|, which puts it
    into -0.5..0.5, and the peak is 1. Means over files are means of dB. So values stand beside the published ones:
    33.3 dB for WaLLoC 20x and 39.0 dB for WaLLoC 5x. The level of a recording does not matter.
    """
    _check(reference, decoded)
    if _constant(reference):
        return None
    peak = 2 * float(np.abs(np.array([reference.min(), reference.max()], np.float64) - _mean(reference)).max())
    return _decibels(peak**2 * reference.size, _energy_of_difference(reference, decoded))


def snr(reference: np.ndarray, decoded: np.ndarray) -> float | None:
    """Return the signal-to-noise ratio in dB, 10 log10(sum x^2 / sum (x - y)^2) over all channels; greater is better.

    None where the original is silent, infinite for no error.
    """
    _check(reference, decoded)
    energy = sum(float(np.vdot(x, x)) for (x,) in _blocks(reference))
    return _decibels(energy, _energy_of_difference(reference, decoded)) if energy else None


def si_sdr(reference: np.ndarray, decoded: np.ndarray) -> float | None:
    """Return the scale-invariant signal-to-distortion ratio in dB, greater is better.

    Le Roux, Wisdom, Erdogan and Hershey 2019, equation 3: 10 log10(|a x|^2 / |a x - y|^2), a = <x, y> / <x, x>, of
    signals without their means. All channels are one long vector with one scale, as in the DAC paper. Infinite for a
    scaled copy, minus infinity for an orthogonal signal; None where either signal is constant.
    """
    _check(reference, decoded)
    if _constant(reference) or _constant(decoded):
        return None
    means = _mean(reference), _mean(decoded)
    products = [(np.vdot(x, x), np.vdot(x, y)) for x, y in _blocks(reference, decoded, means=means)]
    energy, correlation = (float(sum(column)) for column in zip(*products, strict=True))
    scale = correlation / energy
    rest = (y - scale * x for x, y in _blocks(reference, decoded, means=means))
    return _decibels(scale**2 * energy, sum(float(np.vdot(e, e)) for e in rest))


def log_mel(reference: np.ndarray, decoded: np.ndarray, rate: int) -> float | None:
    """Return the mel distance of the DAC paper: 0 for no error, about 1 at 8 kbit/s; smaller is better.

    Kumar et al. 2023, 3.5 and 4.4; conf/final/44khz.yml of descript-audio-codec: the sum over seven windows 32..2048
    (Hann, hop a quarter, centred, reflected) of the mean |log10 M(x) - log10 M(y)|, M the magnitudes in 5..320 mel
    bands, at least 1e-5. The bands are librosa's default, which DAC uses: Slaney's scale (Auditory Toolbox, not HTK)
    and triangles of equal area. Windows count samples, so values at different sample rates do not compare; the paper's
    are at 44.1 kHz. None for fewer than 1025 samples, which cannot be reflected.
    """

    def logarithms(magnitudes: torch.Tensor, window: int) -> torch.Tensor:
        return (_mel_bands(rate, window, _MEL_BANDS[window]) @ magnitudes).clamp(_CLAMP).log10()

    return _spectral_distance(reference, decoded, _MEL_BANDS, lambda x, y, w: logarithms(x, w) - logarithms(y, w))


def stft(reference: np.ndarray, decoded: np.ndarray) -> float | None:
    """Return the multi-scale STFT distance of the DAC paper: 0 for no error; smaller is better.

    Kumar et al. 2023, 4.4; `MultiScaleSTFTLoss` of descript-audio-codec: the sum over the windows 2048 and 512 (Hann,
    hop a quarter, centred, reflected) of the mean |log10 X^2 - log10 Y^2| of magnitudes of at least 1e-5 and of the
    mean |X - Y|. Windows count samples, so values at different sample rates do not compare. None for fewer than 1025
    samples.
    """

    def difference(x: torch.Tensor, y: torch.Tensor, _: int) -> torch.Tensor:
        return 2 * (x.clamp(_CLAMP).log10() - y.clamp(_CLAMP).log10()).abs() + (x - y).abs()

    return _spectral_distance(reference, decoded, _STFT_WINDOWS, difference)


def pesq_wb(reference: np.ndarray, decoded: np.ndarray, rate: int) -> float | None:
    """Return wideband PESQ (ITU-T P.862.2), a MOS-LQO 1.04..4.64 of speech; greater is better.

    By the package pesq, which is the ITU's C code, at 16 kHz. It keeps its state in global variables: one call at a
    time in a process. None where the original or the decoded signal is silent, where no speech is found, and below a
    quarter of a second. Signals longer than 20 s are cut into equal parts and the values averaged.
    """
    package = _import("pesq", "pesq")
    return _mean_of_channels(partial(_pesq_of_channel, package), *_at(16_000, rate, reference, decoded))


def stoi(reference: np.ndarray, decoded: np.ndarray, rate: int) -> float | None:
    """Return the short-time objective intelligibility of speech, about 0..1; greater is better.

    Taal, Hendriks, Heusdens and Jensen 2011, by the package pystoi, which resamples to 10 kHz. None where the original
    is silent and where it holds less than 0.4 s of sound.
    """
    package = _import("pystoi", "stoi")
    _check(reference, decoded)

    def measure(x: np.ndarray, y: np.ndarray) -> float | None:
        with warnings.catch_warnings():  # how the package says that there is too little to look at
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return float(package.stoi(x, y, rate))
            except RuntimeWarning:
                return None

    long_enough = reference.shape[1] >= 0.4 * rate  # 30 frames; the package does not survive less than one
    return _mean_of_channels(measure, reference, decoded) if long_enough else None


def visqol(reference: np.ndarray, decoded: np.ndarray, rate: int, *, speech: bool = False) -> float | None:
    """Return ViSQOL v3 (Chinen et al. 2020), a MOS-LQO 1..5 (an exact copy of music gets 4.73); greater is better.

    By the package visqol-python, on the mean of the channels as the original program does: at 48 kHz for any sound, or
    at 16 kHz for speech, mapped to a MOS by the lattice network that is the original program's default. It aligns the
    signals by itself. None where either signal is silent and below one second.
    """
    api = _visqol_api(speech)
    _check(reference, decoded)
    wanted = 16_000 if speech else 48_000
    x, y = (resample(signal.mean(axis=0, keepdims=True), rate, wanted)[0] for signal in (reference, decoded))
    if x.size < _VISQOL_SECONDS * wanted or not x.any() or not y.any():
        return None
    return float(api.measure_from_arrays(x.astype(np.float64), y.astype(np.float64), wanted).moslqo)


def dnsmos(reference: np.ndarray, decoded: np.ndarray, rate: int) -> float | None:
    """Return DNSMOS, how good speech sounds without knowing the original: a MOS 1..5; greater is better.

    Reddy, Gopal and Cutler 2022 (P.835), the overall value, by the network in the package speechmos: mean over windows
    of 9.01 s at 16 kHz, one a second; shorter speech is repeated. Only the decoded signal counts. None where it is
    silent.
    """
    network = _dnsmos_network()

    def measure(_: np.ndarray, y: np.ndarray) -> float | None:
        if not y.any():
            return None
        repeated = np.tile(y, 2 ** max(0, math.ceil(math.log2(_DNSMOS_SAMPLES / y.size)))).clip(-1, 1)
        starts = range(0, max(1, (repeated.size // 16_000 - 9) * 16_000), 16_000)
        windows = (repeated[None, start : start + _DNSMOS_SAMPLES] for start in starts)
        overall = [float(network.run(None, {"input_1": window})[0][0][2]) for window in windows]
        return float(np.polyval(_DNSMOS_FIT, overall).mean())

    return _mean_of_channels(measure, *_at(16_000, rate, reference, decoded))


def resample(signal: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Return a signal [channels, samples] at another sample rate; sample 0 stays at time 0.

    A sinc under a Kaiser window, 256 zero crossings to either side: flat to 0.97 of the lower Nyquist frequency, 100 dB
    down from 0.9975 of it. A ratio of more than 1000 steps is replaced by the nearest that has fewer.

    Returns:
        float32 [channels, ceil(samples * to / rate)].

    Raises:
        ValueError: a rate is not positive, or they differ by more than a factor of 1000.
    """
    if rate <= 0 or to <= 0 or not (ratio := Fraction(to, rate).limit_denominator(1000)):
        raise ValueError(f"{rate} samples per second cannot become {to}")
    if rate == to or not signal.size:
        return np.ascontiguousarray(signal, np.float32)
    import torch

    kernels, reach = _kernels(ratio.denominator, ratio.numerator)
    length = math.ceil(signal.shape[1] * ratio)
    padded = torch.nn.functional.pad(_tensor(signal), (reach, reach + ratio.denominator))
    phases = torch.nn.functional.conv1d(padded[:, None], kernels[:, None], stride=ratio.denominator)
    return np.ascontiguousarray(phases.transpose(1, 2).flatten(1)[:, :length].numpy())


@lru_cache(maxsize=8)
def _kernels(before: int, after: int) -> tuple[torch.Tensor, int]:
    """Return filters [after, taps], one for each phase of `before` samples that become `after`, and their reach."""
    import torch

    crossings, cutoff, beta = 256, 0.985 * min(before, after), 10.06  # beta: 100 dB (Kaiser 1974)
    reach = math.ceil(crossings * before / cutoff)
    times = np.arange(-reach, reach + before) / before - np.arange(after)[:, None] / after
    phase = (times * cutoff).clip(-crossings, crossings)
    window = np.i0(beta * np.sqrt(1 - (phase / crossings) ** 2)) / np.i0(beta)
    return torch.from_numpy((np.sinc(phase) * window * cutoff / before).astype(np.float32)), reach


def _check(reference: np.ndarray, decoded: np.ndarray) -> None:
    if reference.ndim != 2 or not len(reference) or reference.shape != decoded.shape:
        raise ValueError(
            f"signals must be [channels, samples] of equal length, not {reference.shape} and {decoded.shape}; "
            "cut the decoded one to the original"
        )
    if not np.isfinite(reference).all() or not np.isfinite(decoded).all():
        raise ValueError("signals must hold finite numbers only; the decoder is at fault, or the file is damaged")


def _at(wanted: int, rate: int, reference: np.ndarray, decoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both signals at a sample rate, checked."""
    _check(reference, decoded)
    return resample(reference, rate, wanted), resample(decoded, rate, wanted)


def _blocks(*signals: np.ndarray, means: tuple[float, ...] | None = None) -> Iterator[list[np.ndarray]]:
    """Yield float64 pieces [channels, up to _BLOCK] of signals, less a mean each."""
    for start in range(0, signals[0].shape[1], _BLOCK):
        pieces = [signal[:, start : start + _BLOCK].astype(np.float64) for signal in signals]
        yield [piece - mean for piece, mean in zip(pieces, means, strict=True)] if means else pieces


def _mean(signal: np.ndarray) -> float:
    return float(signal.mean(dtype=np.float64))


def _constant(signal: np.ndarray) -> bool:
    return not signal.size or bool(signal.min() == signal.max())


def _energy_of_difference(reference: np.ndarray, decoded: np.ndarray) -> float:
    return sum(float(np.square(x - y).sum()) for x, y in _blocks(reference, decoded))


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _mean_of_channels(measure: Callable, reference: np.ndarray, decoded: np.ndarray) -> float | None:
    """Return the mean of a measure of one channel; channels that are silent in the original are left out."""
    values = [measure(x, y) for x, y in zip(reference, decoded, strict=True) if x.any()]
    return float(np.mean(values)) if values and None not in values else None


def _tensor(signal: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.array(signal, np.float32, order="C"))


def _spectral_distance(
    reference: np.ndarray, decoded: np.ndarray, windows: Iterable[int], difference: Callable
) -> float | None:
    """Return the sum over windows of the mean size of a difference of magnitudes [channels, bins, frames]."""
    import torch

    _check(reference, decoded)
    if reference.shape[1] <= max(windows) // 2:
        return None
    distance = 0.0
    with torch.no_grad():
        for window in windows:
            total = count = 0
            for x, y in zip(_magnitudes(reference, window), _magnitudes(decoded, window), strict=True):
                differences = difference(x, y, window).abs()
                total, count = total + float(differences.sum(dtype=torch.float64)), count + differences.numel()
            distance += total / count
    return distance


def _magnitudes(signal: np.ndarray, window: int) -> Iterator[torch.Tensor]:
    """Yield |STFT| [channels, bins, frames] of a signal [channels, samples], some frames at a time."""
    import torch

    hop, at_once = window // 4, 4 * _BLOCK // window
    padded = torch.nn.functional.pad(_tensor(signal), (window // 2, window // 2), mode="reflect")
    frames = signal.shape[1] // hop + 1
    for first in range(0, frames, at_once):
        piece = padded[:, first * hop : (min(first + at_once, frames) - 1) * hop + window]
        spectrum = torch.stft(piece, window, hop, window=torch.hann_window(window), center=False, return_complex=True)
        yield spectrum.abs()


@lru_cache(maxsize=32)
def _mel_bands(rate: int, window: int, bands: int) -> torch.Tensor:
    """Return triangles [bands, bins] over 0..rate / 2, of area 1 in Hz: `librosa.filters.mel(htk=False)`."""
    import torch

    frequencies = np.linspace(0, rate / 2, window // 2 + 1)
    edges = _from_mel(np.linspace(0, _to_mel(rate / 2), bands + 2))
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    triangles = np.minimum(rising, falling).clip(0) * 2 / (edges[2:] - edges[:-2])[:, None]
    return torch.from_numpy(triangles.astype(np.float32))


def _to_mel(hertz: float) -> float:
    """Slaney's scale: 200 / 3 Hz a mel up to 1 kHz, then 27 mels for a factor of 6.4."""
    return hertz * 3 / 200 if hertz < 1000 else 15 + math.log(hertz / 1000) * 27 / math.log(6.4)


def _from_mel(mels: np.ndarray) -> np.ndarray:
    return np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))


def _pesq_of_channel(package: Any, reference: np.ndarray, decoded: np.ndarray) -> float | None:
    """Return PESQ of one channel at 16 kHz.

    The package has room for 50 utterances and overwrites memory at the 51st (pesqmod.c, id_searchwindows; it dies on
    45 s of beeps). Utterances and the pauses between them last at least 0.2 s each, so 20 s cannot hold more.
    """
    values = []
    for x, y in zip(*(_parts(signal, _PESQ_SECONDS * 16_000) for signal in (reference, decoded)), strict=True):
        try:
            values.append(package.pesq(16_000, x, y, "wb"))
        except (package.NoUtterancesError, package.BufferTooShortError):
            continue
        except ValueError:  # NaN inside: nothing was decoded
            return None
    return float(np.mean(values)) if values else None


def _parts(signal: np.ndarray, longest: int) -> list[np.ndarray]:
    return np.array_split(signal, max(1, math.ceil(signal.size / longest)))


@lru_cache(maxsize=2)
def _visqol_api(speech: bool) -> Any:
    name = "visqol-speech" if speech else "visqol"
    api = _import("visqol.api", name).VisqolApi()
    if not speech:
        api.create(mode="audio")
        return api
    _import("ai_edge_litert.interpreter", name)
    api.create(mode="speech", use_lattice_model=True)
    return api


@lru_cache(maxsize=1)
def _dnsmos_network() -> Any:
    """Return an onnxruntime session. The package's own code would also ask for librosa, pandas and requests."""
    import torch

    runtime = _import("onnxruntime", "dnsmos")
    package = _import("speechmos", "dnsmos")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    network = Path(package.__file__).parent / "dnsmos_models" / "sig_bak_ovr.onnx"
    return runtime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])


def _import(module: str, metric: str) -> Any:
    try:
        return import_module(module)
    except ImportError as exc:
        packages = " ".join(AUDIO_METRICS[metric].packages)
        raise MissingPackageError(f"{metric} needs a package; pip install {packages}") from exc


def _any_rate(measure: Callable) -> Measure:
    return lambda reference, decoded, rate: measure(reference, decoded)


def _decibel(measure: Callable, how: str) -> AudioMetric:
    return AudioMetric(_any_rate(measure), "dB", True, how)


def _mos(measure: Measure, how: str, *packages: str) -> AudioMetric:
    return AudioMetric(measure, "MOS", True, how, packages)


AUDIO_METRICS = {
    "psnr": _decibel(psnr, "10 log10((2 max |x - mean x|)^2 / MSE) over all channels of one signal"),
    "snr": _decibel(snr, "10 log10(sum x^2 / sum (x - y)^2) over all channels of one signal"),
    "si-sdr": _decibel(si_sdr, "Le Roux et al. 2019, means taken off, all channels as one vector"),
    "mel": AudioMetric(log_mel, "", False, "DAC paper: L1 of log10, windows 32..2048, Slaney bands, at the given rate"),
    "stft": AudioMetric(
        _any_rate(stft), "", False, "DAC paper: L1 of log10 power and of magnitude, windows 2048 and 512"
    ),
    "pesq": _mos(pesq_wb, "PESQ-WB at 16 kHz, mean over channels and equal parts of at most 20 s", "pesq"),
    "stoi": AudioMetric(stoi, "", True, "STOI at 10 kHz, mean over channels", ("pystoi",)),
    "visqol": _mos(visqol, "ViSQOL v3, audio mode at 48 kHz, mean of the channels", "visqol-python"),
    "visqol-speech": _mos(
        partial(visqol, speech=True),
        "ViSQOL v3, speech mode at 16 kHz with the lattice network, mean of the channels",
        "visqol-python",
        "ai-edge-litert",
    ),
    "dnsmos": _mos(
        dnsmos, "DNSMOS P.835 overall at 16 kHz, no reference, mean over channels", "speechmos", "onnxruntime"
    ),
}
