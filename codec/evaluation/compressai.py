"""CompressAI in an evaluation: as a system in our files, and as a peer with its own coder and header.

    compressai:arch=mbt2018-mean,checkpoint=a.pth.tar,b.pth.tar       our container, frozen integer tables
    compressai-peer:arch=mbt2018-mean,checkpoint=a.pth.tar            its compress() and decompress()

Checkpoints are the points of one curve. The peer's file has the header that CompressAI's own example codec writes
(examples/codec.py), and its pictures are padded as there; decoded samples are rounded, where that example truncates,
which costs it half a level. Published checkpoints are not part of this package.
"""

from __future__ import annotations

import hashlib
import struct
import tempfile
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codec import checkpoint as models
from codec import foreign
from codec.errors import CorruptError
from codec.evaluation.codecs import Codec, Option, family, one_of, text
from codec.media.image import Image

if TYPE_CHECKING:
    from torch import nn

    from codec.system import System

_HEADER = struct.Struct(">2B2IB2II")  # model, parameters, height, width, bit depth, latent height and width, strings
_LENGTH = struct.Struct(">I")
_PADDING = 64  # pixels: sides are padded to multiples of it
_OPTIONS = {
    "arch": Option("architecture, e.g. mbt2018-mean", text),
    "checkpoint": Option("file of weights", text, spans=True),
}


@family(
    kind="model", options=_OPTIONS | {"device": Option("where networks run", one_of("auto", "cpu", "cuda"), ("auto",))}
)
def system(options: dict[str, str]) -> Codec:
    """A checkpoint of CompressAI in .lcb files."""
    from codec import container
    from codec.engine import images, units
    from codec.params import unpack

    path, arch = Path(options["checkpoint"]), options["arch"]
    info, loaded = _imported(path, arch, options["device"], path.stat().st_mtime_ns)

    def parse(data: bytes) -> tuple[container.Container, dict]:
        parsed = container.parse(data)
        return parsed, unpack(parsed.params)

    def estimate(data: bytes) -> float:
        parsed, params = parse(data)
        return units.estimate_bits(units.decode_symbols(parsed, loaded, params), params, loaded) / 8

    return Codec(
        f"{info.system} version {info.version}, {arch}, model {info.digest[:16]}",
        {"arch": arch, "checkpoint": path.name},
        lambda image: images.encode(image, info, loaded, quality=0),
        lambda data: images.decode(*parse(data), loaded),
        estimate,
    )


@lru_cache(maxsize=8)
def _imported(path: Path, arch: str, device: str, _changed: int) -> tuple[models.ModelInfo, System]:
    from codec.models.compressai import import_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        info = import_checkpoint(path, arch, Path(folder) / path.name.partition(".")[0])
        return info, models.load(info, device)


@family(kind="peer", options=_OPTIONS)
def peer(options: dict[str, str]) -> Codec:
    """A network of CompressAI with its own entropy coder, on the CPU."""
    path, arch = Path(options["checkpoint"]), options["arch"]
    network = _network(path, arch, path.stat().st_mtime_ns)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Codec(
        f"compressai {metadata.version('compressai')}, {arch}, checkpoint {digest[:16]}",
        {"arch": arch, "checkpoint": path.name, "padding": _PADDING},
        lambda image: _compress(network, image),
        lambda data: _decompress(network, data),
    )


@lru_cache(maxsize=8)
def _network(path: Path, arch: str, _changed: int) -> nn.Module:
    return foreign.load_network(path, arch)


def _compress(network: nn.Module, image: Image) -> bytes:
    """Return the file CompressAI's example codec would write; its model number holds the number of channels."""
    import torch
    from compressai.ops import compute_padding
    from torch.nn import functional

    height, width, channels = image.samples.shape
    depth = 8 * image.samples.itemsize
    x = torch.from_numpy(image.samples.astype(np.float32) / (2**depth - 1)).permute(2, 0, 1)[None].expand(-1, 3, -1, -1)
    padding, _ = compute_padding(height, width, min_div=_PADDING)
    with torch.no_grad():
        coded = network.compress(functional.pad(x, padding))
    strings = [string for (string,) in coded["strings"]]
    head = _HEADER.pack(channels, 0, height, width, depth, *coded["shape"], len(strings))
    return head + b"".join(_LENGTH.pack(len(string)) + string for string in strings)


def _decompress(network: nn.Module, data: bytes) -> Image:
    """Return the picture of a file by `_compress`.

    Raises:
        CorruptError: it is cut short. CompressAI notices no other damage.
    """
    import torch
    from compressai.ops import compute_padding
    from torch.nn import functional

    strings, offset = [], _HEADER.size
    try:
        channels, _, height, width, depth, rows, cols, count = _HEADER.unpack_from(data)
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(data, offset)
            strings.append([data[offset + _LENGTH.size : offset + _LENGTH.size + length]])
            offset += _LENGTH.size + length
    except struct.error as exc:
        raise CorruptError("the file of CompressAI ends too early") from exc
    if offset != len(data):
        raise CorruptError("the file of CompressAI does not end where its header says")
    with torch.no_grad():
        x = network.decompress(strings, (rows, cols))["x_hat"]
    _, crop = compute_padding(height, width, min_div=_PADDING)
    x = functional.pad(x, crop)[0]
    if channels == 1:
        x = x.mean(0, keepdim=True)
    samples = x.mul(2**depth - 1).round().permute(1, 2, 0).numpy()
    return Image(samples.astype(np.uint16 if depth == 16 else np.uint8))
