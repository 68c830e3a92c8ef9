"""Fuzz the decoder: `python tests/fuzz.py [--seconds 600] [--seed N]`.

Damages the conformance streams in every way we can think of: flips, cuts, splices, and, with checksums put right again,
forged parameters and payloads. Anything but a picture or a `CodecError` is a bug, printed with what reproduces it;
so is a decode that takes longer than ten seconds. Exit code 1 if there was one.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
os.environ["CODEC_MODELS"] = str(ROOT / "bitstreams" / "models")

import codec  # noqa: E402
from codec import container  # noqa: E402
from codec.errors import CodecError  # noqa: E402
from codec.params import pack, unpack  # noqa: E402

SLOW = 10.0  # seconds
LIMITS = {"max_pixels": 1 << 22, "max_memory": 1 << 28}


def flip(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))] + rng.randbytes(rng.choice([0, 0, 7, 100]))


def splice(data: bytes, rng: random.Random) -> bytes:
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    return rng.choice([data[:a] + data[b:], data[:b] + data[a:], data[:a] + rng.randbytes(b - a) + data[b:]])


def forge(data: bytes, rng: random.Random) -> bytes:
    """Change what is inside and put the checksums right."""
    parsed = container.parse(data)
    values = unpack(parsed.params)
    field = rng.choice([name for name, value in values.items() if isinstance(value, int)])
    values[field] = rng.choice([0, 1, 2, 7, 255, 1023, 1024, 1500, 1 << 20, (1 << 31) - 1, rng.randrange(1, 5000)])
    try:
        params = pack(values)
    except (ValueError, LookupError):  # out of range, or of another kind
        params = flip(parsed.params, rng)
    units = [
        replace(unit, payload=rng.choice([flip(unit.payload or b"x", rng), rng.randbytes(50), b"", unit.payload]))
        for unit in parsed.units
    ]
    units = rng.choice([units, units * 2, units[:1]])
    return replace(parsed, params=rng.choice([params, parsed.params]), units=units).pack()


def look(data: bytes, rng: random.Random) -> None:
    """Decode as one does, or with all that helps against damage."""
    stream = codec.open(data, tolerant=rng.random() < 0.5, **LIMITS)
    stream.decode(repair="repair" in stream.remedies())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.randrange(1 << 30)
    streams = [path.read_bytes() for path in sorted((ROOT / "bitstreams").glob("*.lcb"))]
    started, count, decoded, bugs = time.time(), 0, 0, 0
    while time.time() - started < args.seconds:
        case = seed + count
        rng = random.Random(case)
        data = rng.choice([flip, cut, splice, forge])(rng.choice(streams), rng)
        before = time.time()
        try:
            look(data, rng)
            decoded += 1
        except CodecError:
            pass
        except BaseException as exc:
            if isinstance(exc, KeyboardInterrupt):
                break
            bugs += 1
            print(f"--seed {case}: {type(exc).__name__}: {exc}")
        if time.time() - before > SLOW:
            bugs += 1
            print(f"--seed {case}: took {time.time() - before:.1f} s")
        count += 1
    print(f"{count} streams from seed {seed}: {decoded} decoded, {count - decoded - bugs} refused, {bugs} bugs")
    return 1 if bugs else 0


if __name__ == "__main__":
    sys.exit(main())
