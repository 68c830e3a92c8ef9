"""Add a conformance stream: `python bitstreams/add.py NAME IMAGE [--system S] [--quality Q]`. Never replaces one.

The stream is coded with the network in `models/S-conformance`, which never changes. Encoders may change as they like;
what is recorded is what this stream decodes to.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
os.environ["CODEC_MODELS"] = str(HERE / "models")
# Levels of the sample range. Float synthesis differs between processors: bfloat16 against float32 gives most of it.
TOLERANCE = {8: {"largest": 4, "mean": 0.25}, 16: {"largest": 1024, "mean": 64}}


def main() -> None:
    import codec

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("image", type=Path)
    parser.add_argument("--system", default="walloc")
    parser.add_argument("--quality", type=float, default=50)
    args = parser.parse_args()
    catalogue = HERE / "conformance.json"
    entries = json.loads(catalogue.read_text()) if catalogue.exists() else []
    stream, picture = HERE / f"{args.name}.lcb", HERE / f"{args.name}.png"
    if stream.exists():
        raise SystemExit(f"{stream} exists: conformance streams are for ever")
    stream.write_bytes(codec.encode(args.image, model=f"{args.system}-conformance", quality=args.quality))
    opened = codec.open(stream)
    with picture.open("wb") as file:
        codec.write(opened.decode(), file, "png")
    entries.append(
        {
            "stream": stream.name,
            "picture": picture.name,
            "symbols": opened.symbols_digest(),
            "tolerance": TOLERANCE[opened.info.bit_depth],
        }
    )
    catalogue.write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main()
