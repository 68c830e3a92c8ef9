"""Every error the package raises on purpose.

    CodecError
    +-- FormatError               the stream is not what it should be
    |   +-- TruncatedError        ... it ends too early
    |   +-- CorruptError          ... a checksum, size or value is wrong
    |   +-- UnsupportedVersionError  ... it was written by a newer codec
    |   `-- DesyncError           ... decoded symbols differ from those that were encoded
    +-- LimitError                reading on would take more pixels or memory than allowed
    +-- UnknownSystemError        no installed package provides this system
    +-- ModelError                weights
    |   +-- MissingModelError     ... no model of that name or digest is installed
    |   `-- ModelMismatchError    ... the file found is not the one that was asked for
    +-- MediaError                an input file cannot be read, or not without losing something
    +-- NoSignalError             the stream serves a task: there is nothing in it to look at or listen to
    +-- TaskError                 a user's file for `codec eval --task` fails
    +-- RecipeError               a training recipe or run is not what it should be
    +-- RateError                 a target size, rate or distortion cannot be reached
    +-- ExistsError               an output exists and may not be overwritten
    `-- MissingPackageError       an optional package is not installed

Messages are one line and end with what to try next. The command line maps classes to exit codes
(`codec.cli.exits`). Third-party exceptions are wrapped `from exc` where they enter.
"""

from __future__ import annotations

__all__ = [
    "CodecError",
    "CorruptError",
    "DesyncError",
    "ExistsError",
    "FormatError",
    "LimitError",
    "MediaError",
    "MissingModelError",
    "MissingPackageError",
    "ModelError",
    "ModelMismatchError",
    "NoSignalError",
    "RateError",
    "RecipeError",
    "TaskError",
    "TruncatedError",
    "UnknownSystemError",
    "UnsupportedVersionError",
]


class CodecError(Exception):
    """Base of all errors raised on purpose."""


class FormatError(CodecError):
    """The stream is not a valid .lcb file."""


class TruncatedError(FormatError):
    """The stream ends before the data it announces."""


class CorruptError(FormatError):
    """A checksum, a size or a field of the stream is wrong."""


class UnsupportedVersionError(FormatError):
    """The stream needs a newer version of this package."""


class DesyncError(FormatError):
    """The decoded symbols are not those that were encoded, although the bytes are intact."""


class LimitError(CodecError):
    """The stream or image is larger than the limits allow."""


class UnknownSystemError(CodecError):
    """No installed package provides the system a stream or a command names."""


class ModelError(CodecError):
    """Weights cannot be used."""


class MissingModelError(ModelError):
    """No installed model has the name or digest asked for."""


class ModelMismatchError(ModelError):
    """Weights do not have the digest they should have."""


class MediaError(CodecError):
    """An image, audio or video file cannot be read or written, or not without silent loss."""


class NoSignalError(CodecError):
    """The stream serves a task, and no picture, sound or video comes back from it."""


class TaskError(CodecError):
    """The Python file that a user gave to judge decoded signals raises, or returns what it may not."""


class RateError(CodecError):
    """A target rate, size or distortion is out of reach."""


class RecipeError(CodecError):
    """A training recipe cannot be used, or a run folder does not belong to it."""


class ExistsError(CodecError):
    """An output file exists already."""


class MissingPackageError(CodecError):
    """An optional package is not installed; the message ends with the command that installs it."""
