"""Decoded video for the report: of every clip the frames that were kept, in the viewer of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from codec.errors import MediaError
from codec.evaluation.chroma import rgb_frames
from codec.evaluation.report import pictures
from codec.evaluation.report.exhibits import Exhibit
from codec.evaluation.video_metrics import alike
from codec.media.image import Image
from codec.media.video import Video

SCRIPT = pictures.SCRIPT
POLICY = pictures.POLICY


def section(exhibits: Sequence[Exhibit]) -> str:
    """Return contact sheets of crops of single frames, one sheet a frame."""
    return pictures.section([sheet for exhibit in exhibits for sheet in _frames(exhibit)])


def _frames(exhibit: Exhibit) -> list[Exhibit]:
    """Return an exhibit of pictures for each frame; rate and PSNR stay those of the whole clip.

    Raises:
        MediaError: a decoded video does not have the size and number of frames of its original.
    """
    original = exhibit.original
    seconds = [float(time * original.format.time_base) for time in original.frames.times]
    shown = [Exhibit(f"{exhibit.file}, {second:.2f} s", picture, []) for second, picture in
             zip(seconds, _pictures(original), strict=True)]  # fmt: skip
    for decoded in exhibit.decoded:
        try:
            _, video = alike(original, decoded.signal)
        except MediaError as exc:
            raise MediaError(f"{exhibit.file} by {decoded.name}: {exc}") from exc
        for sheet, picture in zip(shown, _pictures(video), strict=True):
            sheet.decoded.append(replace(decoded, signal=picture))
    return shown


def _pictures(video: Video) -> list[Image]:
    return [Image(frame) for frame in rgb_frames(video)]
