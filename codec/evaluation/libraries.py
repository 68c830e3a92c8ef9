"""What libraries in the wheel of PyAV say of their versions: rows of anchors name them."""

from __future__ import annotations

import ctypes
from importlib import metadata

import av


def runtime() -> str:
    """Return the versions of FFmpeg and PyAV."""
    return f"FFmpeg {av.ffmpeg_version_info}, PyAV {av.__version__}"


def stated_version(library: str, symbol: str, *, variable: bool = False) -> str:
    """Return the version that a library states, or nothing where it is not in the wheel.

    Args:
        library: how its file's name begins, `libopus`.
        symbol: of a C function without arguments that returns a string.
        variable: the symbol is a string instead.
    """
    for file in metadata.files("av") or ():
        if file.name.startswith(library):
            loaded = ctypes.CDLL(str(file.locate()))
            if variable:
                text = ctypes.c_char_p.in_dll(loaded, symbol).value
            else:
                state = getattr(loaded, symbol)
                state.restype = ctypes.c_char_p
                text = state()
            return text.decode().removeprefix(library).strip()
    return ""
