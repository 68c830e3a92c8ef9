import bjontegaard
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis.strategies import data, floats, integers, lists, tuples

from codec.errors import RateError
from codec.evaluation.bd import bd_psnr, bd_rate, rate_at

# CompressAI's published Kodak curves (results/image/kodak): the first of each pair is bits per pixel, then PSNR in dB.
VTM = ([0.0635, 0.1223, 0.2141, 0.3472, 0.5395, 0.8019], [26.48, 28.12, 29.92, 31.93, 34.09, 36.35])
RATE, QUALITY = np.array([0.1, 0.2, 0.4, 0.8, 1.6]), np.array([28.0, 30.5, 33.0, 35.8, 38.9])


def test_a_constant_factor_in_rate():
    assert bd_rate(RATE, QUALITY, RATE * 0.8, QUALITY).value == pytest.approx(-20)
    assert bd_rate(RATE, QUALITY, RATE, QUALITY).value == pytest.approx(0)


def test_a_constant_gain_in_quality():
    assert bd_psnr(RATE, QUALITY, RATE, QUALITY + 0.7).value == pytest.approx(0.7)


def test_overlap_and_order():
    half = bd_rate(RATE, QUALITY, RATE * 2, QUALITY + 5.45)
    assert half.overlap == pytest.approx(0.5)
    shuffled = np.array([3, 0, 4, 1, 2])
    assert bd_rate(RATE, QUALITY, RATE[shuffled] * 0.8, QUALITY[shuffled]).value == pytest.approx(-20)


def test_swapping_inverts():
    other = np.array(VTM[0]), np.array(VTM[1])
    forward = bd_rate(RATE, QUALITY, *other).value
    backward = bd_rate(*other, RATE, QUALITY).value
    assert (1 + forward / 100) * (1 + backward / 100) == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(data())
def test_the_bjontegaard_package_agrees(draw):
    curves = []
    for _ in range(2):
        count = draw.draw(integers(4, 9))
        steps = draw.draw(lists(tuples(floats(0.05, 2), floats(0.05, 4)), min_size=count, max_size=count))
        log_rate, quality = np.cumsum(steps, axis=0).T
        curves += [np.exp(log_rate - 4), quality + 25]
    low, high = (pick(curves[1][end], curves[3][end]) for pick, end in ((max, 0), (min, -1)))
    rates = (max(curves[0][0], curves[2][0]), min(curves[0][-1], curves[2][-1]))
    assume(high - low > 0.01 and np.log(rates[1] / rates[0]) > 0.01)
    options = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}
    assert bd_rate(*curves).value == pytest.approx(bjontegaard.bd_rate(*curves, **options), rel=1e-6, abs=1e-6)
    assert bd_psnr(*curves).value == pytest.approx(bjontegaard.bd_psnr(*curves, **options), rel=1e-6, abs=1e-6)


def test_rate_at_the_knots_and_between():
    for rate, quality in zip(RATE, QUALITY, strict=True):
        assert rate_at(RATE, QUALITY, quality) == pytest.approx(rate)
    assert 0.2 < rate_at(RATE, QUALITY, 31) < 0.4


@pytest.mark.parametrize(
    ("rate", "quality", "message"),
    [
        (RATE[:3], QUALITY[:3], "at least 4"),
        (RATE, QUALITY + 50, "common range"),
        (RATE, np.array([28, 30, 29, 31, 33]), "rise"),
        (RATE, np.array([28, 30, np.nan, 31, 33]), "rise"),
    ],
)
def test_refusals(rate, quality, message):
    with pytest.raises(RateError, match=message):
        bd_rate(RATE, QUALITY, rate, quality)
