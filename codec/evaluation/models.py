"""Our own models as codecs to evaluate."""

from __future__ import annotations

from codec import api, checkpoint
from codec.evaluation.codecs import Codec, Family, Option, one_of, real, whole
from codec.limits import UNLIMITED
from codec.params import quality_index, quality_of
from codec.stream import Stream
from codec.task import TaskSystem

_OPTIONS = {
    "q": Option("quality", real(0, 100), ("0", "20", "40", "60", "80", "100"), spans=True),
    "e": Option("effort", whole(1, 10), ("1",)),
    "device": Option("where networks run", one_of("auto", "cpu", "cuda"), ("auto",)),
}


def model_family(info: checkpoint.ModelInfo, name: str) -> Family:
    """Return the family of an installed model; `name` is its name, or its folder."""

    fixed_rate = bool(info.facts.get("single_rate"))  # one point, not a curve
    offered = {key: option for key, option in _OPTIONS.items() if not (fixed_rate and option.spans)}

    def make(options: dict[str, str]) -> Codec:
        device, system = options["device"], checkpoint.system_class(info.system)
        predicts = issubclass(system, TaskSystem)
        keywords = {"effort": int(options["e"]), "device": device}
        if not fixed_rate:
            keywords["quality"] = quality_of(quality_index(float(options["q"])))

        def opened(data: bytes) -> Stream:
            return Stream(data, device=device, max_pixels=UNLIMITED, max_memory=UNLIMITED)

        return Codec(
            f"{info.system} version {info.version}, model {info.name} {info.digest[:16]}",
            keywords,
            lambda signal: api.encode(signal, model=name, **keywords),
            lambda data: opened(data).predict() if predicts else opened(data).decode(),
            lambda data: opened(data).estimated_bits() / 8,
            fits=getattr(system, "fits", False),
            predicts=predicts,
        )

    return Family("model", make, offered, info.media)
