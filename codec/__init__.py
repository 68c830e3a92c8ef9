"""Learned compression for images, video and audio, with real bitstreams.

    data = codec.encode("photo.jpg", quality=60)         # bytes of a .lcb file
    picture = codec.decode("photo.lcb")                  # Image: .samples [H, W, C], .alpha, .metadata
    latents = codec.open("photo.lcb").latents()          # float tensor, no synthesis
    sound = codec.decode(codec.encode("song.flac"))      # Audio: .samples [channels, n], .rate, .metadata
    video = codec.decode(codec.encode("clip.mp4"))       # Video: .frames, .format, .metadata

Importing this package imports neither torch nor Pillow; the first call that needs them does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codec import errors
    from codec.api import DEFAULT_QUALITY, decode, default_model, encode, from_tokens, psnr_of, read, truncate, write
    from codec.checkpoint import DEFAULT_MODELS, find_model, installed_models, installed_systems
    from codec.info import Info
    from codec.media.audio import Audio
    from codec.media.image import Image
    from codec.media.video import Video
    from codec.stream import Stream, open
    from codec.task import Prediction

__version__ = "0.1.0"
_HOME = {  # public name -> module that defines it
    "Audio": "codec.media.audio",
    "DEFAULT_MODELS": "codec.checkpoint",
    "DEFAULT_QUALITY": "codec.api",
    "Image": "codec.media.image",
    "Info": "codec.info",
    "Prediction": "codec.task",
    "Stream": "codec.stream",
    "Video": "codec.media.video",
    "decode": "codec.api",
    "default_model": "codec.api",
    "encode": "codec.api",
    "find_model": "codec.checkpoint",
    "from_tokens": "codec.api",
    "installed_models": "codec.checkpoint",
    "installed_systems": "codec.checkpoint",
    "open": "codec.stream",
    "psnr_of": "codec.api",
    "read": "codec.api",
    "truncate": "codec.api",
    "write": "codec.api",
}
__all__ = [
    "DEFAULT_MODELS",
    "DEFAULT_QUALITY",
    "Audio",
    "Image",
    "Info",
    "Prediction",
    "Stream",
    "Video",
    "decode",
    "default_model",
    "encode",
    "errors",
    "find_model",
    "from_tokens",
    "installed_models",
    "installed_systems",
    "open",
    "psnr_of",
    "read",
    "truncate",
    "write",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("codec.errors")
    if name not in _HOME:
        raise AttributeError(f"module 'codec' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
