"""What an item of a data set is: latents, symbols or bytes of a file, as a whole or a part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codec.errors import CodecError
from codec.learning.sources import Samples
from codec.learning.together import symbols_of
from codec.stream import Stream

Item = dict[str, Any]
Transform = Callable[[Item], Item]
MODES = ("latents", "symbols", "bytes")
# Axes that a crop runs over, in the order of its sizes.
_LATENT_AXES = {"image": (1, 2), "audio": (1,), "video": (2, 3)}  # [C, h, w], [C, frames], [T, C, h, w]
_SYMBOL_AXES = {"image": (0, 1), "audio": (1,)}  # [h, w, C], [groups, frames, ...]


@dataclass(frozen=True)
class View:
    """What is shown of each file.

    Attributes:
        mode: `latents`, `symbols` or `bytes`.
        header: of bytes: the whole file, not the entropy-coded payload alone.
        crop: rows and columns of the latent grid, of sound frames; one number for all. None: everything.
        centre: crop the middle instead of a random part.
        flip: show mirror images, of half the samples at random.
        transform: what is done with each item at last.

    Raises:
        ValueError: these do not go together.
    """

    mode: str = "latents"
    header: bool = False
    crop: int | tuple[int, ...] | None = None
    centre: bool = False
    flip: bool = False
    transform: Transform | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode {self.mode!r} is none of {', '.join(MODES)}")
        if self.mode == "bytes" and self.crop is not None:
            raise ValueError("bytes cannot be cropped: what they mean depends on those before; crop latents")
        if self.header and self.mode != "bytes":
            raise ValueError(f"header=True is for mode 'bytes', not {self.mode!r}")
        sizes = (self.crop,) if isinstance(self.crop, int) else self.crop
        if sizes is not None and (not 1 <= len(sizes) <= 2 or min(sizes) < 1):
            raise ValueError(f"crop {self.crop} is not one or two positive numbers")

    def check(self, samples: Samples) -> None:
        """Raise ValueError if samples lack what the view needs."""
        if self.flip and (key := samples.unmirrored()) is not None:
            raise ValueError(
                f"flip=True needs an encoding of each mirror image, which {key} lacks: latents of a mirrored picture "
                "are not mirrored latents; pack with `codec pack --mirrored`"
            )

    @property
    def random(self) -> bool:
        """Whether items depend on chance."""
        return self.flip or (self.crop is not None and not self.centre)

    def flips(self, rng: np.random.Generator | None) -> bool:
        """Draw whether the mirror image is shown."""
        return self.flip and bool(rng.random() < 0.5)

    def items(
        self,
        data: Sequence[bytes | CodecError],
        rngs: Sequence[np.random.Generator | None],
        names: Sequence[str],
    ) -> list[Item | CodecError]:
        """Return what is shown of some files, each from its bytes, or the error that says why nothing is.

        Args:
            names: of the files, for errors.
        """
        streams = [_open(part) for part in data]
        values = self._values(streams, data)
        return [
            _named(value, name)
            if isinstance(value, CodecError)
            else {self.mode: value if self.crop is None else self._cropped(value, stream.kind, rng)}
            for value, stream, rng, name in zip(values, streams, rngs, names, strict=True)
        ]

    def _values(self, streams: list[Stream | CodecError], data: Sequence[bytes | CodecError]) -> list[Any]:
        if self.mode == "bytes":
            shown = lambda stream, part: _tensor(part if self.header else stream.payload)
            pairs = zip(streams, data, strict=True)
            return [s if isinstance(s, CodecError) else shown(s, part) for s, part in pairs]
        values = iter(symbols_of([s for s in streams if isinstance(s, Stream)]))
        values = [next(values) if isinstance(s, Stream) else s for s in streams]
        if self.mode == "symbols":
            return values
        pairs = zip(streams, values, strict=True)
        return [value if isinstance(value, CodecError) else s.embed(value) for s, value in pairs]

    def _cropped(self, value: Any, kind: str, rng: np.random.Generator | None) -> Any:
        """Return a part of latents or symbols; smaller ones are surrounded by zeros."""
        if self.mode == "latents":
            return _crop(value, _LATENT_AXES[kind], self._sizes(len(_LATENT_AXES[kind])), rng)
        if kind not in _SYMBOL_AXES or len(value) > 1:
            raise ValueError(f"symbols {', '.join(value)} have grids of their own, so no common crop; crop latents")
        axes = _SYMBOL_AXES[kind]
        return {name: _crop(part, axes, self._sizes(len(axes)), rng) for name, part in value.items()}

    def _sizes(self, count: int) -> tuple[int, ...]:
        sizes = (self.crop,) * count if isinstance(self.crop, int) else self.crop
        if len(sizes) != count:
            raise ValueError(f"crop {self.crop} has {len(sizes)} sizes, what it cuts has {count} axes; give one number")
        return sizes


def _crop(value: Tensor, axes: tuple[int, ...], sizes: tuple[int, ...], rng: np.random.Generator | None) -> Tensor:
    """Return a part of a tensor, somewhere at random, or the middle; a smaller tensor lies in it among zeros."""
    shape = list(value.shape)
    source, target = [slice(None)] * value.dim(), [slice(None)] * value.dim()
    for axis, size in zip(axes, sizes, strict=True):
        spare = shape[axis] - size  # negative where there is too little
        at = spare // 2 if rng is None else int(rng.integers(min(spare, 0), max(spare, 0), endpoint=True))
        source[axis] = slice(max(at, 0), max(at, 0) + size)
        target[axis] = slice(max(-at, 0), max(-at, 0) + min(shape[axis], size))
        shape[axis] = size
    if list(value[tuple(source)].shape) == shape:
        return value[tuple(source)].contiguous()
    out = value.new_zeros(shape)
    out[tuple(target)] = value[tuple(source)]
    return out


def _tensor(data: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())


def _open(data: bytes | CodecError) -> Stream | CodecError:
    if isinstance(data, CodecError):
        return data
    try:
        return Stream(data, device="cpu")
    except CodecError as exc:
        return exc


def _named(error: CodecError, name: str) -> CodecError:
    """Return an error of the same kind that says which sample it is about."""
    named = type(error)(f"{name}: {error}")
    named.__cause__ = error
    return named
