"""Add a conformance stream: `python bitstreams/add.py NAME SIGNAL [--model M] [--quality Q]`. Never replaces one.

SIGNAL is a picture, a sound or a video; of a video, --group says how many frames make a unit.

The stream is coded with the network in `models/M-conformance`, which never changes. Encoders may change as they like;
what is recorded is what this stream decodes to.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
os.environ["CODEC_MODELS"] = str(HERE / "models")
# Levels of the sample range. Float synthesis differs between processors: bfloat16 against float32 gives most of it.
TOLERANCE = {
    ("image", 8): {"largest": 4, "mean": 0.25},
    ("image", 16): {"largest": 1024, "mean": 64},
    ("audio", 16): {"largest": 256, "mean": 24},
    ("video", 8): {"largest": 4, "mean": 0.25},
    ("video", 10): {"largest": 16, "mean": 1},
    ("audio", 24): {"largest": 256, "mean": 24},  # compared with 16 bits
}
PROBABILITIES = {"largest": 0.01, "mean": 0.005}  # of streams that serve a task
SUFFIXES = {"image": "png", "audio": "flac", "video": "y4m"}


def main() -> None:
    import codec

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("signal", type=Path)
    parser.add_argument("--model", default="walloc")
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--group", type=int)
    args = parser.parse_args()
    catalogue = HERE / "conformance.json"
    entries = json.loads(catalogue.read_text()) if catalogue.exists() else []
    stream = HERE / f"{args.name}.lcb"
    if stream.exists():
        raise SystemExit(f"{stream} exists: conformance streams are for ever")
    model = f"{args.model}-conformance"
    stream.write_bytes(codec.encode(args.signal, model=model, quality=args.quality, group=args.group))
    opened = codec.open(stream)
    decoded, tolerance = _record(opened, args.name)
    entry = {"stream": stream.name, "signal": decoded.name, "symbols": opened.symbols_digest()}
    entries.append(entry | {"tolerance": tolerance})
    catalogue.write_text(json.dumps(entries, indent=1) + "\n")


def _record(stream: Any, name: str) -> tuple[Path, dict[str, float]]:
    """Write what a stream decodes to; return the file and how far decoders may differ from it."""
    import codec
    from codec.errors import NoSignalError

    try:
        signal = stream.decode()
    except NoSignalError:
        path = HERE / f"{name}.json"
        path.write_text(json.dumps({"probabilities": stream.predict().probabilities}, indent=1) + "\n")
        return path, PROBABILITIES
    path = HERE / f"{name}.{SUFFIXES[stream.kind]}"
    with path.open("wb") as file:
        codec.write(signal, file, path.suffix[1:])
    return path, TOLERANCE[stream.kind, stream.info.bit_depth]


if __name__ == "__main__":
    main()
