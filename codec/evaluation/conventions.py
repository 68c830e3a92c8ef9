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
from codec.evaluation.medium import Medium, medium_called
from codec.evaluation.results import Curve, Row
from codec.evaluation.summary import Selection, originals_of


def conventions(how: How, curves: Sequence[Curve], *, workers: int, threads: int) -> dict[str, str]:
    """Return heading -> text."""
    medium = medium_called(how.media)
    own = dict(medium.conventions)
    texts = {
        "Data": f"{own.pop('Data')} All means are over the same files: one that any codec here could not code counts "
        "for none, and where a metric is not defined for what one codec made of a file, no mean of it has this file.",
        "Rate": own.pop("Rate"),
        "psnr": f"Mean over files of the PSNR of each: {medium.metrics['psnr'].how}. Lossless codecs have none.",
    }
    for name in how.metrics:
        if name not in metrics.ALWAYS:
            texts[name] = f"Mean over files; {medium.metrics[name].how}."
    if how.task:
        texts[how.task.name] = (
            f"Mean over files of the score, in percent, that {Path(how.task.path).name} gives to what it predicts from "
            "each decoded file; files of models that serve this task are scored by their own predictions, and their "
            "seconds to decode are those to a prediction. The same of the originals is the mark to keep to."
        )
    seconds = own.pop("Seconds")
    texts |= {name: text for name, text in own.items() if _applies(name, how, medium)}
    texts |= {
        "BD-rate": "Mean difference of log rate over the common range of the metric, in percent of the anchor's rate; "
        "BD-PSNR the mean difference of the metric over the common range of log rate. Piecewise cubic Hermite "
        "interpolation (pchip), at least four points a curve, mean points over all files; overlap is the share of the "
        "anchor's range that both cover, and below 50 % the value says little.",
        "Seconds": f"{seconds} Wall clock, median of {how.repeat} runs after one warm-up of each codec in each "
        f"process; mean over files. {_processes(workers, threads)}",
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


def _applies(name: str, how: How, medium: Medium) -> bool:
    """Say whether a derived metric was made of one that was measured; other headings always apply."""
    return name not in medium.derived or medium.derived[name].of in how.metrics


def facts(
    how: How, rows: Sequence[Row], selection: Selection, *, data: Sequence[str], workers: int, threads: int
) -> dict[str, Any]:
    """Return label -> value: data, machine, versions and what went wrong."""
    medium = medium_called(how.media)
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
    if how.task:
        found["task"] = f"{how.task.path}, SHA-256 {how.task.digest}"
        found["originals"] = f"{how.task.name} {originals_of(selection, how.task)[how.task.name]:.1f} %"
    for name in how.metrics:
        undefined = {row.file for row in rows if not row.error and name not in metrics.ALWAYS
                     and row.metrics.get(name, 0) is None}  # fmt: skip
        if undefined:
            found[f"no {name}"] = f"{len(undefined)} files: {medium.metrics[name].how}"
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
    medium = medium_called(how.media)
    return {name: metadata.version(name) for name in medium.packages} | metrics.versions(how.metrics, medium)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
