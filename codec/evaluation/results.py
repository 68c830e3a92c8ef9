"""What an evaluation yields: rows as they are measured, curves as they are reported.

A **row** is one file coded at one setting. A **point** is the mean of the rows of one setting over all files. A
**curve** is all points of one codec with the same fixed options, in rising rate. An **evaluation** is everything a
report needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One file coded at one setting.

    Attributes:
        file: name, relative to the folder that was given.
        source: SHA-256 of the source file, hexadecimal: a changed picture is measured again.
        curve: codec and fixed options, `avif:speed=6`.
        setting: what varies along the curve, `q=50`; empty for lossless codecs.
        version: of the encoder, `Pillow 13.0.0, libavif 1.3.0`; for our models system, version and digest.
        options: every option the encoder was given, defaults included.
        size: of the signal, what rates are worked out from: `width`, `height` in pixels and of video `frames` and
            `microseconds`, or `channels`, `sample_rate` (Hz) and `samples` (a channel). In files these keys stand
            beside the others.
        bytes: size of the coded file, everything included.
        coded: SHA-256 of the coded file, hexadecimal: two runs that agree on it agree on everything but times.
        metrics: by name (`psnr`, `mse`, `ms-ssim`, `pesq`, ...); None for an infinite PSNR, as JSON has no infinity,
            and where a metric is not defined.
        estimated_bytes: what RateMeter counts for the symbols, container left out; None for other codecs.
        encode_seconds, decode_seconds: median of the runs after a warm-up.
        encode_peak, decode_peak: peak resident bytes of the process while it worked, None where not measured.
        task: SHA-256 of the user's file that judged what was decoded, hexadecimal; empty without one. Its score, in
            percent, is among the metrics.
        original: the same score of the source file.
        error: why there are no numbers; then all of them are 0, empty or None.
    """

    file: str
    source: str
    curve: str
    setting: str
    version: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    size: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    coded: str = ""
    metrics: dict[str, float | None] = field(default_factory=dict)
    estimated_bytes: float | None = None
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    encode_peak: int | None = None
    decode_peak: int | None = None
    task: str = ""
    original: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Point:
    """Means over all files of one setting.

    Attributes:
        setting: `q=50`.
        rate: mean of the files' rates, in bits per pixel or kilobits per second.
        metrics: `psnr` (mean of per-file PSNR, dB), `psnr-of-mean-mse` (dB), `ms-ssim` (mean), `ms-ssim-db` (of the
            mean), `ssimulacra2`, ...; None where not finite (lossless).
        encode_seconds, decode_seconds: mean seconds a file; None for published curves without them.
        encode_peak, decode_peak: largest of the files, bytes.
        files: how many were averaged.
        duration: mean seconds of the signals; None for what has no duration.
        frames: mean number of them; None for what has no frames.
    """

    setting: str
    rate: float
    metrics: dict[str, float | None]
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    encode_peak: int | None = None
    decode_peak: int | None = None
    files: int = 0
    duration: float | None = None
    frames: float | None = None

    def times_real_time(self, seconds: float | None) -> float | None:
        """Return how many seconds of signal are done in a second; None where there is no such thing."""
        return self.duration / seconds if self.duration and seconds else None

    def frames_a_second(self, seconds: float | None) -> float | None:
        """Return how many frames are done in a second; None where there are none."""
        return self.frames / seconds if self.frames and seconds else None


@dataclass(frozen=True)
class Curve:
    """One codec over its settings.

    Attributes:
        name: `avif:speed=6`, unique in an evaluation.
        kind: `model` (ours), `anchor` (run here), `peer` (another learned codec, run here) or `published` (read, not
            run).
        description: encoder, version and every option that was passed; for published curves their source.
        points: in rising rate; one for a lossless codec.
    """

    name: str
    kind: str
    description: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Evaluation:
    """Everything a report needs.

    Attributes:
        curves: in the order they were asked for.
        metrics: names of the metrics in display order; those that exist at every run point.
        conventions: heading -> text, how each number was obtained.
        command: the command line that repeats it.
        facts: machine, processes, threads, versions, number of files, failures: label -> text.
        media: kind of signal, `image`, `audio` or `video`.
        originals: metric that a task gives -> its mean over the originals, what a lossless codec would have.
    """

    curves: tuple[Curve, ...]
    metrics: tuple[str, ...]
    conventions: dict[str, str]
    command: str
    facts: dict[str, Any]
    media: str = "image"
    originals: dict[str, float] = field(default_factory=dict)
