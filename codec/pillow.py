"""Pillow plugin: `import codec.pillow` once, then `Image.open("photo.lcb")` and `image.save("photo.lcb")` work.

Opening reads the header only; pixels are decoded when they are needed. `save` takes `model`, `quality` and
`effort`. Everything that opens images through Pillow (Hugging Face datasets, imageio, WebDataset) gains .lcb.
"""

from __future__ import annotations

from typing import Any, BinaryIO

from PIL import Image, ImageFile

from codec.container import SIGNATURE
from codec.errors import CodecError
from codec.media import image as media
from codec.stream import Stream

FORMAT = "LCB"


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(SIGNATURE)


class LcbImageFile(ImageFile.ImageFile):
    """A .lcb file as a lazily decoded Pillow image (L, LA, RGB, RGBA or I;16)."""

    format = FORMAT
    format_description = "codec learned compression"

    def _open(self) -> None:
        try:
            self._stream = Stream(self.fp.read())
        except CodecError as exc:
            raise SyntaxError(str(exc)) from exc  # Pillow's way to say "not mine or broken"
        info = self._stream.info
        self._size = (info.width, info.height)
        deep = info.bit_depth == 16
        if deep and info.channels > 1:
            raise OSError("Pillow has no 16-bit RGB; use codec.decode(...).samples, or codec decode to png")
        self._mode = "I;16" if deep else {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[info.channels]
        self.info["quality"] = info.quality
        self.info.update(media.pillow_info(self._stream.metadata))

    def load(self) -> Any:
        """Decode the pixels, once."""
        if self._stream is not None:
            try:
                decoded = media.to_pillow(self._stream.decode())
            except CodecError as exc:
                raise OSError(str(exc)) from exc
            self.im, self._mode, self._stream = decoded.im, decoded.mode, None
            if self._exclusive_fp and self.fp:
                self.fp.close()
                self.fp = None
        return super().load()


def _save(image: Image.Image, file: BinaryIO, filename: str | bytes) -> None:
    from codec.api import encode

    names = ("model", "quality", "effort")
    file.write(encode(image, **{name: image.encoderinfo[name] for name in names if name in image.encoderinfo}))


Image.register_open(FORMAT, LcbImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ".lcb")
Image.register_mime(FORMAT, "image/x-lcb")
