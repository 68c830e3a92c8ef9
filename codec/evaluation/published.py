"""Curves that others published, to lay over our own. They are read, never run.

The file is a JSON object: name -> `bpp` and `psnr_rgb`, and where known `psnr_rgb_from_mean_mse`, `ms_ssim_rgb`,
`ms_ssim_db_rgb`, `encoding_time_s`, `decoding_time_s` (lists of the same length), `label`, `averaging`, `source`. Of
sound, `kbps` and metrics under our names (`psnr`, `pesq`) stand for the first five.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codec.errors import MediaError
from codec.evaluation.medium import Medium
from codec.evaluation.results import Curve, Point
from codec.evaluation.scales import finite


def parse_published(text: str) -> tuple[str, list[str]]:
    """Split `FILE:name,...` into the file and the names; a colon inside the name of the file is no trouble.

    Raises:
        MediaError: there is no such file.
    """
    path, _, names = text.rpartition(":")
    if path and Path(path).is_file():
        return path, [name for name in names.split(",") if name]
    if not Path(text).is_file():
        raise MediaError(f"{path or text}: there is no such file of published curves")
    return text, []


def load_published(path: str, names: Sequence[str], medium: Medium) -> list[Curve]:
    """Return curves of a file by their names in it.

    Raises:
        MediaError: the file does not hold curves.
        ValueError: no names, or unknown ones; the message has those that exist, or the nearest.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise MediaError(f"{path}: not a JSON file of curves ({exc})") from exc
    if not isinstance(found, dict):
        raise MediaError(f"{path}: not a JSON object of curves by name")
    if not names:
        raise ValueError(f"choose curves, --published {path}:NAME,...; it has {', '.join(found)}")
    for name in names:
        if name not in found:
            near = [key for key in found if name in key] or difflib.get_close_matches(name, found, 5, 0.4) or found
            raise ValueError(f"{path} has no curve {name!r}; perhaps {', '.join(list(near)[:12])}")
    try:
        return [_curve(name, found[name], medium) for name in names]
    except (KeyError, TypeError, ValueError, IndexError) as exc:
        wanted = f"{medium.rate.name} and {next(iter(medium.published))}"
        raise MediaError(f"{path}: not curves of {wanted} ({exc!r})") from exc


def _curve(name: str, raw: dict[str, Any], medium: Medium) -> Curve:
    rates = raw[medium.rate.name]
    count = len(rates)

    def column(key: str) -> list[float | None]:
        values = [finite(value) for value in raw.get(key) or []]
        if values and len(values) != count:
            raise ValueError(f"{name}: {len(values)} values of {key} for {count} rates")
        return values or [None] * count

    columns = {metric: column(key) for key, metric in medium.published.items() if raw.get(key)}
    for metric, derived in medium.derived.items():
        if derived.of in columns and metric not in columns:
            columns[metric] = [None if value is None else derived.convert(value) for value in columns[derived.of]]
    encode, decode = column("encoding_time_s"), column("decoding_time_s")
    points = [
        Point(
            setting=f"point {i + 1}",
            rate=float(rates[i]),
            metrics={metric: values[i] for metric, values in columns.items()},
            encode_seconds=encode[i],
            decode_seconds=decode[i],
        )
        for i in range(count)
    ]
    facts = [raw.get("label") or name, *(str(raw[key]) for key in ("source", "averaging", "note") if raw.get(key))]
    description = "published, not run here: " + "; ".join(facts)
    return Curve(name, "published", description, tuple(sorted(points, key=lambda point: point.rate)))
