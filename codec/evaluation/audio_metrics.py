"""The distortion metrics for sound.

Numbers are made of samples as decoders give them, before they are rounded to the depth of a file. `psnr` is not that of
pictures: its peak is that of the sound itself, as in the published results for audio.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from codec.errors import MediaError
from codec.evaluation.audio_errors import mse, psnr, si_sdr, snr
from codec.evaluation.audio_listeners import PACKAGES, dnsmos, pesq_wb, stoi, visqol
from codec.evaluation.audio_spectra import log_mel, stft
from codec.evaluation.metrics import Measure, Metric
from codec.media.audio import Audio

PADDING = 1152  # samples: a frame of MP3, the longest packet that a decoder may give whole


def alike(original: Audio, decoded: Audio) -> tuple[Audio, Audio]:
    """Return both with the same number of samples: the few that MP3 and Lyra append are left out.

    Raises:
        MediaError: sample rate, channels or length differ.
    """
    a, b = original, decoded
    if (a.rate, a.channels) != (b.rate, b.channels):
        raise MediaError(
            f"{a.channels} x {a.rate} Hz and {b.channels} x {b.rate} Hz cannot be compared; convert one of them"
        )
    if not 0 <= b.length - a.length < PADDING:
        raise MediaError(f"{a.length} and {b.length} samples cannot be compared; cut one of them")
    return a, b if b.length == a.length else Audio(b.samples[:, : a.length], b.rate, b.depth, b.layout)


def _at_any_rate(measure: Callable) -> Measure:
    return lambda a, b, _: measure(a.samples, b.samples)


def _at_its_rate(measure: Callable) -> Measure:
    return lambda a, b, _: measure(a.samples, b.samples, a.rate)


def _by_listener(name: str, measure: Callable, how: str) -> Metric:
    return Metric(name, _at_its_rate(measure), how, PACKAGES[name])


METRICS = {
    metric.name: metric
    for metric in (
        Metric("psnr", _at_any_rate(psnr), "10 log10((2 max |x - mean x|)^2 / MSE) over all channels of one signal"),
        Metric("mse", _at_any_rate(mse), "mean squared error over all channels, full scale -1..1", decimals=15),
        Metric("snr", _at_any_rate(snr), "10 log10(sum x^2 / sum (x - y)^2) over all channels of one signal"),
        Metric("si-sdr", _at_any_rate(si_sdr), "Le Roux et al. 2019, means taken off, all channels as one vector"),
        Metric(
            "mel",
            _at_its_rate(log_mel),
            "DAC paper: L1 of log10, windows 32..2048, Slaney bands, at the given sample rate",
        ),
        Metric("stft", _at_any_rate(stft), "DAC paper: L1 of log10 power and of magnitude, windows 2048 and 512"),
        _by_listener("visqol", visqol, "ViSQOL v3, audio mode at 48 kHz, mean of the channels"),
        _by_listener("pesq", pesq_wb, "PESQ-WB at 16 kHz, mean over channels and equal parts of at most 20 s"),
        _by_listener("stoi", stoi, "STOI at 10 kHz, mean over channels"),
        _by_listener(
            "visqol-speech",
            partial(visqol, speech=True),
            "ViSQOL v3, speech mode at 16 kHz with the lattice network, mean of the channels",
        ),
        _by_listener("dnsmos", dnsmos, "DNSMOS P.835 overall at 16 kHz, no reference, mean over channels"),
    )
}
OF_SPEECH = ("pesq", "stoi", "visqol-speech", "dnsmos")  # they say nothing about music
