"""The classical codecs, by Pillow, each at the settings it is best at rather than at Pillow's defaults.

JPEG with optimised Huffman tables and progressive scans; WebP with its slowest method; AVIF at speed 4 (Pillow's
default is 6) without autotiling, which would make sizes depend on the number of threads; JPEG 2000 with its
irreversible transforms, which Pillow leaves off, as a bare codestream; JPEG XL as a bare codestream. Nothing but pixels
goes into a file.

WebP and AVIF end at some 0.05 to 0.2 bits per pixel. Below, smaller pictures go on: with `scale=4` a picture is coded
at a quarter of its width and height and enlarged again.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module, metadata
from typing import Any

import numpy as np
import PIL
import PIL.Image
from PIL import features

from codec.errors import MediaError, MissingPackageError
from codec.evaluation.codecs import Codec, Option, family, one_of, real, whole
from codec.media import image as media
from codec.media.image import Image

_SUBSAMPLING = ("4:2:0", "4:2:2", "4:4:4")
_MAX_SCALE = 16  # what a nibble says of the size
_SCALE = Option("reduction of width and height", whole(1, _MAX_SCALE), ("1",))


def _quality(low: int, high: int, *default: int) -> Option:
    return Option("quality", whole(low, high), tuple(map(str, default)), spans=True)


def _version(name: str, feature: str) -> str:
    version = features.version(feature)
    if version is None:
        raise MissingPackageError(f"this Pillow has no {name}; pip install --upgrade pillow")
    return f"{name} {version} (Pillow {PIL.__version__})"


def _pillow(version: str, kind: str, options: dict[str, Any], decode: Callable[[bytes], Image] | None = None) -> Codec:
    """Return a codec that saves with some options and opens again."""

    def encode(image: Image) -> bytes:
        out = io.BytesIO()
        picture = media.to_pillow(image)
        keywords = options if picture.mode == "RGB" else _for_gray(options)
        try:
            picture.save(out, kind, **keywords)
        except (OSError, ValueError) as exc:
            raise MediaError(f"{kind} cannot encode {image!r} ({exc})") from exc
        return out.getvalue()

    return Codec(version, options, encode, decode or media.read)


def _reduced(codec: Codec, scale: int) -> Codec:
    """Return a codec for pictures `scale` times smaller that enlarges what it decodes; itself where that is 1.

    A byte in front of the file says by how many columns and rows the enlarged picture is too large, a nibble each.
    """
    if scale == 1:
        return codec

    def encode(image: Image) -> bytes:
        size = -(-image.width // scale), -(-image.height // scale)
        small = media.to_pillow(image).resize(size, PIL.Image.Resampling.LANCZOS)
        return bytes([-image.width % scale << 4 | -image.height % scale]) + codec.encode(media.read(small))

    def decode(data: bytes) -> Image:
        small = media.to_pillow(codec.decode(data[1:]))
        width, height = small.width * scale, small.height * scale
        samples = np.asarray(small.resize((width, height), PIL.Image.Resampling.BICUBIC))
        part = samples[: height - (data[0] & 15), : width - (data[0] >> 4)]
        return media.read(np.ascontiguousarray(part))

    options = {**codec.options, "scale": f"1/{scale}, Lanczos and bicubic"}
    return replace(codec, options=options, encode=encode, decode=decode)


def _for_gray(options: dict[str, Any]) -> dict[str, Any]:
    """Leave out what concerns colour only."""
    return {key: value for key, value in options.items() if key not in ("mct", "subsampling")}


@family(
    kind="anchor",
    options={
        "q": _quality(0, 100, 5, 10, 25, 50, 75, 90),
        "subsampling": Option("chroma", one_of(*_SUBSAMPLING), ("4:2:0",)),
        "scans": Option("scans", one_of("many", "one"), ("many",)),
    },
)
def jpeg(options: dict[str, str]) -> Codec:
    """JPEG by libjpeg-turbo; one scan makes smaller files of small pictures."""
    chosen = {
        "quality": int(options["q"]),
        "subsampling": options["subsampling"],
        "optimize": True,
        "progressive": options["scans"] == "many",
    }
    return _pillow(_version("libjpeg-turbo", "libjpeg_turbo"), "JPEG", chosen)


@family(
    kind="anchor",
    options={
        "q": _quality(0, 100, 1, 20, 40, 60, 80, 95),
        "method": Option("effort", whole(0, 6), ("6",)),
        "scale": _SCALE,
    },
)
def webp(options: dict[str, str]) -> Codec:
    """WebP, lossy; it has 4:2:0 only."""
    chosen = {"quality": int(options["q"]), "method": int(options["method"])}
    return _reduced(_pillow(_version("libwebp", "webp"), "WEBP", chosen), int(options["scale"]))


@family(
    kind="anchor",
    options={
        "q": _quality(0, 100, 20, 35, 50, 60, 70, 80),
        "speed": Option("10 is fastest", whole(0, 10), ("4",)),
        "subsampling": Option("chroma", one_of(*_SUBSAMPLING), ("4:4:4",)),
        "scale": _SCALE,
    },
)
def avif(options: dict[str, str]) -> Codec:
    """AVIF by libavif with the AV1 encoder it was built with."""
    import torch

    chosen = {
        "quality": int(options["q"]),
        "speed": int(options["speed"]),
        "subsampling": options["subsampling"],
        "autotiling": False,
        "max_threads": torch.get_num_threads(),
    }
    whole_size = _pillow(f"{_version('libavif', 'avif')}{_av1_versions()}", "AVIF", chosen)
    return _reduced(whole_size, int(options["scale"]))


def _av1_versions() -> str:
    """Return the AV1 codecs in this Pillow, which decide more than libavif does; empty where it does not tell."""
    from PIL import _avif

    return f" with {_avif.codec_versions()}" if hasattr(_avif, "codec_versions") else ""


@family(
    kind="anchor",
    options={
        "q": Option("dB, or compression ratio", real(1, 1000), ("26", "29", "32", "35", "38", "42"), spans=True),
        "mode": Option("what q is", one_of("dB", "rates"), ("dB",)),
    },
)
def jpeg2000(options: dict[str, str]) -> Codec:
    """JPEG 2000 by OpenJPEG, 9/7 wavelet, with its colour transform, one layer."""
    chosen = {
        "quality_mode": options["mode"],
        "quality_layers": [float(options["q"])],
        "irreversible": True,
        "mct": 1,
        "no_jp2": True,
    }
    return _pillow(_version("OpenJPEG", "jpg_2000"), "JPEG2000", chosen)


@family(kind="anchor", options={"level": Option("zlib level", whole(0, 9), ("9",))})
def png(options: dict[str, str]) -> Codec:
    """PNG, lossless; `optimize` looks for the best filter and strategy."""
    chosen = {"optimize": True, "compress_level": int(options["level"])}
    return _pillow(_version("zlib-ng", "zlib_ng"), "PNG", chosen)


@family(kind="anchor", options={"effort": Option("compression effort", whole(0, 100), ("100",))})
def webp_lossless(options: dict[str, str]) -> Codec:
    """WebP, lossless."""
    chosen = {"lossless": True, "quality": int(options["effort"]), "method": 6, "exact": True}
    return _pillow(_version("libwebp", "webp"), "WEBP", chosen)


_JXL_EFFORT = Option("compression effort", whole(1, 9), ("7",))


@family(
    kind="anchor",
    options={
        "q": Option("quality", real(0, 99.99), ("10", "30", "50", "70", "85", "95"), spans=True),
        "effort": _JXL_EFFORT,
    },
)
def jxl(options: dict[str, str]) -> Codec:
    """JPEG XL, lossy, by the plugin pillow-jxl-plugin."""
    return _jxl({"quality": float(options["q"]), "effort": int(options["effort"])})


@family(kind="anchor", options={"effort": _JXL_EFFORT})
def jxl_lossless(options: dict[str, str]) -> Codec:
    """JPEG XL, lossless."""
    return _jxl({"lossless": True, "effort": int(options["effort"])})


def _jxl(options: dict[str, Any]) -> Codec:
    import torch

    try:
        plugin = import_module("pillow_jxl.JpegXLImagePlugin")
    except ImportError as exc:
        raise MissingPackageError("JPEG XL needs a plugin; pip install pillow-jxl-plugin") from exc
    plugin.DECODE_THREADS = torch.get_num_threads()
    version = f"libjxl in pillow-jxl-plugin {metadata.version('pillow-jxl-plugin')} (Pillow {PIL.__version__})"
    return _pillow(version, "JXL", {**options, "num_threads": torch.get_num_threads()})
