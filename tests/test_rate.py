import pytest

from codec import rate
from codec.errors import RateError


@pytest.mark.parametrize("search", [rate.largest_below, rate.smallest_above])
def test_a_single_rate_is_tried_once(search):
    attempts = []

    def attempt(quality):
        attempts.append(quality)
        return 100.0

    assert search(attempt, float, 100, "a size", single=True) == 100
    assert len(attempts) == 1
    beyond = 99 if search is rate.largest_below else 101
    with pytest.raises(RateError, match="a size is out of reach: the model has a single rate, which gives 100"):
        search(attempt, float, beyond, "a size", single=True)
    assert len(attempts) == 2
