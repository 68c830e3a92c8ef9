"""The distortion metrics for video, measured frame by frame.

`psnr` and `ms-ssim` are of RGB, as decoded frames are shown and as the papers on networks fitted to a clip have it;
`psnr-yuv` and `psnr-y` of the planes that are coded. A frame that comes back exactly would be infinitely good and the
mean of a clip with it, too: the PSNR of a frame or plane counts up to 6 x bits + 12 dB (60 of 8 bits), as in libvmaf.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from statistics import fmean

import numpy as np

from codec.distortion import squared_error
from codec.errors import MediaError
from codec.evaluation import image_metrics
from codec.evaluation.chroma import rgb_frames, subsampled, subsampled_frames
from codec.evaluation.metrics import Metric
from codec.evaluation.vmaf import MIN_SIDE, MODEL, PACKAGE, vmaf
from codec.media.image import Image
from codec.media.video import UNSPECIFIED, Video
from codec.workers import limited_threads

_LUMA_WEIGHT = 6  # of 8, as the JVET's; each chroma plane has 1
_CAP = "of a frame at most 6 x bits + 12 dB (60 of 8 bits)"


def alike(original: Video, decoded: Video) -> tuple[Video, Video]:
    """Return both with a matrix of their colours: one that says nothing has the other's.

    Raises:
        MediaError: size, number of frames or depth differ.
    """
    a, b = original, decoded
    if (a.width, a.height) != (b.width, b.height):
        raise MediaError(f"{a.width}x{a.height} and {b.width}x{b.height} pixels cannot be compared; scale one of them")
    if a.length != b.length:
        raise MediaError(f"{a.length} and {b.length} frames cannot be compared; cut one of them")
    if (a.format.depth == 8) != (b.format.depth == 8):
        raise MediaError(f"{a.format.depth} and {b.format.depth} bits a sample cannot be compared; convert one of them")
    return _with_matrix_of(a, b), _with_matrix_of(b, a)


def _with_matrix_of(video: Video, other: Video) -> Video:
    if video.format.rgb or other.format.rgb or video.format.matrix != UNSPECIFIED:
        return video
    return replace(video, format=replace(video.format, matrix=other.format.matrix))


def _mse(a: Video, b: Video, _: str | None) -> float:
    return fmean(_rgb_errors(a, b)) * 255**2


def _psnr(a: Video, b: Video, _: str | None) -> float | None:
    return _mean_psnr(((error,) for error in _rgb_errors(a, b)), (1,), max(a.format.depth, b.format.depth))


def _psnr_y(a: Video, b: Video, _: str | None) -> float | None:
    return _mean_psnr(((luma,) for luma, *_ in _plane_errors(a, b)), (1,), subsampled(a.format).depth)


def _psnr_yuv(a: Video, b: Video, _: str | None) -> float | None:
    return _mean_psnr(_plane_errors(a, b), (_LUMA_WEIGHT, 1, 1), subsampled(a.format).depth)


def _mean_psnr(frames: Iterable[tuple[float, ...]], weights: tuple[int, ...], depth: int) -> float | None:
    """Return the mean over frames of the weighted mean of the PSNR of planes; None where nothing differs at all.

    Args:
        frames: mean squared errors of the planes of each, of a range of 1.
    """
    most, different, values = 6 * depth + 12, False, []
    for errors in frames:
        different |= any(errors)
        levels = [min(most, -10 * math.log10(error)) if error else most for error in errors]
        values.append(sum(w * level for w, level in zip(weights, levels, strict=True)) / sum(weights))
    return fmean(values) if different else None


def _rgb_errors(a: Video, b: Video) -> Iterator[float]:
    """Yield the mean squared error of each frame in RGB, of a range of 1."""
    for x, y in zip(rgb_frames(a), rgb_frames(b), strict=True):
        yield squared_error(x, y) / x.size / np.iinfo(x.dtype).max ** 2


def _plane_errors(a: Video, b: Video) -> Iterator[tuple[float, ...]]:
    """Yield the mean squared errors of Y, U and V of each frame, of a range of 1."""
    form = subsampled(a.format)
    top = (1 << form.depth) - 1
    for x, y in zip(subsampled_frames(a, form), subsampled_frames(b, form), strict=True):
        yield tuple(squared_error(p, q) / p.size / top**2 for p, q in zip(x, y, strict=True))


def _ms_ssim(a: Video, b: Video, _: str | None) -> float | None:
    of_pictures = image_metrics.METRICS["ms-ssim"].measure
    with limited_threads(1):  # frames of video are small: threads wait for each other longer than they work
        values = [of_pictures(Image(x), Image(y), None) for x, y in zip(rgb_frames(a), rgb_frames(b), strict=True)]
    return None if None in values else fmean(values)


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "psnr",
            _psnr,
            "mean over frames of 10 log10(255^2 / MSE) over all samples of R, G and B, the original as RGB against the "
            f"decoded frame as RGB; {_CAP}",
        ),
        Metric("mse", _mse, "mean squared error over all samples of R, G and B; deeper samples are scaled to 0..255"),
        Metric(
            "psnr-yuv",
            _psnr_yuv,
            f"mean over frames of (6 PSNR of Y + that of U + that of V) / 8, planes of 4:2:0 as coded; {_CAP}",
        ),
        Metric("psnr-y", _psnr_y, f"mean over frames of the PSNR of the plane Y; {_CAP}"),
        Metric(
            "ms-ssim",
            _ms_ssim,
            f"mean over frames, in RGB; {image_metrics.METRICS['ms-ssim'].how}",
            packages=image_metrics.METRICS["ms-ssim"].packages,
        ),
        Metric(
            "vmaf",
            lambda a, b, _: vmaf(a, b),
            f"libvmaf's model {MODEL} in the FFmpeg of {PACKAGE}, mean over frames; no value below {MIN_SIDE} pixels a "
            "side",
            packages=(PACKAGE,),
        ),
    )
}
