"""Exit codes, and which error has which."""

from __future__ import annotations

from codec import errors

FAILURE, USAGE, DAMAGED, UNKNOWN, UNREACHABLE, PARTIAL, INTERRUPTED = 1, 2, 3, 4, 5, 6, 130

_CODES = (  # the first class that matches decides
    (errors.UnsupportedVersionError, UNKNOWN),
    (errors.FormatError, DAMAGED),
    (errors.UnknownSystemError, UNKNOWN),
    (errors.ModelError, UNKNOWN),
    (errors.RateError, UNREACHABLE),
)


def code_of(error: BaseException) -> int:
    """Return the exit code for an error."""
    return next((code for cls, code in _CODES if isinstance(error, cls)), FAILURE)


def message_of(error: BaseException) -> str:
    """Return one line for people."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}" if error.filename else error.strerror.lower()
    if isinstance(error, MemoryError):
        return "out of memory; try -j 1 or a smaller image"
    return " ".join(str(error).split()) or type(error).__name__
