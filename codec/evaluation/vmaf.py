"""VMAF, by the FFmpeg that the package imageio-ffmpeg brings along, with libvmaf and its models built in.

Li et al., "Toward a practical perceptual video quality metric" (Netflix, 2016). Both videos are handed over as
YUV4MPEG2 files in a temporary folder, written frame by frame.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np

from codec.errors import MediaError, MissingPackageError
from codec.evaluation.chroma import subsampled, subsampled_frames
from codec.media.video import Video, VideoFormat

PACKAGE = "imageio-ffmpeg"
MODEL = "vmaf_v0.6.1"
MIN_SIDE = 32  # pixels: below, libvmaf's coarsest scales vanish
_LOG = "vmaf.json"
_FILTER = f"libvmaf=model=version={MODEL}:n_threads=1:log_fmt=json:log_path={_LOG}"
_LAYOUTS = {"yuv420p": "420jpeg", "yuv420p10le": "420p10 XYSCSS=420P10"}


def vmaf(original: Video, decoded: Video) -> float | None:
    """Return the mean over frames, 0..100; None below 32 pixels a side.

    Raises:
        MediaError: it could not be computed.
        MissingPackageError: imageio-ffmpeg is not installed.
    """
    if min(original.width, original.height) < MIN_SIDE:
        return None
    form = subsampled(original.format)
    with tempfile.TemporaryDirectory() as folder:
        for name, video in (("original", original), ("decoded", decoded)):
            with (Path(folder) / f"{name}.y4m").open("wb") as file:
                file.writelines(_y4m(video, form))
        words = ["-nostdin", "-v", "error", "-i", "decoded.y4m", "-i", "original.y4m"]
        command = [_ffmpeg(), *words, "-lavfi", f"[0:v][1:v]{_FILTER}", "-f", "null", "-"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
        log = Path(folder) / _LOG
        if result.returncode or not log.exists():
            last = (result.stderr.strip().splitlines() or ["no message"])[-1]
            raise MediaError(f"VMAF could not be computed ({last}); leave it out by --metric")
        return float(json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"])


def _ffmpeg() -> str:
    try:
        return import_module("imageio_ffmpeg").get_ffmpeg_exe()
    except (ImportError, RuntimeError) as exc:
        raise MissingPackageError(f"vmaf needs a package; pip install {PACKAGE}") from exc


def _y4m(video: Video, form: VideoFormat) -> Iterator[bytes | memoryview]:
    """Yield the pieces of a YUV4MPEG2 file; every frame has the same duration, as VMAF knows frames only."""
    yield f"YUV4MPEG2 W{form.width} H{form.height} F25:1 Ip A1:1 C{_LAYOUTS[form.pixels]}\n".encode()
    for planes in subsampled_frames(video, form):
        yield b"FRAME\n"
        for plane in planes:
            yield np.ascontiguousarray(plane).data
