"""Video in an evaluation: bits per pixel, metrics of frames in RGB and of the planes that are coded."""

from __future__ import annotations

from collections.abc import Mapping

from codec.evaluation.image_metrics import to_db
from codec.evaluation.medium import Derived, Medium
from codec.evaluation.video_metrics import METRICS, alike
from codec.media import video
from codec.media.kinds import VIDEO_SUFFIXES
from codec.media.video import Frames, Video
from codec.rate import bits_per_pixel


def _read(path: str) -> Video:
    """Return the frames in their own pixels, without tags and sound."""
    clip = video.read(path)
    return Video(clip.format, clip.frames)


def _size_of(clip: Video) -> dict[str, int]:
    microseconds = round(clip.seconds * 1_000_000)
    return {"width": clip.width, "height": clip.height, "frames": clip.length, "microseconds": microseconds}


def _rate_of(size: int, of: Mapping[str, int]) -> float:
    return bits_per_pixel(size, of["width"], of["height"], of["frames"])


def _excerpt(clip: Video) -> Video:
    """Return the first frame and the middle one."""
    chosen = sorted({0, clip.length // 2})
    planes = tuple(plane[chosen] for plane in clip.frames.planes)
    return Video(clip.format, Frames(planes, tuple(clip.frames.times[i] for i in chosen)))


VIDEOS = Medium(
    name="video",
    thing="a video",
    things="videos",
    suffixes=lambda: set(VIDEO_SUFFIXES),
    read=_read,
    size_of=_size_of,
    rate_of=_rate_of,
    duration_of=lambda size: size["microseconds"] / 1_000_000,
    alike=alike,
    excerpt=_excerpt,
    keeps=True,
    metrics=METRICS,
    derived={"ms-ssim-db": Derived("ms-ssim", to_db)},
    columns=("psnr", "psnr-yuv", "psnr-y", "ms-ssim-db", "ms-ssim", "vmaf"),
    infinite=("psnr", "psnr-yuv", "psnr-y", "mse"),
    unsuited=lambda sources: ((), ""),
    published={
        "psnr_rgb": "psnr",
        "psnr_yuv": "psnr-yuv",
        "psnr_y": "psnr-y",
        "ms_ssim_rgb": "ms-ssim",
        "ms_ssim_db_rgb": "ms-ssim-db",
        "vmaf": "vmaf",
    },
    conventions={
        "Data": "Every codec gets the same frames in memory: the largest video track of the file in its own pixels "
        "(4:2:0 of 8 or 10 bits untouched, or RGB), without sound and tags. x264, x265, SVT-AV1 and VP9 get RGB as "
        "4:2:0.",
        "Rate": "Bits per pixel: 8 x size of the whole file / (width x height x frames), header included; mean over "
        "files. Files of x264, x265, SVT-AV1 and VP9 are raw streams (Annex B, low-overhead OBUs, IVF) without times "
        "and without what the encoder says of itself, than which there is nothing smaller that a player reads; "
        "container=mp4 in the name of a curve is the file of a user of ffmpeg. Ours hold times and colours, too.",
        "RGB": "4:2:0 becomes RGB by the matrix and range the file states (BT.601 where it states none), chroma "
        "interpolated by cubics, for the original and for what was decoded in the same way; FFmpeg's own conversion "
        "gives PSNRs that differ by some tenths of a dB.",
        "ms-ssim-db": "-10 log10(1 - mean MS-SSIM): of the mean, not the mean of dB.",
        "Seconds": "Frames in memory to the bytes of the file in memory, and back to frames in memory in their own "
        "pixels. Frames a second: number of frames / these seconds. Codecs that fit a network to the file encode once, "
        "without a warm-up. SVT-AV1 takes the number of threads as a level of parallelism and may use more.",
    },
    packages=("codec", "torch", "numpy", "av"),
)
