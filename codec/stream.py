"""`codec.open`: a .lcb file as an object whose parts are decoded when asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from codec import checkpoint, container
from codec.errors import CodecError, CorruptError, TruncatedError
from codec.info import Info, facts, layers_of
from codec.limits import MAX_MEMORY, MAX_PIXELS
from codec.params import KINDS, quality_of, unpack, video_format

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from codec.media.audio import Audio
    from codec.media.image import Image
    from codec.media.video import Frames, Video, VideoFormat
    from codec.system import System
    from codec.task import Prediction

Source = str | os.PathLike | bytes | bytearray | memoryview | BinaryIO


class Stream:
    """A parsed .lcb file. Checksums have been verified; nothing has been decoded yet.

    Args:
        source: path, bytes or binary file.
        device: where synthesis runs: `auto`, `cpu` or `cuda`.
        max_pixels, max_memory: limits for decoding (pixels, bytes).
        tolerant: accept damaged units, for `problems`, to salvage what is whole and to predict what is lost.
        layers: take no more than so many layers of a picture, of systems that have them; by default all.

    Raises:
        FormatError: the file is damaged, truncated or not a .lcb file.
        ValueError: layers are wanted of sound or video.
    """

    def __init__(
        self,
        source: Source,
        *,
        device: str = "auto",
        max_pixels: int = MAX_PIXELS,
        max_memory: int = MAX_MEMORY,
        tolerant: bool = False,
        layers: int | None = None,
    ) -> None:
        self._data = _read(source)
        self._file = self._container = container.parse(self._data, tolerant=tolerant)
        self._header = unpack(self._file.params)
        self._params = dict(self._header)
        if self._file.later and self.kind != "video":
            raise CorruptError(f"clips follow, which {self.kind} does not have")
        if self.kind != "image" and any(clip.compact for clip in self._file.clips):
            raise CorruptError(f"its units share a chunk, which those of {self.kind} do not")
        if layers is not None and self.kind != "image":
            raise ValueError(f"layers are for images, not for {self.kind}")
        self._layers, self._lost = layers, None
        self._clips = [self._params]
        self._device, self._tolerant = device, tolerant
        self._limits = {"max_pixels": max_pixels, "max_memory": max_memory}

    def __repr__(self) -> str:
        info = self.info
        return f"<Stream {info.size} {info.system} q{info.quality:g}, {info.bytes} bytes>"

    @cached_property
    def info(self) -> Info:
        """Facts of the whole file's header, without decoding; imports no torch."""
        parsed, params = self._file, self._header
        sizes = {name: len(data) for name, data in parsed.metadata.items()}
        if parsed.alpha is not None:
            sizes["alpha"] = len(parsed.alpha)
        if sound := sum(len(track) for clip in parsed.clips for track in clip.sound):
            sizes["sound"] = sound
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
            payload_bytes=sum(len(unit.payload) for clip in parsed.clips for unit in clip.units),
            units=sum(len(clip.units) for clip in parsed.clips),
            metadata=sizes,
            single_rate=bool(model and model.facts.get("single_rate")),
            layers=layers_of(parsed) if model and model.facts.get("layered") else None,
            **facts(parsed, params, len(self._data)),
        )

    @property
    def kind(self) -> str:
        """`image`, `audio` or `video`."""
        return KINDS[self._params["kind"]]

    @property
    def metadata(self) -> dict[str, bytes]:
        """ICC, EXIF, XMP and tag blocks by name (`icc`, `exif`, `xmp`, `tags`)."""
        return dict(self._container.metadata)

    @property
    def payload(self) -> bytes:
        """The entropy-coded bytes of all units, one after another."""
        return b"".join(unit.payload for clip in self._container.clips for unit in clip.units)

    def sound_of(self, clip: int = 0) -> tuple[bytes, ...]:
        """Return the tracks beside a clip of video, each a file: .lcb, or Matroska with the packets of the source."""
        return self._clip(clip).sound

    def format_of(self, clip: int = 0) -> VideoFormat:
        """Return what the frames of a clip share.

        Raises:
            ValueError: there is no such clip.
        """
        return video_format(unpack(self._clip(clip).params))

    def tags_of(self, clip: int = 0) -> dict[str, str]:
        """Return the tags of sound, or of a clip of video."""
        from codec.engine.audio import read_tags

        tags = self._clip(clip).metadata.get("tags")
        return read_tags(tags) if tags else {}

    def symbols(self, clip: int = 0) -> dict[str, Tensor]:
        """Entropy-decode and return the integer symbols, e.g. `y` [h, w, C] for walloc; of video, those of a clip."""
        from codec.engine import units

        system, parsed = self._checked_system(), self._clip(clip)
        return units.decode_symbols(parsed, system, self._clips[clip])

    def problems(self) -> list[str]:
        """Decode the symbols of every unit and return one line for each that fails."""
        from codec.engine import units

        system, clips = self._checked_system(), self._container.clips
        found = []
        for number, (clip, params) in enumerate(zip(clips, self._clips, strict=True)):
            name = f"clip {number}, " if len(clips) > 1 else ""
            found += [name + text for text in (*clip.damage, *units.find_problems(clip, system, params))]
        return found

    def estimated_bits(self) -> float:
        """Return the bits that the model's rate estimate, what training minimises, gives for the symbols."""
        from codec.engine import units

        clips = range(len(self._container.clips))
        return sum(units.estimate_bits(self.symbols(i), self._clips[i], self._system()) for i in clips)

    def symbols_digest(self) -> str:
        """Return the SHA-256 of all symbols as little-endian int32, tensors in order of name: the exact part."""
        digest = hashlib.sha256()
        for clip in range(len(self._container.clips)):
            for _, values in sorted(self.symbols(clip).items()):
                digest.update(values.numpy().astype("<i4").tobytes())
        return digest.hexdigest()

    def latents(self, clip: int = 0) -> Tensor:
        """Return the float tensor that learning uses (walloc: [C, h, w]), without synthesis; of video, of a clip."""
        return self.embed(self.symbols(clip), clip)

    def embed(self, symbols: dict[str, Tensor], clip: int = 0) -> Tensor:
        """Return the latents of symbols that were decoded."""
        return self._system().embed(symbols, self._clips[clip])

    def render(self, latents: Tensor) -> Image | Audio:
        """Return the signal that latents stand for: those of this file, or what a network made of them.

        Args:
            latents: of the shape that `latents` returns.

        Raises:
            ValueError: they have another shape, or the model makes no signal of latents.
        """
        return self._checked_system().render(latents, self._params)

    def coded(self) -> tuple[System, container.Container, dict[str, Any]]:
        """Return what the symbols of the first clip are decoded from, known to keep to the limits.

        Raises:
            LimitError, UnknownSystemError, MissingModelError.
        """
        return self._checked_system(), self._container, self._clips[0]

    def tokens(self) -> np.ndarray:
        """Return the codebook indices, int32, that generative models take.

        Of sound [books, frames], of several channels [channels, books, frames]; of pictures [h, w] (vqgan), [regions,
        tokens] (onedpiece). `codec.from_tokens` makes sound, or a picture, of them again.

        Raises:
            ValueError: the system has no codebooks.
        """
        return self._checked_system().tokens(self.symbols()).numpy()

    def predict(self) -> Prediction:
        """Return what a file of a system that serves a task stands for, from its symbols alone.

        Raises:
            ValueError: the system makes a picture, sound or video instead; use `decode`.
        """
        from codec import task

        system = self._checked_system()
        return task.predict(system, self.symbols, self._params)

    def lost(self) -> list[tuple[int, int, int, int]]:
        """Return what of a picture cannot be decoded: (x, y, width, height) in pixels of each unit that is damaged.

        A stream must be `tolerant` to get there. `decode(repair=True)` predicts these parts where the system can.
        """
        from codec.engine import images

        if self.kind != "image":
            raise ValueError(f"areas are of images, not of {self.kind}; use problems")
        if self._lost is None:
            system = self._checked_system()
            self._lost = images.lost_areas(self._container, self._params, system)
        return list(self._lost)

    def whole_layers(self) -> int:
        """Return how many of the first layers of a picture are whole: what a `tolerant` stream decodes to.

        Raises:
            ValueError: the system has no layers.
        """
        from codec.engine import layers

        system = self._checked_system()
        if not system.layered:
            raise ValueError(f"{system.id} has no layers; files of onedpiece have")
        return layers.whole(self._container, self._params, system)

    def remedies(self) -> tuple[str, ...]:
        """Return how a damaged picture can be looked at: `repair`, `salvage` (its first layers), both or neither."""
        from codec.system import System

        system = self._checked_system()
        able = {"repair": type(system).repair is not System.repair, "salvage": system.layered}
        return tuple(name for name, true in able.items() if true)

    def decode(
        self, *, start: int = 0, stop: int | None = None, clip: int = 0, repair: bool = False, progress: Any = None
    ) -> Image | Audio | Video:
        """Return the picture, the sound or a clip of video.

        Args:
            start, stop: of sound, the samples wanted, of video, the frames; only the units they depend on are decoded.
            clip: of video, which one, from 0.
            repair: of a picture, predict the parts that are lost, see `lost`, from the others. Without it a `tolerant`
                stream of a system with layers decodes those that are whole, of another one damaged parts raise.

        Raises:
            LimitError, UnknownSystemError, MissingModelError, DesyncError, CorruptError.
            NoSignalError: the system serves a task; use `predict`.
            ValueError: there are no such samples or frames, or the system cannot predict what is lost.
        """
        from codec.system import no_progress

        progress = progress or no_progress
        if repair and self.kind != "image":
            raise ValueError(f"what is lost of {self.kind} cannot be predicted; --salvage decodes what is whole")
        if self.kind == "video":
            return self._decode_video(start, stop, clip, progress)
        system = self._checked_system()
        if self.kind == "audio":
            from codec.engine import audio

            return audio.decode(self._container, self._params, system, start=start, stop=stop, progress=progress)
        return self._decode_image(system, repair, progress)

    def frames(
        self,
        *,
        start: int = 0,
        stop: int | None = None,
        clip: int = 0,
        progress: Any = None,
        damaged: Callable[[str], None] | None = None,
    ) -> Iterator[Frames]:
        """Yield frames start ... stop - 1 of a clip of video, group by group, in memory bounded by a group.

        Args:
            damaged: called with a line for each group that cannot be decoded, which then is the frame before it, or
                gray; None: they raise.

        Raises: see `decode`.
        """
        from codec.engine import video_decoder
        from codec.system import no_progress

        system = self._checked_system()
        return video_decoder.decode(
            self._container, self._clips, system, clip=clip, start=start, stop=stop,
            progress=progress or no_progress, damaged=damaged,
        )  # fmt: skip

    def truncated(self, size: int) -> bytes:
        """Return a file of at most `size` bytes with the first tokens of this one; see `codec.truncate`."""
        from codec import rate
        from codec.engine import layers

        if len(self._data) <= size:
            return self._data
        system = self._checked_system()
        if not system.layered:
            raise ValueError(f"files of {system.id} cannot be cut, those of onedpiece can; encode it again, smaller")
        cut = layers.cutter(self._container, self.symbols(), self._params, system)
        best = quality_of(self._params["quality"])
        return rate.largest_below(cut, len, size, f"a size of {size} bytes", highest=best)

    def _decode_image(self, system: System, repair: bool, progress: Any) -> Image:
        from codec.engine import images, layers

        parsed, params = self._container, self._params
        if repair:
            lost: list[images.Area] = []
            picture = images.decode(parsed, params, system, progress, damaged=lost.append)
            self._lost = lost
            return picture
        if self._tolerant and system.layered:
            parsed, params = layers.salvaged(parsed, params, system)
        return images.decode(parsed, params, system, progress)

    def _decode_video(self, start: int, stop: int | None, clip: int, progress: Any) -> Video:
        from codec.engine import clips, video_decoder
        from codec.media.video import Video

        system, parsed = self._checked_system(), self._clip(clip)
        stop = self._clips[clip]["length"] if stop is None else stop
        video_decoder.check_limits(self._clips[clip], system, **self._limits, frames=stop - start)
        damaged = (lambda text: None) if self._tolerant else None
        groups = list(self.frames(start=start, stop=stop, clip=clip, progress=progress, damaged=damaged))
        if not groups:
            problem = "there is no whole group of frames" if not parsed.units else f"frames {start} to {stop} are none"
            raise (ValueError if parsed.units else TruncatedError)(problem)
        return Video(self.format_of(clip), clips.joined(groups), self.tags_of(clip))

    def _clip(self, number: int) -> container.Container:
        clips = self._container.clips
        if not 0 <= number < len(clips):
            raise ValueError(f"clip {number} of {len(clips)}; the first is clip 0")
        return clips[number]

    def _model(self) -> checkpoint.ModelInfo:
        parsed = self._container
        return checkpoint.find_digest(parsed.system, parsed.version, parsed.digest, self.kind)

    def _checked_system(self) -> System:
        """Return the system once the stream is known to keep to the limits.

        Raises:
            LimitError: it does not.
        """
        from codec.engine import units

        if self.kind == "video":
            from codec.engine import video_decoder

            system = self._system()
            self._clips = video_decoder.derived(self._container, system)
            for params in self._clips:
                video_decoder.check_limits(params, system, **self._limits)
            return system
        if self.kind == "audio":
            from codec.engine import audio

            system = self._system()
            self._params |= audio.derived(self._container, self._params, system)
            audio.check_limits(self._params, **self._limits)
        else:
            from codec.engine import images, layers

            images.check_limits(self._params, **self._limits)
            system = self._system()
            if self._layers is not None:
                self._container, params = layers.first(self._container, self._params, system, self._layers)
                self._params |= params
                self._layers = None  # done
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
