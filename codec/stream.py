"""`codec.open`: a .lcb file as an object whose parts are decoded when asked for."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from codec import checkpoint, container
from codec.errors import CodecError
from codec.limits import MAX_MEMORY, MAX_PIXELS
from codec.params import DEPTHS, KINDS, layout_of, quality_of, unpack
from codec.rate import bits_per_pixel, kilobits_per_second

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from codec.media.audio import Audio
    from codec.media.image import Image
    from codec.system import System

Source = str | os.PathLike | bytes | bytearray | memoryview | BinaryIO


@dataclass(frozen=True)
class Info:
    """Facts of a stream's header. What does not apply to its kind is None.

    Attributes:
        width, height, bpp: of an image: pixels, and 8 * bytes / pixels.
        rate, layout: of sound: samples a second, channel layout.
        length, seconds, kbps: of sound whose end is not missing: samples a channel, how long it lasts, and 8 * bytes /
            seconds / 1000.
        bit_depth: of the source's samples.
        bytes: file size, everything included.
        model: name of the installed model, or None if it is not installed.
        single_rate: quality has no effect, the installed model being one point of rate and distortion.
        payload_bytes, units: entropy-coded bytes and the number of independent units.
        metadata: name -> bytes of ICC, EXIF, XMP, tags (inflated) and alpha.
    """

    kind: str
    channels: int
    bit_depth: int
    quality: float
    system: str
    version: int
    digest: str
    model: str | None
    bytes: int
    payload_bytes: int
    units: int
    metadata: dict[str, int]
    single_rate: bool = False
    width: int | None = None
    height: int | None = None
    bpp: float | None = None
    rate: int | None = None
    layout: str | None = None
    length: int | None = None
    seconds: float | None = None
    kbps: float | None = None

    @property
    def size(self) -> str:
        """Size of the signal in words."""
        if self.kind == "image":
            return f"{self.width}x{self.height}"
        return f"{self.rate} Hz {self.layout}" + (f", {self.seconds:.2f} s" if self.seconds is not None else "")


class Stream:
    """A parsed .lcb file. Checksums have been verified; nothing has been decoded yet.

    Args:
        source: path, bytes or binary file.
        device: where synthesis runs: `auto`, `cpu` or `cuda`.
        max_pixels, max_memory: limits for decoding (pixels, bytes).
        tolerant: accept damaged units, for `problems`.

    Raises:
        FormatError: the file is damaged, truncated or not a .lcb file.
    """

    def __init__(
        self,
        source: Source,
        *,
        device: str = "auto",
        max_pixels: int = MAX_PIXELS,
        max_memory: int = MAX_MEMORY,
        tolerant: bool = False,
    ) -> None:
        self._data = _read(source)
        self._container = container.parse(self._data, tolerant=tolerant)
        self._params = unpack(self._container.params)
        self._device = device
        self._limits = {"max_pixels": max_pixels, "max_memory": max_memory}

    def __repr__(self) -> str:
        info = self.info
        return f"<Stream {info.size} {info.system} q{info.quality:g}, {info.bytes} bytes>"

    @cached_property
    def info(self) -> Info:
        """Facts of the header, without decoding; imports no torch."""
        parsed, params = self._container, self._params
        sizes = {name: len(data) for name, data in parsed.metadata.items()}
        if parsed.alpha is not None:
            sizes["alpha"] = len(parsed.alpha)
        try:
            model = self._model()
        except CodecError:
            model = None
        return Info(
            kind=KINDS[params["kind"]],
            quality=quality_of(params["quality"]),
            system=parsed.system,
            version=parsed.version,
            digest=parsed.digest.hex(),
            model=model and model.name,
            bytes=len(self._data),
            payload_bytes=sum(len(unit.payload) for unit in parsed.units),
            units=len(parsed.units),
            metadata=sizes,
            single_rate=bool(model and model.facts.get("single_rate")),
            **(self._image_facts() if self.kind == "image" else self._audio_facts()),
        )

    def _image_facts(self) -> dict[str, Any]:
        width, height = self._params["width"], self._params["height"]
        return {
            "channels": (1 if self._params["gray"] else 3) + (self._container.alpha is not None),
            "bit_depth": 16 if self._params["deep"] else 8,
            "width": width,
            "height": height,
            "bpp": bits_per_pixel(len(self._data), width, height),
        }

    def _audio_facts(self) -> dict[str, Any]:
        layout, channels = layout_of(self._params)
        rate, length = self._params["rate"], self._container.length
        return {
            "channels": channels,
            "bit_depth": int(DEPTHS[self._params["depth"]][1:]),
            "rate": rate,
            "layout": layout,
            "length": length,
            "seconds": None if length is None else length / rate,
            "kbps": kilobits_per_second(len(self._data), length / rate) if length else None,
        }

    @property
    def kind(self) -> str:
        """`image` or `audio`."""
        return KINDS[self._params["kind"]]

    @property
    def metadata(self) -> dict[str, bytes]:
        """ICC, EXIF, XMP and tag blocks by name (`icc`, `exif`, `xmp`, `tags`)."""
        return dict(self._container.metadata)

    def symbols(self) -> dict[str, Tensor]:
        """Entropy-decode and return the integer symbols, e.g. `y` [h, w, C] for walloc."""
        from codec.engine import units

        return units.decode_symbols(self._container, self._checked_system(), self._params)

    def problems(self) -> list[str]:
        """Decode the symbols of every unit and return one line for each that fails."""
        from codec.engine import units

        return units.find_problems(self._container, self._checked_system(), self._params)

    def estimated_bits(self) -> float:
        """Return the bits that the model's rate estimate, what training minimises, gives for the symbols."""
        from codec.engine import units

        return units.estimate_bits(self.symbols(), self._params, self._system())

    def symbols_digest(self) -> str:
        """Return the SHA-256 of all symbols as little-endian int32, tensors in order of name: the exact part."""
        digest = hashlib.sha256()
        for _, values in sorted(self.symbols().items()):
            digest.update(values.numpy().astype("<i4").tobytes())
        return digest.hexdigest()

    def latents(self) -> Tensor:
        """Return the float tensor that learning uses (walloc: [C, h, w]), without synthesis."""
        return self._system().embed(self.symbols(), self._params)

    def tokens(self) -> np.ndarray:
        """Return the codebook indices [books, frames], int32, of several channels [channels, books, frames].

        `codec.from_tokens` makes sound of them again.

        Raises:
            ValueError: the system has no codebooks.
        """
        return self._checked_system().tokens(self.symbols()).numpy()

    def decode(self, *, start: int = 0, stop: int | None = None, progress: Any = None) -> Image | Audio:
        """Return the picture or the sound.

        Args:
            start, stop: of sound, the samples wanted; only the units they depend on are decoded.

        Raises:
            LimitError, UnknownSystemError, MissingModelError, DesyncError, CorruptError.
            ValueError: there are no such samples.
        """
        from codec.system import no_progress

        system, progress = self._checked_system(), progress or no_progress
        if self.kind == "audio":
            from codec.engine import audio

            return audio.decode(self._container, self._params, system, start=start, stop=stop, progress=progress)
        from codec.engine import images

        return images.decode(self._container, self._params, system, progress)

    def _model(self) -> checkpoint.ModelInfo:
        parsed = self._container
        return checkpoint.find_digest(parsed.system, parsed.version, parsed.digest, self.kind)

    def _checked_system(self) -> System:
        """Return the system once the stream is known to keep to the limits.

        Raises:
            LimitError: it does not.
        """
        from codec.engine import units

        if self.kind == "audio":
            from codec.engine import audio

            system = self._system()
            self._params |= audio.derived(self._container, self._params, system)
            audio.check_limits(self._params, **self._limits)
        else:
            from codec.engine import images

            images.check_limits(self._params, **self._limits)
            system = self._system()
        units.check_symbols(system, self._params, max_memory=self._limits["max_memory"])
        return system

    def _system(self) -> System:
        return checkpoint.load(self._model(), self._device)


def open(source: Source, **options: Any) -> Stream:
    """Open a .lcb file; see `Stream` for options and errors."""
    return Stream(source, **options)


def _read(source: Source) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        return Path(source).read_bytes()
    return source.read()
