import pickle

import pytest

from codec.errors import UnknownSystemError
from codec.evaluation.spec import parse_spec, parse_specs

from support import SMALL


def settings(text: str) -> list[str]:
    [curve] = parse_spec(text)
    return list(curve.settings)


@pytest.mark.parametrize(
    ("text", "qualities"),
    [
        ("jpeg:q=10,25,50,75,90", [10, 25, 50, 75, 90]),
        ("jpeg:q=10..90/20", [10, 30, 50, 70, 90]),
        ("jpeg:q=10..85/20", [10, 30, 50, 70]),
        ("jpeg:q=10..90", [10, 26, 42, 58, 74, 90]),
        ("jpeg:q=1..3", [1, 2, 3]),
        ("jpeg:q=50,50.0,40..60/10", [50, 40, 60]),
        ("jpeg:q=7", [7]),
    ],
)
def test_lists_and_ranges(text, qualities):
    assert settings(text) == [f"q={quality}" for quality in qualities]


def test_ranges_of_fractions_are_exact():
    assert settings(f"{SMALL}:q=0.1..0.5/0.1") == ["q=0.1", "q=0.2", "q=0.3", "q=0.4", "q=0.5"]
    assert settings(f"{SMALL}:q=0..1.5") == ["q=0", "q=0.3", "q=0.6", "q=0.9", "q=1.2", "q=1.5"]


def test_a_comma_starts_the_next_key_where_one_follows():
    [curve] = parse_spec("avif:q=20..80/15,speed=8")
    assert curve.name == "avif:speed=8"
    assert list(curve.settings) == ["q=20", "q=35", "q=50", "q=65", "q=80"]
    assert curve.settings["q=35"] == {"q": "35", "speed": "8", "subsampling": "4:4:4", "scale": "1"}


def test_values_of_a_fixed_key_are_curves_and_names_do_not_depend_on_the_order():
    assert [c.name for c in parse_spec("avif:subsampling=4:2:0,4:4:4,speed=8")] == [
        "avif:speed=8,subsampling=4:2:0",
        "avif:speed=8,subsampling=4:4:4",
    ]


def test_defaults():
    [curve] = parse_spec("walloc-12")
    assert curve.name == "walloc-12"
    assert len(curve.settings) == 6
    assert list(parse_spec("png")[0].settings) == [""]


def test_several_specs_of_one_curve_are_one():
    curves = parse_specs(["jpeg:q=10,20", "webp:q=5", "jpeg:q=20,30"])
    assert [(c.name, list(c.settings)) for c in curves] == [
        ("jpeg", ["q=10", "q=20", "q=30"]),
        ("webp", ["q=5"]),
    ]


def test_curves_travel_to_other_processes():
    [curve] = parse_spec("jpeg:q=10")
    assert pickle.loads(pickle.dumps(curve)).codec("q=10").options["quality"] == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jpeg:quality=10", "jpeg has no option 'quality'; it has q, subsampling"),
        ("jpeg:q=101", "q=101 is not a whole number 0..100"),
        ("jpeg:q=1.5", "whole number"),
        ("jpeg:q=", "whole number"),
        ("jpeg:q=1,,2", "whole number"),
        ("jpeg:subsampling=4:1:1", "4:2:0, 4:2:2, 4:4:4"),
        ("walloc-12:q=nan", "a number 0..100"),
        ("walloc-12:e=0", "1..10"),
        ("jpeg:50", "has no key"),
        (":q=1", "names no codec"),
        ("jpeg:q=90..10", "backwards"),
        ("jpeg:q=1..2/0", "step above zero"),
        ("jpeg:q=0..100/0.0001", "more than 1000"),
        ("jpeg:q=1,q=2", "twice"),
    ],
)
def test_what_is_wrong_is_said(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_spec(text)
    assert "\n" not in str(caught.value)


def test_unknown_codecs_name_the_known():
    with pytest.raises(UnknownSystemError, match=r"walloc-12.*jpeg.*avif"):
        parse_spec("jpge:q=10")
