"""Sounds into classes: latents read from files against spectra and samples, at equal compute and at equal bytes.

DATA holds a folder a class with the clips of ESC-10 (Piczak, "ESC: Dataset for Environmental Sound Classification",
2015), whose names begin with the fold, 1 ... 5. Each fold is tested on by a network trained on the other four, and
accuracies are means over folds. Every row is trained on what comes out of files:

    latents      of .lcb files: entropy decoding, no synthesis. Those of walloc-audio are coefficients of a lapped
                 transform, which change their sign at random: the network gets the log of their mean squares over four
                 frames. Those of rvq, made of magnitudes, go in as they are, two frames in one position.
    log-mel      of the sound decoded from Opus files of as many bytes as those of walloc-audio, and of the original
                 files; 128 bands, four frames of 512 samples joined as with the latents
    samples      of the original files, reduced to as many a second as walloc-audio has latents, folded into channels

All networks see about 23 positions a second and cost as many multiply-adds: where there are more channels, the network
is narrower. What makes the input (entropy decoding, spectra) is not counted, but timed. Training is the same for all:
random crops of four fifths of a clip, mixup, levels of each channel made alike. Files are kept in OUT and made once.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import codec
from codec.errors import MediaError
from codec.evaluation.audio_anchors import ANCHORS
from codec.learning.experiments import sounds
from codec.learning.experiments.fitting import Plan, accuracy, fit
from codec.learning.experiments.sounds import Clips
from codec.learning.experiments.work import megamacs
from codec.learning.networks import Classifier, Shape
from codec.lines import append_line
from codec.media.resample import resample

PLAN = Plan(epochs=30, batch=16, lr=2e-3, mixup=0.4)
MODEL, QUALITY = "walloc-audio", 20.0
_TOKENS, _BEST = "rvq-speech", 100.0  # its codes are few at any quality
_WIDTH = 64  # of the network for 128 channels
_KEPT = 0.8  # of a clip, by crops
_FRAMES, _HOP, _BANDS = 4, 512, 128  # frames a position, samples a frame, mel bands
_PROBED = 10  # one clip of so many fits the bytes of Opus
_QUIET = 2e-3  # latents, near unit variance, below which are not told apart
_SILENCE = 1e-3  # the same for the power of spectra
_TIMED = 50  # clips that loading is timed on


@dataclass(frozen=True)
class Source:
    """One way to store clips and to get a network's input from a file.

    Attributes:
        name: in the table.
        made_by: what else, beside the name, decides the bytes.
        encode: clip [1, n] -> bytes; None: the file as it is.
        load: bytes -> input [channels, positions].
    """

    name: str
    made_by: str
    encode: Callable[[np.ndarray], bytes] | None
    load: Callable[[bytes], Tensor]


def run(
    data: Path,
    out: Path,
    *,
    quality: float = QUALITY,
    width: int = _WIDTH,
    plan: Plan = PLAN,
    tell: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Train and test on every source and return the rows, which are also appended to `rows.jsonl` in `out`.

    Args:
        quality: of walloc-audio.
        width: of the network for 128 channels.

    Raises:
        MediaError: there are no clips, or all are in one fold.
    """
    clips = sounds.read(data)
    if len(set(clips.folds.tolist())) < 2:
        raise MediaError(f"all clips of {data} are in one fold, so there is nothing to test on; give at least two")
    out.mkdir(parents=True, exist_ok=True)
    files = _files(_latents(clips.rate, quality), clips, out, tell)
    rows, work = [], None
    for source in sources(clips, quality, float(np.mean([len(data) for data in files]))):
        row = _row(source, clips, _files(source, clips, out, tell), plan, width, work, tell)
        work = work or row["mmac"]
        append_line(out / "rows.jsonl", row)
        rows.append(row)
    return rows


def sources(clips: Clips, quality: float, size: float) -> list[Source]:
    """Return what is compared; `size` is the mean of bytes a file of walloc-audio."""
    rate = clips.rate
    kbps = sounds.opus_rate(clips.samples[::_PROBED], rate, size)
    coded = lambda x: codec.encode(codec.Audio(x, rate), model=_TOKENS, quality=_BEST, strip=True)
    mel = lambda samples: _pooled(sounds.log_mel(samples, rate, hop=_HOP, bands=_BANDS, quiet=_SILENCE))
    fewer = rate // 2  # samples a second: as many as walloc-audio has latents
    few = lambda data: torch.from_numpy(resample(_decoded(data), rate, fewer))
    return [
        _latents(rate, quality),
        Source(f"{_TOKENS} latents", _digest(_TOKENS), coded, lambda d: sounds.folded(codec.open(d).latents(), 2)),
        Source(
            f"log-mel, Opus {kbps:.1f} kbit/s",
            ANCHORS["opus"].version(),
            partial(sounds.opus, kbps, rate=rate),
            lambda d: mel(sounds.opus_samples(d)),
        ),
        Source("log-mel, originals", "", None, lambda d: mel(_decoded(d))),
        Source("samples, as many numbers", "", None, lambda d: sounds.folded(few(d), _HOP * _FRAMES // 2)),
    ]


def _latents(rate: int, quality: float) -> Source:
    encode = lambda x: codec.encode(codec.Audio(x, rate), model=MODEL, quality=quality, strip=True)
    load = lambda data: sounds.energies(codec.open(data).latents(), _FRAMES, _QUIET)
    return Source(f"{MODEL} latents, quality {quality:g}", _digest(MODEL), encode, load)


def _digest(model: str) -> str:
    return codec.find_model(model).short_digest.hex()


def _pooled(x: Tensor) -> Tensor:
    return F.avg_pool1d(x[None], _FRAMES)[0]


def _decoded(data: bytes) -> np.ndarray:
    """Return the samples of a file mixed to one channel, [1, n]."""
    return codec.read(data).samples.mean(0, keepdims=True)


def split(clips: Clips, fold: int) -> tuple[list[int], list[int]]:
    """Return the numbers of the clips to train on and of those of a fold, to test on."""
    numbers = range(len(clips.files))
    return [i for i in numbers if clips.folds[i] != fold], [i for i in numbers if clips.folds[i] == fold]


def _row(
    source: Source,
    clips: Clips,
    files: list[bytes],
    plan: Plan,
    width: int,
    work: float | None,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Decode, train and test on each fold with a network of `width`, or of as much work as given."""
    source.load(files[0])  # what is loaded once is not timed
    begun = time.process_time()
    inputs = [source.load(data) for data in files[:_TIMED]]
    speed = len(inputs) / (time.process_time() - begun)
    inputs = [x[:, None] for x in (*inputs, *map(source.load, files[_TIMED:]))]
    shape = shape_for(inputs[0], len(clips.classes), width, work)
    scores, seconds = [], []
    for fold in sorted(set(clips.folds.tolist())):
        score, each = _fold(inputs, clips, fold, shape, plan)
        scores.append(100 * score)
        seconds.append(each)
        tell(f"{source.name}, fold {fold}: {scores[-1]:.1f} %, {each:.2f} s an epoch")
    return {
        "input": source.name,
        "bytes": round(float(np.mean([len(data) for data in files]))),
        "numbers": round(float(np.mean([x.numel() for x in inputs]))),
        "mmac": round(megamacs(Classifier(shape), inputs[0][None]), 2),
        "load_per_second": round(speed, 1),
        "epoch_seconds": round(float(np.mean(seconds)), 2),
        "accuracy": round(float(np.mean(scores)), 2),
        "spread": round(float(np.std(scores)), 2),
    }


def shape_for(x: Tensor, classes: int, width: int, work: float | None) -> Shape:
    """Return the shape of a network for inputs like x [C, 1, n]: of `width`, or nearest to so much work (MMAC)."""
    shape = lambda w: Shape(len(x), classes, widths=(w, 2 * w), blocks=1, line=True)
    if work is None:
        return shape(width)
    return min(map(shape, range(2, 2 * width, 2)), key=lambda s: abs(megamacs(Classifier(s), x[None]) - work))


def _fold(inputs: list[Tensor], clips: Clips, fold: int, shape: Shape, plan: Plan) -> tuple[float, float]:
    """Return the accuracy on a fold of a network trained on the others, and the seconds an epoch took."""
    training, tests = split(clips, fold)
    mean, deviation = _moments([inputs[i] for i in training])
    inputs = [(x - mean) / deviation for x in inputs]
    size = max(round(_KEPT * min(x.shape[2] for x in inputs)), 1)

    def draw(chosen: Sequence[int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        numbers = [training[i] for i in chosen]
        starts = [rng.integers(inputs[i].shape[2] - size + 1) for i in numbers]
        crops = [inputs[i][:, :, at : at + size] for i, at in zip(numbers, starts, strict=True)]
        return torch.stack(crops), clips.labels[numbers]

    network, seconds = fit(lambda: Classifier(shape), draw, len(training), plan, lambda text: None)
    return accuracy(network, [inputs[i] for i in tests], clips.labels[tests]), seconds


def _moments(inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel, [C, 1, 1]."""
    joined = torch.cat([x.flatten(1) for x in inputs], 1)
    return joined.mean(1)[:, None, None], joined.std(1).clamp_min(1e-4)[:, None, None]


def _files(source: Source, clips: Clips, out: Path, tell: Callable[[str], None]) -> list[bytes]:
    """Return the file of each clip, made unless an earlier run has."""
    if source.encode is None:
        return [path.read_bytes() for path in clips.files]
    tell(f"{source.name}: {len(clips.files)} files")
    folder = out / f"{source.name}, {source.made_by}".replace("/", " per ")
    encode = source.encode
    return [
        sounds.kept(folder / f"{path.stem}-{zlib.crc32(samples):08x}.bin", partial(encode, samples))
        for path, samples in zip(clips.files, clips.samples, strict=True)
    ]
