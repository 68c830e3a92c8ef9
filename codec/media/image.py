"""Image files to and from `Image` values, by Pillow.

What a value holds is what a system codes: upright samples, 8 or 16 bits, one or three channels. Everything else in
the file is either carried beside it without loss (alpha, ICC, EXIF, XMP) or refused by name. Nothing is dropped
silently.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL.Image
from PIL import ImageOps

from codec.errors import LimitError, MediaError
from codec.limits import MAX_PIXELS

_DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
_OPENING = threading.Lock()  # Pillow's size limit is a global
_ORIENTATION = 0x0112
_TIFF_XMP = 700
_TIFF_DESCRIPTIVE = (270, 271, 272, 305, 306, 315, 33432, _ORIENTATION)  # description, make, ..., copyright
_EXIF_DIRECTORIES = (0x8769, 0x8825)  # Exif, GPS
_TO_MODE = {  # Pillow mode -> mode that loses nothing and that we carry
    "1": "L", "L": "L", "LA": "LA", "La": "LA", "RGB": "RGB", "RGBA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB",
    "YCbCr": "RGB", "P": "RGB", "PA": "RGBA", "I;16": "I;16", "I;16B": "I;16", "I;16L": "I;16", "I;16N": "I;16",
}  # fmt: skip


@dataclass(frozen=True)
class Image:
    """A picture.

    Attributes:
        samples: [H, W, 1 or 3] uint8 or uint16, upright; three channels are RGB.
        alpha: [H, W] uint8, or None.
        metadata: `icc`, `exif`, `xmp` -> raw bytes, where present.
    """

    samples: np.ndarray
    alpha: np.ndarray | None = None
    metadata: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape, dtype = self.samples.shape, self.samples.dtype
        if len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape or dtype not in (np.uint8, np.uint16):
            raise MediaError(f"an image needs samples [H, W, 1 or 3] of 8 or 16 bits, not {shape} {dtype}")
        if self.alpha is not None and (self.alpha.shape != shape[:2] or self.alpha.dtype != np.uint8):
            raise MediaError(f"alpha must be [H, W] uint8, not {self.alpha.shape} {self.alpha.dtype}")

    def __repr__(self) -> str:
        extra = "".join(f", {name}" for name in (["alpha"] if self.alpha is not None else []) + list(self.metadata))
        return f"Image({self.width}x{self.height}x{self.samples.shape[2]} {self.samples.dtype}{extra})"

    @property
    def width(self) -> int:
        return self.samples.shape[1]

    @property
    def height(self) -> int:
        return self.samples.shape[0]


def read(source: Any, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Read an image from a path, bytes, binary file, Pillow image, array or tensor.

    Arrays are [H, W] or [H, W, C] uint8 / uint16; tensors [C, H, W], uint8 or float in 0..1.

    Raises:
        MediaError: it cannot be read, or not without losing something.
        LimitError: it has more than `max_pixels` pixels.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, PIL.Image.Image):
        return _from_pillow(source, max_pixels, "image")
    if hasattr(source, "cpu"):
        return _from_tensor(source)
    name = str(source) if isinstance(source, str | os.PathLike) else "image"
    with _wrapped(name):
        file = io.BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source
        with _open(file) as opened:
            return _from_pillow(opened, max_pixels, name)


@contextmanager
def _wrapped(name: str):
    """Turn whatever Pillow raises on bad input into MediaError."""
    try:
        yield
    except (MediaError, LimitError, MemoryError, FileNotFoundError, PermissionError):
        raise
    except PIL.UnidentifiedImageError as exc:
        raise MediaError(f"{name}: not an image file that Pillow can read") from exc
    except Exception as exc:  # decoders raise almost anything on damaged files
        raise MediaError(f"{name}: cannot be read ({type(exc).__name__}: {exc})") from exc


def _open(file: Any) -> PIL.Image.Image:
    """Open an image file without decoding it, leaving its size for us to judge."""
    PIL.Image.init()
    formats = [name for name in PIL.Image.ID if name != "EPS"]  # reading EPS would run Ghostscript
    with _OPENING:
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        try:
            return PIL.Image.open(file, formats=formats)
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit


def _from_pillow(image: PIL.Image.Image, max_pixels: int, name: str) -> Image:
    if image.width * image.height > max_pixels:
        raise LimitError(f"{name}: {image.width}x{image.height} exceeds {max_pixels} pixels; raise --max-pixels")
    if 0 in image.size:
        raise MediaError(f"{name}: the image has no pixels")
    _refuse_lossy(image, name)
    metadata = _metadata(image)
    if _is_deep_png(image):
        from codec.media import deep  # loads FFmpeg

        image.fp.seek(0)
        return Image(deep.read_png(image.fp.read()), None, metadata)
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
        if "exif" in metadata:
            metadata["exif"] = image.getexif().tobytes()
    mode = _TO_MODE[image.mode]
    if "transparency" in image.info and mode in ("L", "RGB"):
        mode = "RGBA" if mode == "RGB" else "LA"
    if mode == "I;16":
        return Image(np.asarray(image).astype(np.uint16)[..., None], None, metadata)
    if image.mode in ("1", "L") and mode == "LA":
        image = image.convert("RGBA").convert("LA")
    array = np.asarray(image if image.mode == mode else image.convert(mode))
    if array.ndim == 2:
        return Image(array[..., None], None, metadata)
    if array.shape[2] in (2, 4):
        alpha = np.ascontiguousarray(array[..., -1])
        return Image(np.ascontiguousarray(array[..., :-1]), None if alpha.min() == 255 else alpha, metadata)
    return Image(array, None, metadata)


def _refuse_lossy(image: PIL.Image.Image, name: str) -> None:
    """Refuse what would be dropped: colour models we do not carry, deep colour Pillow reduces, other frames."""
    if image.mode not in _TO_MODE:
        advice = "convert it to RGB with its profile first" if image.mode in ("CMYK", "LAB") else "convert it first"
        raise MediaError(f"{name}: {image.mode} samples cannot be carried; {advice}")
    if image.mode not in _DEEP and _deep_on_disk(image) and not _is_deep_png(image):
        raise MediaError(f"{name}: 16-bit {image.format} colour would be cut to 8 bits; convert it to PNG or to 8 bits")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # the other frames of an MPO photograph are previews and depth
        raise MediaError(f"{name}: {frames} frames, only single images can be coded; extract the frame you want")


def _deep_on_disk(image: PIL.Image.Image) -> bool:
    """Tell whether the file holds more than 8 bits a sample, from the raw mode Pillow is about to convert."""
    arguments = [part for tile in getattr(image, "tile", []) for part in np.atleast_1d(np.array(tile[3], object))]
    return any(";16" in str(part) or str(part).startswith("I;") for part in arguments)


def _is_deep_png(image: PIL.Image.Image) -> bool:
    return image.format == "PNG" and image.mode in ("RGB", "RGBA") and _deep_on_disk(image)


def _metadata(image: PIL.Image.Image) -> dict[str, bytes]:
    found = {"icc": image.info.get("icc_profile"), "exif": image.info.get("exif"), "xmp": image.info.get("xmp")}
    if image.format == "TIFF":
        found |= {"exif": _tiff_exif(image), "xmp": image.tag_v2.get(_TIFF_XMP)}
    return {key: value if isinstance(value, bytes) else str(value).encode() for key, value in found.items() if value}


def _tiff_exif(image: PIL.Image.Image) -> bytes | None:
    """Return the descriptive tags of a TIFF file as EXIF; the others describe how that file is stored."""
    source, exif = image.getexif(), PIL.Image.Exif()
    exif.update({tag: source[tag] for tag in _TIFF_DESCRIPTIVE if tag in source})
    for directory in _EXIF_DIRECTORIES:
        if source.get_ifd(directory):
            exif.get_ifd(directory).update(source.get_ifd(directory))
    return exif.tobytes() if exif or any(exif.get_ifd(d) for d in _EXIF_DIRECTORIES) else None


def _from_array(array: np.ndarray) -> Image:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3 and array.shape[2] in (2, 4):
        return Image(np.ascontiguousarray(array[..., :-1]), np.ascontiguousarray(array[..., -1]))
    return Image(np.ascontiguousarray(array))


def _from_tensor(tensor: Any) -> Image:
    array = tensor.detach().cpu().numpy()
    if array.ndim != 3:
        raise MediaError(f"an image tensor must be [C, H, W], not {array.shape}")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise MediaError("a float image tensor must lie in 0..1")
        array = np.round(array * 255).astype(np.uint8)
    return _from_array(np.ascontiguousarray(array.transpose(1, 2, 0)))


def to_pillow(image: Image) -> PIL.Image.Image:
    """Return a Pillow image (L, LA, RGB, RGBA or I;16) with the metadata in its `info`.

    Raises:
        MediaError: it is 16-bit colour, which Pillow does not have.
    """
    samples = image.samples
    if samples.dtype == np.uint16 and samples.shape[2] == 3:
        raise MediaError("Pillow has no 16-bit RGB; use codec.decode(...).samples, or decode to png")
    if image.alpha is not None:
        samples = np.dstack([samples, image.alpha])
    out = PIL.Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    out.info.update(pillow_info(image.metadata))
    return out


def pillow_info(metadata: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return metadata under the names Pillow uses in `Image.info`."""
    return {"icc_profile" if key == "icc" else key: value for key, value in metadata.items()}


_SAVE = {  # lossless or near-lossless settings: what was decoded is what is saved
    "png": {"compress_level": 4},
    "webp": {"lossless": True, "quality": 50, "method": 3},
    "tiff": {"compression": "tiff_deflate"},
    "jpeg": {"quality": 97, "subsampling": 0},
    "avif": {"quality": 97, "subsampling": "4:4:4"},
    "jpeg2000": {"irreversible": False},
}
_SUFFIX = {"jpg": "jpeg", "tif": "tiff", "jp2": "jpeg2000", "j2k": "jpeg2000"}
_KEEPS = {  # what a format can hold, beside 8-bit gray and RGB
    "png": {"alpha", "deep", "icc", "exif", "xmp"},
    "webp": {"alpha", "icc", "exif", "xmp"},
    "tiff": {"alpha", "deep", "icc", "exif", "xmp"},
    "jpeg": {"icc", "exif", "xmp"},
    "avif": {"alpha", "icc", "exif", "xmp"},
    "jpeg2000": {"alpha", "deep", "icc"},
    "bmp": set(),
    "ppm": {"deep"},
}


def format_of(name: str) -> str:
    """Return the canonical format name of a suffix or format name such as `jpg`.

    Raises:
        MediaError: images cannot be written in it.
    """
    key = name.lower().removeprefix(".")
    key = _SUFFIX.get(key, key)
    if key not in _KEEPS:
        raise MediaError(f"cannot write {name!r} images; use one of {', '.join(_KEEPS)}")
    return key


def write(image: Image, file: BinaryIO | Path, format: str) -> list[str]:
    """Write an image file and return the names of metadata the format cannot hold.

    Raises:
        MediaError: the format cannot hold the samples or alpha, or writing fails.
    """
    kind = format_of(format)
    holds = _KEEPS[kind]
    if image.alpha is not None and "alpha" not in holds:
        raise MediaError(f"{kind} cannot hold alpha; decode to png or webp")
    if image.samples.dtype == np.uint16 and "deep" not in holds:
        raise MediaError(f"{kind} cannot hold 16 bits a sample; decode to png or tiff")
    lost = sorted(set(image.metadata) - holds)
    kept = replace(image, metadata={k: v for k, v in image.metadata.items() if k in holds})
    if image.samples.dtype == np.uint16 and image.samples.shape[2] == 3:
        if kind != "png" or image.alpha is not None:
            raise MediaError(
                f"cannot write 16-bit colour{' with alpha' * (image.alpha is not None)} as {kind}; use png"
            )
        from codec.media import deep  # loads FFmpeg

        data = deep.write_png(image.samples, kept.metadata)
        file.write_bytes(data) if isinstance(file, Path) else file.write(data)
        return lost
    options: dict[str, Any] = dict(_SAVE.get(kind, {}))
    pillow = to_pillow(kept)
    options.update({key: pillow.info[key] for key in ("icc_profile", "exif", "xmp") if key in pillow.info})
    if kind == "png" and "xmp" in options:
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode("utf-8", "replace"))
        options["pnginfo"] = text
    if kind == "tiff" and "xmp" in options:
        tags = PIL.Image.Exif()
        tags.load(options.get("exif"))
        tags[_TIFF_XMP] = options.pop("xmp")
        options["exif"] = tags
    with _wrapped(f"writing {kind}"):
        pillow.save(file, format=kind, **options)
    return lost


def pack_plane(plane: np.ndarray) -> bytes:
    """Return a [H, W] uint8 plane as PNG bytes."""
    out = io.BytesIO()
    PIL.Image.fromarray(plane).save(out, "png", optimize=True)
    return out.getvalue()


def unpack_plane(data: bytes, width: int, height: int) -> np.ndarray:
    """Return the [H, W] uint8 plane that `pack_plane` packed.

    Raises:
        MediaError: it is not a PNG of that size; nothing is decoded before the size is known to match.
    """
    with _wrapped("alpha plane"), PIL.Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        if image.size != (width, height) or image.mode != "L":
            raise MediaError(f"the alpha plane is {image.size} {image.mode}, not {width}x{height} L")
        return np.asarray(image)


def eight_bits(samples: np.ndarray) -> np.ndarray:
    """Return samples of uint8 or uint16 as uint8, rounded to the nearest level."""
    return samples if samples.dtype == np.uint8 else ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
