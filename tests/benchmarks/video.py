"""Benchmark of decoding video: our models against the decoders of x264, x265 and SVT-AV1 streams.

    python tests/benchmarks/video.py speed CLIP
    python tests/benchmarks/video.py speed CLIP --models stem --stream fitted.lcb

Rates and distortions are measured by `codec eval`. Times are medians of interleaved runs after a warm-up, bytes in
memory to frames in memory in the clip's own pixels, with two threads for everybody; only ratios between rows of one run
mean anything. Files that take long to make are given by `--stream`, for instance those `codec eval` leaves in `coded/`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

import codec
from codec.evaluation import video_anchors
from codec.media import video
from codec.rate import bits_per_pixel

from timing import interleaved

THREADS = 2
ANCHORS = {  # name -> options
    "x264": {"crf": "30", "preset": "medium"},
    "x265": {"crf": "30", "preset": "medium"},
    "av1": {"crf": "46", "preset": "4"},
}
BASE = "x264"


def measure_speed(args: argparse.Namespace) -> None:
    """Frames a second of every decoder on its own file of the same clip."""
    clip = video.read(args.clip)
    files: dict[str, bytes] = {}
    jobs: dict[str, Callable[[], object]] = {}
    for name, options in ANCHORS.items():
        files[name] = video_anchors.encode(name, clip, options, threads=THREADS)
        jobs[name] = lambda n=name: video_anchors.decode(n, files[n], threads=THREADS)
    for model in args.models:
        files[model] = codec.encode(clip, model=model, quality=args.quality, effort=args.effort)
    for path in args.stream:
        files[path.name] = path.read_bytes()
    for name in files.keys() - jobs.keys():
        if codec.open(files[name]).info.frames != clip.length:
            sys.exit(f"{name} does not hold the {clip.length} frames of {args.clip}")
        jobs[name] = lambda n=name: codec.decode(files[n])
    medians = interleaved({name: jobs[name] for name in files}, args.rounds)
    print("| decoder | bits per pixel | frames a second | times x264 |\n| --- | --- | --- | --- |")
    for name, seconds in medians.items():
        rate = bits_per_pixel(len(files[name]), clip.width, clip.height, clip.length)
        print(f"| {name} | {rate:.4f} | {clip.length / seconds:.1f} | {medians[BASE] / seconds:.3g} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    speed = commands.add_parser("speed")
    speed.add_argument("clip", type=Path)
    installed = [model.name for model in codec.installed_models() if model.media == "video"]
    speed.add_argument("--models", nargs="*", default=installed, help="encoded here [default: all]")
    speed.add_argument("--stream", nargs="*", type=Path, default=[], help="files of ours of the same clip")
    speed.add_argument("--quality", type=float, default=60)
    speed.add_argument("--effort", type=int, default=1)
    speed.add_argument("--rounds", type=int, default=5)
    speed.set_defaults(run=measure_speed)
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    args.run(args)


if __name__ == "__main__":
    main()
