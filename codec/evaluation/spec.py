"""SPECs: which codec at which settings, in one word of the command line.

    NAME[:key=value,...]        avif:q=20..80/15,speed=6      jpeg:q=10,25,50,75,90      walloc-12

A comma starts the next value, or the next key if what follows reads `key=`. A value is a word, a number or a range:
`a..b/step` counts from a to at most b; `a..b` is six values evenly spaced, ends included (fewer where whole numbers
run out). The values of a key that spans (quality, checkpoints) are the points of one curve; several values of any
other key make one curve each. Keys that are left out have the codec's defaults.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from codec.evaluation.codecs import Codec, Family, find_family

SPREAD = 6  # values of a range without a step
MAX_VALUES = 1000  # of a range, so that a slip of the finger does not take the memory
_NUMBER = r"-?\d+(?:\.\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?:/({_NUMBER}))?")
_KEY = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class CurveSpec:
    """One curve to measure; picklable, so that worker processes can make its codecs.

    Attributes:
        family: name of the codec's family.
        name: family and the fixed options that were given, `avif:speed=6`.
        settings: label of each point (`q=50`; empty where nothing spans) -> value of every key.
    """

    family: str
    name: str
    settings: dict[str, dict[str, str]]

    def codec(self, setting: str) -> Codec:
        """Return the codec at one of the settings, for as many threads as torch has; see `Family.make` for errors."""
        import torch

        return _made(self.family, tuple(self.settings[setting].items()), torch.get_num_threads())


@lru_cache(maxsize=256)
def _made(name: str, options: tuple[tuple[str, str], ...], threads: int) -> Codec:
    return find_family(name).make(dict(options))


def parse_spec(text: str) -> list[CurveSpec]:
    """Return the curves a SPEC asks for.

    Raises:
        ValueError: it is malformed, or an option or value is not one of the codec's; the message names those that are.
        UnknownSystemError: there is no such codec.
    """
    name, _, rest = text.partition(":")
    if not name:
        raise ValueError(f"{text!r} names no codec; write NAME[:key=value,...]")
    family = find_family(name)
    given = _split(rest, text)
    values = {key: _values(name, key, given.get(key), family) for key in family.options}
    unknown = [key for key in given if key not in family.options]
    if unknown:
        raise ValueError(f"{name} has no option {unknown[0]!r}; it has {', '.join(family.options) or 'none'}")
    spanning = [key for key, option in family.options.items() if option.spans]
    fixed = [key for key in family.options if key not in spanning]
    curves = []
    for combination in itertools.product(*(values[key] for key in fixed)):
        chosen = dict(zip(fixed, combination, strict=True))
        label = _label({key: value for key, value in chosen.items() if key in given})
        settings = {}
        for point in itertools.product(*(values[key] for key in spanning)):
            varying = dict(zip(spanning, point, strict=True))
            settings[_label(varying)] = {key: (varying | chosen)[key] for key in family.options}
        curves.append(CurveSpec(name, f"{name}:{label}" if label else name, settings))
    return curves


def parse_specs(texts: list[str]) -> list[CurveSpec]:
    """Return the curves of several SPECs; those of one name become one curve with the settings of all.

    Raises:
        ValueError, UnknownSystemError: see `parse_spec`.
    """
    merged: dict[str, CurveSpec] = {}
    for curve in (curve for text in texts for curve in parse_spec(text)):
        known = merged.get(curve.name)
        merged[curve.name] = curve if known is None else CurveSpec(
            curve.family, curve.name, known.settings | curve.settings
        )  # fmt: skip
    return list(merged.values())


def _split(rest: str, text: str) -> dict[str, list[str]]:
    """Split `q=10,25,speed=6` into keys and raw values."""
    given: dict[str, list[str]] = {}
    key = None
    for piece in rest.split(",") if rest else []:
        match = _KEY.fullmatch(piece)
        if match:
            key = match[1]
            if key in given:
                raise ValueError(f"{text!r} gives {key} twice; join its values with commas")
            given[key] = [match[2]]
        elif key is None:
            raise ValueError(f"{text!r}: {piece!r} has no key; write NAME:key=value")
        else:
            given[key].append(piece)
    return given


def _values(name: str, key: str, raw: list[str] | None, family: Family) -> list[str]:
    option = family.options[key]
    if raw is None and not option.default:
        raise ValueError(f"{name} needs {key}=... ({option.help})")
    values = list(option.default) if raw is None else [value for item in raw for value in _expand(item)]
    for value in values:
        try:
            option.check(value)
        except ValueError as exc:
            raise ValueError(f"{name}: {key}={value} is not {exc}") from exc
    return list(dict.fromkeys(values))


def _expand(item: str) -> Iterator[str]:
    match = _RANGE.fullmatch(item)
    if not match:
        yield _plain(Decimal(item)) if re.fullmatch(_NUMBER, item) else item
        return
    low, high = Decimal(match[1]), Decimal(match[2])
    if low > high:
        raise ValueError(f"range {item} runs backwards; write {match[2]}..{match[1]}")
    if match[3] is None:
        steps = [low + (high - low) * i / (SPREAD - 1) for i in range(SPREAD)]
        whole = low == low.to_integral() and high == high.to_integral()
        values = [step.to_integral() if whole else round(step, 4) for step in steps]
    else:
        step = Decimal(match[3])
        if step <= 0:
            raise ValueError(f"range {item} needs a step above zero")
        if (high - low) / step >= MAX_VALUES:
            raise ValueError(f"range {item} has more than {MAX_VALUES} values; choose a larger step")
        values = [low + step * i for i in range(int((high - low) / step) + 1)]
    yield from dict.fromkeys(_plain(value) for value in values)


def _plain(value: Decimal) -> str:
    """Return a number without an exponent or trailing zeros, so that 50 and 50.0 are one setting."""
    return f"{value.normalize():f}"


def _label(options: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in options.items())
