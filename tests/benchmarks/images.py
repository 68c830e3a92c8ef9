"""Benchmark of the image models: rates, distortions, times and memory, with the anchors in the same run.

    python tests/benchmarks/images.py rd KODAK_FOLDER [--models ...] [--efforts 1 8]
    python tests/benchmarks/images.py speed KODAK_FOLDER
    python tests/benchmarks/images.py memory PHOTO
    python tests/benchmarks/images.py startup STREAM

Every rate is the size of a file; every distortion is of what that file decodes to. Times are medians of interleaved
runs after a warm-up, with two threads for everybody; only ratios between rows of one run mean anything.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
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
from codec.evaluation.bd import bd_rate, rate_at
from codec.rate import bits_per_pixel

THREADS = 2
QUALITIES = (0, 20, 40, 60, 80, 100)
ANCHORS: dict[str, tuple[dict, tuple[int, ...]]] = {  # Pillow format -> options, qualities
    "JPEG": ({"optimize": True, "progressive": True}, (10, 20, 35, 50, 70, 85, 93)),
    "WEBP": ({"method": 6}, (5, 20, 40, 60, 80, 92)),
    "AVIF": ({"speed": 6, "subsampling": "4:4:4", "max_threads": THREADS}, (20, 35, 50, 60, 70, 80)),
}
WALLOC = {"walloc-12": (0.6171, 30.56), "walloc-48": (2.5436, 37.34)}  # published: bpp, PSNR on Kodak


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


def pillow_bytes(picture: Image.Image, kind: str, quality: int) -> bytes:
    """Return the file Pillow writes."""
    out = io.BytesIO()
    picture.save(out, kind, quality=quality, **ANCHORS[kind][0])
    return out.getvalue()


def curve(files: list[Path], settings: list, encode: Callable, decode: Callable) -> list[dict]:
    """Return mean bpp and mean per-image PSNR for each setting."""
    rows = []
    for setting in settings:
        rates, distortions, started = [], [], time.perf_counter()
        for path in files:
            picture = codec.read(path)
            data = encode(picture, setting)
            rates.append(bits_per_pixel(len(data), picture.width, picture.height))
            distortions.append(codec.psnr_of(decode(data), picture))
        seconds = (time.perf_counter() - started) / len(files)
        rows.append({"setting": setting, "bpp": np.mean(rates), "psnr": np.mean(distortions), "seconds": seconds})
        print(f"  {setting!s:>5} {rows[-1]['bpp']:.4f} bpp {rows[-1]['psnr']:.3f} dB {seconds:.2f} s", flush=True)
    return rows


def anchor_curve(files: list[Path], kind: str) -> list[dict]:
    """Return the curve of one of Pillow's encoders."""
    encode = lambda picture, quality: pillow_bytes(Image.fromarray(picture.samples), kind, quality)
    return curve(files, list(ANCHORS[kind][1]), encode, codec.read)


def columns(rows: list[dict]) -> tuple[list[float], list[float]]:
    return [row["bpp"] for row in rows], [row["psnr"] for row in rows]


def measure_rd(args: argparse.Namespace) -> None:
    """Curves of models and anchors, BD-rates, and the comparison with published WaLLoC."""
    files = photographs(args.folder)[:: args.every]
    curves = {}
    for kind in [] if args.no_anchors else ANCHORS:
        print(kind, ANCHORS[kind][0])
        curves[kind] = anchor_curve(files, kind)
    for model in args.models:
        for effort in args.efforts:
            name = f"{model} -e {effort}"
            print(name)
            encode = lambda p, q, m=model, e=effort: codec.encode(p, model=m, quality=q, effort=e)
            curves[name] = curve(files, args.qualities, encode, codec.decode)
    print("\nBD-rate in % (PSNR, mean over images), negative: fewer bits")
    names = list(curves)
    for name in names:
        cells = []
        for other in names:
            try:
                cells.append(f"{bd_rate(*columns(curves[other]), *columns(curves[name])).value:+.1f} vs {other}")
            except codec.errors.RateError as exc:
                cells.append(f"n/a vs {other} ({exc})")
        print(f"{name}: " + "; ".join(cells))
    for name, rows in curves.items():
        published = WALLOC.get(name.split(" ")[0])
        if published:
            try:
                ours = rate_at(*columns(rows), published[1])
                saved = 100 * (ours / published[0] - 1)
                print(f"{name} at {published[1]} dB: {ours:.3f} bpp, published {published[0]}, {saved:+.1f} %")
            except codec.errors.RateError as exc:
                print(f"{name}: {exc}")
    if args.json:
        args.json.write_text(json.dumps(curves, indent=1, default=float))


def interleaved(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each job, run in turn after one warm-up each."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for i in range(rounds + 1):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            if i:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def measure_speed(args: argparse.Namespace) -> None:
    """Library call against library call on the whole set, pixels to file bytes and back."""
    files = photographs(args.folder)
    pillow = [Image.open(path).convert("RGB") for path in files]
    pixels = sum(p.width * p.height for p in pillow)
    jobs: dict[str, Callable[[], object]] = {
        "avif speed 6 encode": lambda: [pillow_bytes(p, "AVIF", args.avif_quality) for p in pillow]
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
    models = {"nargs": "+", "default": ["walloc-12", "walloc-48"]}
    rd = commands.add_parser("rd")
    rd.add_argument("folder", type=Path)
    rd.add_argument("--models", **models)
    rd.add_argument("--efforts", type=int, nargs="+", default=[1])
    rd.add_argument("--qualities", type=float, nargs="+", default=QUALITIES)
    rd.add_argument("--every", type=int, default=1, help="take every n-th image only")
    rd.add_argument("--threads", type=int, default=THREADS)
    rd.add_argument("--no-anchors", action="store_true")
    rd.add_argument("--json", type=Path, help="also write the curves there")
    rd.set_defaults(run=measure_rd)
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
    torch.set_num_threads(getattr(args, "threads", THREADS))
    args.run(args)


if __name__ == "__main__":
    main()
