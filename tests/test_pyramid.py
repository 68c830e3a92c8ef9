import pytest

from codec.models.layers import pyramid


@pytest.mark.parametrize("span", [1, 2, 3, 4, 6, 8, 16, 32])
@pytest.mark.parametrize("frames", [1, 2, 3, 8, 9, 10, 33, 40])
def test_every_frame_has_its_turn_after_those_it_needs(frames, span):
    done = set()
    for turn in pyramid.turns(frames, span):
        needed = {index for index in (turn.past, turn.ahead) if index is not None}
        assert needed <= done
        assert turn.index not in done
        assert 0 <= turn.depth < pyramid.depths(span)
        assert turn.past is None or turn.past < turn.index
        assert turn.ahead is None or turn.index < turn.ahead
        done.add(turn.index)
    assert done == set(range(frames))


def test_a_chain_has_nothing_ahead():
    assert pyramid.turns(3, 1) == [(0, None, None, 0), (1, 0, None, 0), (2, 1, None, 0)]


def test_a_pyramid_halves():
    order = pyramid.turns(9, 8)
    assert [turn.index for turn in order] == [0, 8, 4, 2, 1, 3, 6, 5, 7]
    assert [turn.depth for turn in order] == [0, 0, 1, 2, 3, 3, 2, 3, 3]


@pytest.mark.parametrize("span", [1, 4, 8])
def test_frames_are_kept_until_their_last_use(span):
    order = pyramid.turns(20, span)
    until = pyramid.needed_until(order)
    for number, turn in enumerate(order):
        assert all(until[index] >= number for index in (turn.index, turn.past, turn.ahead) if index is not None)
    kept = [sum(until[t.index] > n for t in order[: n + 1]) for n in range(len(order))]
    assert max(kept) <= pyramid.depths(span) + 1
