"""Benchmark of the image models: times and memory. Rates and distortions are measured by `codec eval`.

    python tests/benchmarks/images.py speed KODAK_FOLDER
    python tests/benchmarks/images.py memory PHOTO
    python tests/benchmarks/images.py startup STREAM

Times are medians of interleaved runs after a warm-up, with two threads for everybody; only ratios between rows of one
run mean anything.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import codec

from timing import interleaved

THREADS = 2
AVIF = {"speed": 6, "subsampling": "4:4:4", "max_threads": THREADS}

_PEAK = """
import resource
from codec.cli.main import run
try:
    run()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def photographs(folder: Path) -> list[Path]:
    """Return the images of a folder."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in {".png", ".jpg", ".webp", ".tif"})
    return found or sys.exit(f"no images in {folder}")


def avif_bytes(picture: Image.Image, quality: int) -> bytes:
    """Return the file Pillow writes."""
    out = io.BytesIO()
    picture.save(out, "AVIF", quality=quality, **AVIF)
    return out.getvalue()


def measure_speed(args: argparse.Namespace) -> None:
    """Library call against library call on the whole set, pixels to file bytes and back."""
    files = photographs(args.folder)
    pillow = [Image.open(path).convert("RGB") for path in files]
    pixels = sum(p.width * p.height for p in pillow)
    jobs: dict[str, Callable[[], object]] = {
        "avif speed 6 encode": lambda: [avif_bytes(p, args.avif_quality) for p in pillow]
    }
    for model in args.models:
        streams = [codec.encode(p, model=model) for p in pillow]
        jobs[f"{model} encode"] = lambda m=model: [codec.encode(p, model=m) for p in pillow]
        jobs[f"{model} decode"] = lambda s=streams: [codec.decode(data) for data in s]
        jobs[f"{model} latents"] = lambda s=streams: [codec.open(data).latents() for data in s]
    medians = interleaved(jobs, args.rounds)
    base = medians["avif speed 6 encode"]
    print("| operation | megapixels a second | times AVIF speed 6 encoding |\n| --- | --- | --- |")
    for name, seconds in medians.items():
        print(f"| {name} | {pixels / seconds / 1e6:.2f} | {base / seconds:.2f} |")


def measure_memory(args: argparse.Namespace) -> None:
    """Peak resident memory of encoding and decoding a picture of 100 megapixels through the command line."""
    with tempfile.TemporaryDirectory() as folder:
        source, stream, back = (Path(folder) / name for name in ("big.png", "big.lcb", "back.ppm"))
        tile = np.asarray(Image.open(args.photo).convert("RGB"))
        repeats = [-(-10_000 // n) for n in tile.shape[:2]]
        big = np.tile(tile, (*repeats, 1))[:10_000, :10_000]
        Image.fromarray(big).save(source, compress_level=1)
        for name, command in (
            ("encode", ["encode", source, "-o", stream]),
            ("decode", ["decode", stream, "-o", back]),
        ):
            started = time.perf_counter()
            words = [sys.executable, "-c", _PEAK, *map(str, command)]
            result = subprocess.run(words, capture_output=True, text=True, check=True)
            peak, seconds = int(result.stdout.split()[-1]) / 1024, time.perf_counter() - started
            print(f"{name} 100 MP: peak {peak:.0f} MiB, {seconds:.0f} s")
        print(f"file {stream.stat().st_size} bytes")


def measure_startup(args: argparse.Namespace) -> None:
    """Seconds of whole processes, beside the bare interpreter."""
    command = str(Path(sys.executable).with_name("codec"))
    run = lambda *words: subprocess.run(words, capture_output=True, check=True)
    jobs = {
        "python -c pass": lambda: run(sys.executable, "-c", "pass"),
        "codec --help": lambda: run(command, "--help"),
        "codec inspect": lambda: run(command, "inspect", args.stream),
    }
    for name, seconds in interleaved(jobs, 9).items():
        print(f"{name}: {seconds:.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    models = {"nargs": "+", "default": ["waveprior", "walloc-12", "walloc-48"]}
    speed = commands.add_parser("speed")
    speed.add_argument("folder", type=Path)
    speed.add_argument("--models", **models)
    speed.add_argument("--rounds", type=int, default=5)
    speed.add_argument("--avif-quality", type=int, default=50)
    speed.set_defaults(run=measure_speed)
    memory = commands.add_parser("memory")
    memory.add_argument("photo", type=Path)
    memory.set_defaults(run=measure_memory)
    startup = commands.add_parser("startup")
    startup.add_argument("stream", type=Path)
    startup.set_defaults(run=measure_startup)
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    args.run(args)


if __name__ == "__main__":
    main()
