"""A user's task: what a classifier, or any other predictor, makes of decoded signals, as one more metric.

MODEL.py is a Python file; evaluating with it executes it, in every process once. It defines

    predict(signal)            what it makes of a codec.Image, codec.Audio or codec.Video
    score(prediction, path)    0..1, how good that is for the file at `path` (a pathlib.Path); without it, 1 where
                               str(prediction) is the name of the file's folder and 0 elsewhere
    NAME = "accuracy"          what the mean score is called

Scores are kept and shown in percent. The same is done to the originals, which every codec is then measured against.
What it prints goes to stderr, since stdout carries results.
"""

from __future__ import annotations

import hashlib
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from codec.errors import TaskError
from codec.evaluation.results import Point, Row
from codec.evaluation.scales import RATES, SCALES

DEFAULT_NAME = "accuracy"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9 ._+-]{0,39}")  # it becomes part of the names of files
_DECIMALS = 6  # kept of a score in percent, as of other metrics


@dataclass(frozen=True)
class Task:
    """A user's file that has been found to be one; picklable, so that worker processes load it themselves.

    Attributes:
        path: of the file.
        digest: its SHA-256, hexadecimal: rows are measured again when it changes.
        name: of the metric.
    """

    path: str
    digest: str
    name: str

    def predict(self, signal: Any) -> Any:
        """Return what the file predicts from a signal.

        Raises:
            TaskError: it raises; the message has the line.
        """
        module = _load(self.path, self.digest)
        with _running(self.path):
            return module.predict(signal)

    def score(self, prediction: Any, source: str) -> float:
        """Return how good a prediction is for a file, in percent.

        Raises:
            TaskError: `score` raises, or returns something that is not 0..1.
        """
        module, path = _load(self.path, self.digest), Path(source).absolute()
        with _running(self.path):
            value = float(getattr(module, "score", _same_as_folder)(prediction, path))
        if not 0 <= value <= 1:  # NaN, too
            raise TaskError(f"{self.path}: score returned {value:g}; return a number 0..1, 1 for right")
        return round(100 * value, _DECIMALS)


def load_task(path: str) -> Task:
    """Execute a user's file and return the task it defines.

    Raises:
        ValueError: it cannot be executed, or lacks something; the message has the file and the line.
    """
    try:
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        module = _load(path, digest)
    except (TaskError, OSError) as exc:
        raise ValueError(str(exc)) from exc
    if not callable(getattr(module, "predict", None)):
        raise ValueError(f"{path} defines no predict(signal); see codec eval --help")
    if not callable(getattr(module, "score", _same_as_folder)):
        raise ValueError(f"{path}: score is not a function; define score(prediction, path), or leave it out")
    name = getattr(module, "NAME", DEFAULT_NAME)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{path}: NAME = {name!r} is not a name of up to 40 letters, digits, spaces or . _ + -")
    if name in _taken():
        raise ValueError(f"{path}: NAME = {name!r} is a name of something else in the results; choose another")
    return Task(path, digest, name)


def _taken() -> set[str]:
    """Return the names of other metrics, and of columns beside metrics."""
    columns = {field.name for kind in (Row, Point) for field in fields(kind)} | {"kind", "description"}
    return columns | {scale.name for scale in (*SCALES, *RATES.values())}


def _same_as_folder(prediction: Any, path: Path) -> float:
    return float(str(prediction) == path.parent.name)


@lru_cache(maxsize=1)
def _load(path: str, digest: str) -> ModuleType:
    """Execute a file.

    Raises:
        TaskError: it raises, or is not what it was when the evaluation began.
    """
    source, place = Path(path).read_bytes(), Path(path).absolute()
    if hashlib.sha256(source).hexdigest() != digest:
        raise TaskError(f"{path} was changed while it was used; add --resume to measure with what it is now")
    module = ModuleType(f"codec_task_{digest[:16]}")
    module.__file__ = str(place)
    sys.modules[module.__name__] = module  # dataclasses and pickle look there
    if str(place.parent) not in sys.path:
        sys.path.append(str(place.parent))  # what lies beside it can be imported, as from any script
    with _running(path):
        exec(compile(source, path, "exec"), vars(module))  # not by an importer, which would leave a __pycache__
    return module


@contextmanager
def _running(path: str) -> Iterator[None]:
    """Report what the user's file raises as a `TaskError` of one line that says where."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (Exception, SystemExit) as exc:
        what = exc.msg if isinstance(exc, SyntaxError) else str(exc)
        raise TaskError(f"{_place(exc, path)}: {type(exc).__name__}{f': {what}' if what else ''}") from exc


def _place(exc: BaseException, path: str) -> str:
    """Return the file and, where it is known, the last line of it that was reached."""
    if isinstance(exc, SyntaxError) and exc.filename == path:
        return f"{path}, line {exc.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(exc.__traceback__) if frame.filename == path]
    return f"{path}, line {lines[-1]}" if lines else path
