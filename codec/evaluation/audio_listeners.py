"""Models of listeners: PESQ, STOI, ViSQOL and DNSMOS, by other people's packages.

Signals as in `codec.evaluation.audio_errors`. Where a measure knows only one channel, the mean over the channels that
are not silent in the original is taken. Packages are imported by the function that needs them, and none of them
downloads anything; one that is not installed is a MissingPackageError, which ends with the pip command.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from codec.errors import MissingPackageError
from codec.evaluation.audio_errors import check
from codec.media.resample import resample

PACKAGES = {  # metric -> what to give to `pip install` before it can be computed
    "pesq": ("pesq",),
    "stoi": ("pystoi",),
    "visqol": ("visqol-python",),
    "visqol-speech": ("visqol-python", "ai-edge-litert"),
    "dnsmos": ("speechmos", "onnxruntime"),
}
_PESQ_SECONDS = 20  # see _pesq_of_channel
_VISQOL_SECONDS = 1  # shorter signals hold none of ViSQOL's patches
_DNSMOS_SAMPLES = 144_160  # 9.01 s at 16 kHz, the input of its network
_DNSMOS_FIT = (-0.06766283, 1.11546468, 0.04602535)  # network output -> MOS: quadratic, linear, constant


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
    check(reference, decoded)

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
    check(reference, decoded)
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


def _at(wanted: int, rate: int, reference: np.ndarray, decoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both signals at a sample rate, checked."""
    check(reference, decoded)
    return resample(reference, rate, wanted), resample(decoded, rate, wanted)


def _mean_of_channels(measure: Callable, reference: np.ndarray, decoded: np.ndarray) -> float | None:
    """Return the mean of a measure of one channel; channels that are silent in the original are left out."""
    values = [measure(x, y) for x, y in zip(reference, decoded, strict=True) if x.any()]
    return float(np.mean(values)) if values and None not in values else None


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
        packages = " ".join(PACKAGES[metric])
        raise MissingPackageError(f"{metric} needs a package; pip install {packages}") from exc
