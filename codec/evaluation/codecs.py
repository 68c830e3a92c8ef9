"""What can be evaluated: a codec at one setting, the family it comes from, and where families are found.

A **family** (`avif`) declares its options and makes a **codec** for one value of each: `encode`, `decode` and what
there is to know about them. To add one, write a module with a function under `@family(...)` and enter it in
`FAMILIES`; nothing else changes:

    @family(kind="peer", options={"q": Option("quality", whole(1, 8), default=("1", "3", "5"), spans=True)})
    def mine(options: dict[str, str]) -> Codec:
        level = int(options["q"])
        return Codec("mine 1.2", {"level": level}, lambda image: ..., lambda data: ...)

Nothing here imports torch or an encoder; families are imported when a SPEC names them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from codec import checkpoint
from codec.errors import MissingModelError, UnknownSystemError

if TYPE_CHECKING:
    from codec.media.audio import Audio
    from codec.media.image import Image
    from codec.media.video import Video
    from codec.task import Prediction

FAMILIES = {  # name in a SPEC -> where its family is defined
    "jpeg": "codec.evaluation.anchors:jpeg",
    "webp": "codec.evaluation.anchors:webp",
    "avif": "codec.evaluation.anchors:avif",
    "jpeg2000": "codec.evaluation.anchors:jpeg2000",
    "jxl": "codec.evaluation.anchors:jxl",
    "png": "codec.evaluation.anchors:png",
    "webp-lossless": "codec.evaluation.anchors:webp_lossless",
    "jxl-lossless": "codec.evaluation.anchors:jxl_lossless",
    "opus": "codec.evaluation.audio_families:opus",
    "aac": "codec.evaluation.audio_families:aac",
    "mp3": "codec.evaluation.audio_families:mp3",
    "lyra": "codec.evaluation.audio_families:lyra",
    "x264": "codec.evaluation.video_families:x264",
    "x265": "codec.evaluation.video_families:x265",
    "av1": "codec.evaluation.video_families:av1",
    "vp9": "codec.evaluation.video_families:vp9",
    "compressai": "codec.evaluation.compressai:system",
    "compressai-peer": "codec.evaluation.compressai:peer",
}


@dataclass(frozen=True)
class Codec:
    """One codec at one setting, ready to run.

    Attributes:
        version: of the encoder and what it runs in, `libavif 1.4.2 (Pillow 13.0.0)`; for models also their digest.
        options: every option the encoder was given, defaults included, under the encoder's own names.
        encode: image, sound or video -> the whole file. The image has no alpha, and none has metadata.
        decode: the whole file -> image, sound or video of the same size; where the codec `predicts`, a prediction.
        estimate: the whole file -> bytes the entropy model assigns to its symbols; None where there is no such thing.
        fits: encoding is a long optimisation: it is done once, without a warm-up.
        predicts: its files serve a task: there is no signal to compare with the original.
    """

    version: str
    options: Mapping[str, Any]
    encode: Callable[[Image | Audio | Video], bytes]
    decode: Callable[[bytes], Image | Audio | Video | Prediction]
    estimate: Callable[[bytes], float] | None = None
    fits: bool = False
    predicts: bool = False


Check = Callable[[str], object]  # raises ValueError with what is allowed, `0..100`


@dataclass(frozen=True)
class Option:
    """One key of a SPEC.

    Attributes:
        help: what it is, a few words.
        check: raises ValueError for a value that is not allowed; its message says what is.
        default: values used when the SPEC leaves the key out; empty: the key is required.
        spans: the values of this key are the points of one curve (qualities, checkpoints). Several values of any
            other key make one curve each.
    """

    help: str
    check: Check
    default: tuple[str, ...] = ()
    spans: bool = False


@dataclass(frozen=True)
class Family:
    """A codec before its options have values.

    Attributes:
        kind: `model`, `anchor` or `peer`, see `codec.evaluation.results.Curve`.
        options: by key, in the order they are written in a curve's name.
        make: one value for each key -> codec. Values are strings that passed `Option.check`. It may be called often
            and in several processes: it keeps what is expensive to load. Threads are `torch.get_num_threads()`.

            Raises ValueError for values that do not go together, MissingPackageError with the pip command.
        media: kind of signal.
    """

    kind: str
    make: Callable[[dict[str, str]], Codec]
    options: Mapping[str, Option] = field(default_factory=dict)
    media: str = "image"


def family(
    *, kind: str, options: Mapping[str, Option] | None = None, media: str = "image"
) -> Callable[[Callable], Family]:
    """Turn a function from options to `Codec` into a `Family`."""
    return lambda make: Family(kind, make, options or {}, media)


def find_family(name: str) -> Family:
    """Return a family by name: one of `FAMILIES`, or an installed model or the folder of one.

    Raises:
        UnknownSystemError: there is none of that name.
    """
    if name in FAMILIES:
        module, _, attribute = FAMILIES[name].partition(":")
        return getattr(import_module(module), attribute)
    try:
        info = checkpoint.find_model(name)
    except MissingModelError as exc:
        known = [model.name for model in checkpoint.installed_models()] + list(FAMILIES)
        raise UnknownSystemError(f"codec {name!r} is not known; choose from {', '.join(known)}") from exc
    from codec.evaluation.models import model_family

    return model_family(info, name)


def families_for(media: str) -> list[str]:
    """Return the names of all families of a kind of signal, installed models first."""
    models = [model.name for model in checkpoint.installed_models() if model.media == media]
    return models + [name for name in FAMILIES if find_family(name).media == media]


def whole(low: int, high: int) -> Check:
    """Return a check for whole numbers `low`..`high`."""

    def check(text: str) -> None:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ValueError(f"a whole number {low}..{high}")

    return check


def real(low: float, high: float) -> Check:
    """Return a check for numbers `low`..`high`."""

    def check(text: str) -> None:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(f"a number {low:g}..{high:g}")

    return check


def one_of(*values: str) -> Check:
    """Return a check for a few words."""

    def check(text: str) -> None:
        if text not in values:
            raise ValueError(f"one of {', '.join(values)}")

    return check


def text(value: str) -> None:
    """Accept any value that is not empty."""
    if not value:
        raise ValueError("a value")
