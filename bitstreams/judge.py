"""Judge a decoder by the conformance streams, through the command line.

    python bitstreams/judge.py [--decoder codec]

For each stream: `DECODER inspect --check --json` must report the recorded digest of the symbols, bit for bit, and
`DECODER decode -o OUT.png` (of sound OUT.flac, of video OUT.y4m) must give the recorded signal within the tolerance of
conformance.json (largest and mean difference in levels of the sample range). Of streams that serve a task,
`DECODER predict --json` must give the recorded probabilities within it. Exit code 0 if all pass.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent


def judge(entry: dict, decoder: list[str], folder: Path) -> str | None:
    """Return what is wrong with one stream, or None."""
    environment = os.environ | {"CODEC_MODELS": str(HERE / "models")}
    stream, expected = HERE / entry["stream"], HERE / entry["signal"]
    result = subprocess.run([*decoder, "inspect", "--check", "--json", stream], capture_output=True, env=environment)
    if result.returncode:
        return f"inspect exits with {result.returncode}: {result.stderr.decode().strip()}"
    symbols = json.loads(result.stdout)["symbols"]
    if symbols != entry["symbols"]:
        return f"symbols {symbols[:16]} instead of {entry['symbols'][:16]}"
    out = folder / f"out{expected.suffix}"
    task = expected.suffix == ".json"
    work = ["predict", "--json", stream] if task else ["decode", "-f", stream, "-o", out]
    result = subprocess.run([*decoder, *work], capture_output=True, env=environment)
    if result.returncode:
        return f"{work[0]} exits with {result.returncode}: {result.stderr.decode().strip()}"
    if task:
        out.write_bytes(result.stdout)
    (form, decoded), (wanted, levels) = _read(out), _read(expected)
    if form != wanted or decoded.shape != levels.shape:
        return f"the signal is {form} {decoded.shape} instead of {wanted} {levels.shape}"
    difference = np.abs(decoded - levels)
    largest, mean = float(difference.max(initial=0)), float(difference.mean()) if difference.size else 0.0
    if largest > entry["tolerance"]["largest"] or mean > entry["tolerance"]["mean"]:
        return f"the signal differs by up to {largest:g}, {mean:.4f} on average; allowed {entry['tolerance']}"
    return None


def _read(path: Path) -> tuple[str, np.ndarray]:
    """Return the form of a signal in words, and its samples; those of the planes of video one after another.

    The samples of a prediction are its probabilities, in the order of the classes' names.
    """
    if path.suffix == ".json":
        shares = json.loads(path.read_text())["probabilities"]
        return ", ".join(sorted(shares)), np.array([shares[name] for name in sorted(shares)])
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return picture.mode, np.asarray(picture, np.int64)
    with av.open(path) as file:
        if file.streams.video:
            stream = file.streams.video[0]
            form = f"{stream.width}x{stream.height} {stream.format.name}, {stream.average_rate} a second"
            planes = [plane for frame in file.decode(stream) for plane in _planes(frame)]
            return form, np.concatenate(planes).astype(np.int64)
        stream = file.streams.audio[0]
        form = f"{stream.rate} Hz {stream.layout.name} {stream.format.name}"
        blocks = [frame.to_ndarray() for frame in file.decode(stream)]
    empty = np.zeros((1, 0))
    return form, np.concatenate(blocks or [empty], 1).astype(np.int64) >> (16 if "32" in form else 0)


def _planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """Return the samples of the planes of a frame, without what fills up their lines."""
    out, size = [], 2 if "10" in frame.format.name else 1
    for plane in frame.planes:
        lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width * size]
        out.append(np.ascontiguousarray(lines).view(f"<u{size}").ravel())
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", default="codec", help="command to run, with its options")
    decoder = shlex.split(parser.parse_args().decoder)
    entries = json.loads((HERE / "conformance.json").read_text())
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for entry in entries:
            problem = judge(entry, decoder, Path(folder))
            failed += problem is not None
            print(f"{entry['stream']}: {problem or 'ok'}")
    print(f"{len(entries) - failed} of {len(entries)} streams pass")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
