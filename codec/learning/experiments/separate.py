"""One stem of a song out of the mixture: latents to latents against spectra to spectra, at equal compute and bytes.

DATA holds the stems of one song. The first seven tenths are trained on, the last quarter is tested on; what lies
between belongs to neither. Training remixes: each stem with its own gain and moved in time by itself. The test is the
song as it is.

    mixture      unprocessed, the floor
    latents      of the .lcb file of the mixture -> latents of the stem -> the codec's synthesis
    spectra      MDCT of mid and side at walloc-audio's hop, four times as many numbers: of the original mixture, and of
                 Opus files of as many bytes as the .lcb files
    fewer        the same of the original at a quarter of its sample rate: as many numbers as there are latents
    coded stem   the stem itself through the codec at the same quality, the ceiling of the latents

All networks work on one position a hop and cost as many multiply-adds: more channels, a narrower body. Each returns a
mask and something to add. The codec's latents are whitened, so an error of one counts for more or less sound; they are
weighed by how finely the codec quantizes each, which is even in the signal.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import codec
from codec.errors import MediaError
from codec.evaluation.audio_errors import psnr, si_sdr
from codec.learning.experiments import sounds
from codec.learning.experiments.fitting import Plan, fit
from codec.learning.experiments.work import megamacs
from codec.learning.networks import Mapper
from codec.lines import append_line
from codec.media.resample import resample

PLAN = Plan(epochs=12, batch=16, lr=2e-3, decay=0.01, mixup=0.0)
MODEL, QUALITY = "walloc-audio", 60.0
_SUFFIXES = (".mp3", ".flac", ".wav", ".opus", ".ogg")
_HOP = 512  # of walloc-audio
_FEWER = 4  # times; walloc-audio keeps 256 of 1024 numbers a hop
_TRAINED, _TESTED = 0.7, 0.75  # of the song: where training ends and the test begins
_LEVEL = 0.5  # of all stems, so that no mixture leaves the full scale of a file
_GAINS = -6.0, 6.0  # dB, of a remixed stem
_REMIXES = 8
_CROP = 64  # frames
_WIDTH, _BLOCKS = 128, 3
_FINE = 100.0  # quality of the stems that latents learn to give
_CONTRAST = 8.0  # of what the network sees: below 1/8 of the mean level it is linear, above logarithmic


@dataclass(frozen=True)
class Song:
    """Signals [2, n] float32: remixes to train on and their stem, the mixture to test on and its stem."""

    rate: int
    mixtures: list[np.ndarray]
    stems: list[np.ndarray]
    test_mixture: np.ndarray
    test_stem: np.ndarray


@dataclass(frozen=True)
class Route:
    """One way from a mixture to a stem.

    Attributes:
        name: in the table.
        encode: mixture [2, n] -> bytes.
        load: bytes -> input [C, frames], errors of which count alike.
        target: stem [2, n] -> what the network shall give, [C, frames].
        samples: bytes of the mixture, what the network gave -> stem [2, n].
    """

    name: str
    encode: Callable[[np.ndarray], bytes]
    load: Callable[[bytes], Tensor]
    target: Callable[[np.ndarray], Tensor]
    samples: Callable[[bytes, Tensor], np.ndarray]


class Separator(nn.Module):
    """Map [B, C, 1, n] to an estimate of the same shape: a mask times the input, and something to add."""

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.body = Mapper(2 * channels, 2 * channels, width=width, blocks=blocks, line=True)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.asinh(x.float() * _CONTRAST)
        mask, more = self.body(torch.cat([seen, seen.abs()], 1)).float().chunk(2, 1)
        return torch.sigmoid(mask) * x + more


def run(
    data: Path,
    out: Path,
    *,
    stem: str = "horns",
    quality: float = QUALITY,
    remixes: int = _REMIXES,
    width: int = _WIDTH,
    plan: Plan = PLAN,
    tell: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Train and test on every route and return the rows, which are also appended to `rows.jsonl` in `out`.

    Args:
        stem: name of the file wanted from the mixture, without suffix.
        quality: of walloc-audio.
        remixes: of the part to train on.
        width: of the network on latents.

    Raises:
        MediaError: there are no stems, or not this one, or they do not fit together.
    """
    song = split(*read(data), stem, remixes, plan.seed)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        append_line(out / "rows.jsonl", row)
        tell(f"{row['input']}: {row['si_sdr']:.2f} dB")

    add({"input": "mixture"} | _quality(song, song.test_mixture))
    work = None
    for route in routes(song, quality):
        add(_row(route, song, width, work, plan, tell))
        work = work or rows[-1]["mmac"]
    coded = _encode(song.rate, quality, song.test_stem)
    size = round(len(coded) / song.test_stem.shape[1] * song.rate)
    add({"input": "coded stem", "bytes": size} | _quality(song, codec.decode(coded).samples))
    return rows


def read(folder: Path) -> tuple[dict[str, np.ndarray], int]:
    """Return the stems of a song by name, [2, n] of the same length, and their sample rate.

    Raises:
        MediaError: there are fewer than two, or their rates or channels differ.
    """
    found = {path.stem: codec.read(path) for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES}
    forms = {(sound.rate, sound.channels) for sound in found.values()}
    if len(found) < 2 or len(forms) > 1 or next(iter(forms))[1] != 2:
        raise MediaError(f"{folder} holds no stems in stereo of one sample rate; name the folder of a song's stems")
    length = max(sound.length for sound in found.values())
    padded = {name: np.pad(sound.samples, ((0, 0), (0, length - sound.length))) for name, sound in found.items()}
    return {name: samples * np.float32(_LEVEL) for name, samples in padded.items()}, next(iter(forms))[0]


def split(stems: dict[str, np.ndarray], rate: int, stem: str, remixes: int, seed: int) -> Song:
    """Return what to train on and what to test on.

    Raises:
        MediaError: there is no such stem.
    """
    if stem not in stems:
        raise MediaError(f"there is no stem {stem}; choose one of {', '.join(stems)}")
    length = next(iter(stems.values())).shape[1]
    training = {name: x[:, : round(_TRAINED * length)] for name, x in stems.items()}
    tests = {name: x[:, round(_TESTED * length) :] for name, x in stems.items()}
    rng = np.random.default_rng(seed)
    mixtures, targets = [], []
    for number in range(remixes):
        parts = {name: x if number == 0 else _varied(x, rng) for name, x in training.items()}
        mixtures.append(_sum(parts))
        targets.append(parts[stem])
    return Song(rate, mixtures, targets, _sum(tests), tests[stem])


def _varied(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a stem at another level, moved in time around its ends, maybe with left and right exchanged."""
    gain = np.float32(10 ** (rng.uniform(*_GAINS) / 20))
    moved = np.roll(x, int(rng.integers(x.shape[1])), axis=1) * gain
    return moved[::-1].copy() if rng.random() < 0.5 else moved


def _sum(parts: dict[str, np.ndarray]) -> np.ndarray:
    return np.sum(list(parts.values()), axis=0, dtype=np.float32)


def routes(song: Song, quality: float) -> list[Route]:
    """Return what is compared."""
    rate = song.rate
    probe = song.test_mixture
    kbps = sounds.opus_rate([probe], rate, len(_encode(rate, quality, probe)))
    opus = partial(sounds.opus, kbps, rate=rate)
    spectra = partial(_spectra, rate=rate)
    return [
        _latents(song, quality),
        spectra("spectra, originals", partial(_pcm, rate), read=_samples, to=rate),
        spectra(f"spectra, Opus {kbps:.0f} kbit/s", opus, read=sounds.opus_samples, to=rate),
        spectra("spectra, as many numbers", partial(_pcm, rate), read=_samples, to=rate // _FEWER),
    ]


def _row(
    route: Route, song: Song, width: int, work: float | None, plan: Plan, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Encode, decode, train and test with a network of `width`, or of as much work a second as given."""
    tell(f"{route.name}: encoding {len(song.mixtures)} mixtures")
    coded = route.encode(song.test_mixture)
    begun = time.process_time()
    test = route.load(coded)
    seconds = song.test_mixture.shape[1] / song.rate
    speed = seconds / (time.process_time() - begun)
    inputs = [route.load(route.encode(x)) for x in song.mixtures]
    level = torch.cat(inputs, 1).square().mean().sqrt()
    pairs = [
        torch.stack([x, route.target(stem)])[:, :, None] / level for x, stem in zip(inputs, song.stems, strict=True)
    ]
    channels, frames = test.shape
    make = partial(_network, channels, width, work, test[None, :, None], frames / seconds)
    network, epoch = fit(make, partial(_draw, pairs), sum(x.shape[-1] for x in pairs) // _CROP, plan, tell, F.mse_loss)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        out = network(test[None, :, None] / level)[0, :, 0].float() * level
    return {
        "input": route.name,
        "bytes": round(len(coded) / seconds),
        "numbers": round(test.numel() / seconds),
        "mmac": round(megamacs(make(), test[None, :, None]) / seconds, 2),
        "load_per_second": round(speed, 1),
        "epoch_seconds": round(epoch, 2),
    } | _quality(song, route.samples(coded, out))


def _draw(pairs: list[Tensor], chosen: Sequence[int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return random crops [B, C, 1, frames] of mixtures and stems, whatever was chosen."""
    crops = []
    for number in rng.integers(len(pairs), size=len(chosen)):
        at = rng.integers(pairs[number].shape[-1] - _CROP + 1)
        crops.append(pairs[number][..., at : at + _CROP])
    return torch.stack(crops, 1).unbind()


def _network(channels: int, width: int, work: float | None, x: Tensor, rate: float) -> Separator:
    """Return a network of `width`, or of the width that is nearest to so much work (MMAC a second)."""
    if work is None:
        return Separator(channels, width, _BLOCKS)
    with torch.random.fork_rng([]):
        some = x[..., :8]
        cost = lambda w: megamacs(Separator(channels, w, _BLOCKS), some) * rate / some.shape[-1]
        width = min(range(2, 2 * width, 2), key=lambda w: abs(cost(w) - work))
    return Separator(channels, width, _BLOCKS)


def _quality(song: Song, samples: np.ndarray) -> dict[str, float]:
    """Return how near samples are to the stem, in dB."""
    values = {"si_sdr": si_sdr(song.test_stem, samples), "psnr": psnr(song.test_stem, samples)}
    return {name: round(value, 2) for name, value in values.items() if value is not None}


def _pcm(rate: int, samples: np.ndarray) -> bytes:
    """Return a FLAC file of 16 bits: what an original takes."""
    file = io.BytesIO()
    codec.write(codec.Audio(samples, rate), file, "flac")
    return file.getvalue()


def _samples(data: bytes) -> np.ndarray:
    return codec.read(data).samples


def _encode(rate: int, quality: float, samples: np.ndarray) -> bytes:
    return codec.encode(codec.Audio(samples, rate), model=MODEL, quality=quality)


def _latents(song: Song, quality: float) -> Route:
    """Return the route through files of ours, latents in the units of the codec's quantizer."""
    encode = partial(_encode, song.rate, quality)
    steps = _steps(codec.open(encode(song.mixtures[0])))

    def samples(data: bytes, out: Tensor) -> np.ndarray:
        return codec.open(data).render(out * steps).samples

    return Route(
        f"{MODEL} latents",
        encode,
        lambda data: codec.open(data).latents() / steps,
        lambda stem: codec.open(_encode(song.rate, _FINE, stem)).latents() / steps,
        samples,
    )


def _steps(stream: codec.Stream) -> Tensor:
    """Return what a symbol of one is worth in each latent, [C, 1]; of those that are always zero, the largest."""
    symbols, latents = stream.symbols()["y"][0].T.abs().sum(1), stream.latents().abs().sum(1)
    steps = latents / symbols.clamp_min(1)
    return torch.where(symbols > 0, steps, steps.max())[:, None]


def _spectra(
    name: str,
    encode: Callable[[np.ndarray], bytes],
    *,
    read: Callable[[bytes], np.ndarray],
    rate: int,
    to: int,
) -> Route:
    """Return the route through the spectra of samples converted to a rate, with as many frames a second at any."""
    hop = _HOP * to // rate
    convert = lambda samples: _exchanged(torch.from_numpy(resample(samples, rate, to)))
    analyze = lambda samples: sounds.mdct(convert(samples), hop)

    def samples(data: bytes, out: Tensor) -> np.ndarray:
        length = read(data).shape[1]
        few = sounds.inverse_mdct(out, hop, -(-length * to // rate))
        back = resample(_exchanged(few).numpy(), to, rate)[:, :length]
        return np.pad(back, ((0, 0), (0, length - back.shape[1])))

    return Route(name, encode, lambda data: analyze(read(data)), analyze, samples)


def _exchanged(x: Tensor) -> Tensor:
    """Return mid and side of left and right, or the other way round, [2, n]."""
    return torch.stack([x[0] + x[1], x[0] - x[1]]) * 0.5**0.5
