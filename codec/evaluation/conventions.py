"""How the numbers of an evaluation were obtained, in words, to the point where a stranger can repeat them."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from codec.evaluation import metrics
from codec.evaluation.measure import How
from codec.evaluation.results import Curve, Row
from codec.evaluation.summary import Selection

_PACKAGES = ("codec", "torch", "numpy", "pillow")


def conventions(how: How, curves: Sequence[Curve], *, workers: int, threads: int) -> dict[str, str]:
    """Return heading -> text."""
    texts = {
        "Data": "Every codec gets the same pixels in memory: the file read upright (EXIF rotation applied), without "
        "alpha, colour profile or other metadata, with its own bit depth and channels. All means are over the same "
        "files: one that any codec here could not code counts for none.",
        "Rate": "Bits per pixel: 8 x size of the whole file / (width x height), header included; mean over files.",
        "psnr": f"Mean over files of the PSNR of each: {metrics.METRICS['psnr'].how}. Lossless codecs have none.",
        "psnr-of-mean-mse": "PSNR of the mean over files of the MSE; it weighs hard files more and is lower.",
    }
    for name in how.metrics:
        if name not in metrics.ALWAYS:
            texts[name] = f"Mean over files; {metrics.METRICS[name].how}."
    if "ms-ssim" in how.metrics:
        texts["ms-ssim-db"] = "-10 log10(1 - mean MS-SSIM): of the mean, not the mean of dB."
    texts |= {
        "BD-rate": "Mean difference of log rate over the common range of the metric, in percent of the anchor's rate; "
        "BD-PSNR the mean difference of the metric over the common range of log rate. Piecewise cubic Hermite "
        "interpolation (pchip), at least four points a curve, mean points over all files; overlap is the share of the "
        "anchor's range that both cover, and below 50 % the value says little.",
        "Seconds": f"Pixels in memory to the bytes of the file in memory, and back; wall clock, median of {how.repeat} "
        "runs after one warm-up of each codec in each process; mean over files. "
        + _processes(workers, threads)
        + " Codecs of Pillow other than AVIF and JPEG XL use one thread whatever is allowed.",
        "Memory": "Peak resident bytes of the whole Python process while it encodes or decodes (VmHWM, reset before), "
        "libraries, weights and the original included; the largest of the files. Compare differences, not ratios.",
    }
    if any(curve.kind == "model" for curve in curves):
        texts["Estimated bytes"] = (
            "In results.jsonl and results.csv: what the entropy model (RateMeter) assigns to the symbols in the file, "
            "container left out. Never used as a rate."
        )
    if any(curve.kind == "published" for curve in curves):
        texts["Published curves"] = (
            "Read from a file that others' results were collected in, not run here; on their data, which has to be the "
            "same for a comparison to mean anything, and with their conventions, which the curve's description has."
        )
    return texts


def facts(
    how: How, rows: Sequence[Row], selection: Selection, *, data: Sequence[str], workers: int, threads: int
) -> dict[str, Any]:
    """Return label -> value: data, machine, versions and what went wrong."""
    found: dict[str, Any] = {
        "data": [Path(place).resolve().name for place in data],
        "files": len(selection.files),
        "processes and threads": _processes(workers, threads),
        "timed runs": how.repeat,
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {version}" for name, version in _versions(how).items()),
    }
    for name, file in how.weights.items():
        found[f"network of {name}"] = f"{file}, SHA-256 {hashlib.sha256(Path(file).read_bytes()).hexdigest()}"
    for name in how.metrics:
        undefined = {row.file for row in rows if not row.error and name not in metrics.ALWAYS
                     and row.metrics.get(name) is None}  # fmt: skip
        if undefined:
            found[f"no {name}"] = f"{len(undefined)} files: {metrics.METRICS[name].how}"
    if failures := describe_failures(selection):
        found["failures"] = failures
    return found


def describe_failures(selection: Selection) -> list[str]:
    """Return one line for each file and each setting that no mean has."""
    lines = [f"{file} counts for no codec ({reason})" for file, reason in selection.left_out.items()]
    for (curve, setting), reason in selection.failed.items():
        lines.append(f"{f'{curve} {setting}'.strip()} has no point ({reason})")
    return lines


def _processes(workers: int, threads: int) -> str:
    each = f"{threads} thread{'s' * (threads > 1)}"
    if workers == 1:
        return f"One process, {each}."
    return f"{workers} processes at a time, {each} each: they slow each other down, so seconds are not comparable."


def _versions(how: How) -> dict[str, str]:
    return {name: metadata.version(name) for name in _PACKAGES} | metrics.versions(how.metrics)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
