"""One file becomes the members of a sample: the unit of work, whoever does it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from codec.errors import MissingPackageError, ModelError, ModelMismatchError, UnknownSystemError
from codec.limits import MAX_PIXELS
from codec.packing.layout import CODED, MIRRORED
from codec.packing.sources import Sample

_FATAL = (ModelError, UnknownSystemError, MissingPackageError)  # what no other file would fare better with
_ELSEWHERE = ("device", "max_pixels")  # settings that a sample's bytes are not meant to depend on


@dataclass(frozen=True)
class Settings:
    """How files are encoded; small, and the same for all.

    Attributes:
        model: name or folder; digest: of its weights.
        quality, effort, strip: see `codec.encode`.
        mirrored: encode pictures mirrored, too.
        device: `auto`, `cpu` or `cuda`.
        max_pixels: refuse larger pictures.
    """

    model: str
    digest: str
    quality: float
    effort: int = 1
    strip: bool = False
    mirrored: bool = False
    device: str = "auto"
    max_pixels: int = MAX_PIXELS

    def identity(self) -> dict[str, Any]:
        """Return what decides the bytes of a sample, for the index."""
        known = {name: value for name, value in asdict(self).items() if name not in _ELSEWHERE}
        return known | {"model": Path(self.model).name}


@dataclass(frozen=True)
class Encoded:
    """What became of a file.

    Attributes:
        members: suffix -> bytes of a .lcb file.
        size: bytes of the source.
        error: why there are none, in a line; empty if there are.
    """

    members: dict[str, bytes] = field(default_factory=dict)
    size: int = 0
    error: str = ""


Encode = Callable[[Sequence[Sample], Settings], Iterator[tuple[Sample, Encoded]]]  # keeps the order


def encode_sample(path: str, settings: Settings) -> Encoded:
    """Encode one file. Whatever is wrong with it is returned, not raised.

    The bytes depend on the number of torch threads, so callers see to it that there is one.

    Raises:
        ModelError, UnknownSystemError, MissingPackageError: the model cannot be used here.
    """
    import codec

    _check_model(settings.model, settings.digest)
    options = {
        "model": settings.model, "quality": settings.quality, "effort": settings.effort, "strip": settings.strip,
        "device": settings.device, "max_pixels": settings.max_pixels,
    }  # fmt: skip
    try:
        size = os.stat(path).st_size  # noqa: PTH116 - a path may hold bytes that are no text
        if not settings.mirrored:
            return Encoded({CODED: codec.encode(path, **options)}, size)
        picture = codec.read(path, max_pixels=settings.max_pixels)
        members = {CODED: codec.encode(picture, **options)}
        members[MIRRORED] = codec.encode(_mirror(picture), **options)
        return Encoded(members, size)
    except _FATAL:
        raise
    except Exception as exc:  # one bad file never stops the others
        return Encoded(error=_reason(exc, path))


@lru_cache(maxsize=4)
def _check_model(model: str, digest: str) -> None:
    """Refuse to encode with other weights than the rest of the data set, as another machine may have them."""
    from codec import checkpoint

    found = checkpoint.find_model(model).digest
    if found != digest:
        raise ModelMismatchError(
            f"the model {model} has the digest {found[:8]} here, not {digest[:8]}; install the same one on all machines"
        )


def _mirror(picture: Any) -> Any:
    """Return a `codec.Image` with left and right exchanged."""
    import numpy as np

    flip = lambda plane: None if plane is None else np.ascontiguousarray(plane[:, ::-1])
    return replace(picture, samples=flip(picture.samples), alpha=flip(picture.alpha))


def _reason(error: Exception, path: str) -> str:
    """Return why a file cannot be encoded, in a line that does not depend on where it lies."""
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = " ".join(str(error).split()).removeprefix(f"{path}: ")
    return text or type(error).__name__
