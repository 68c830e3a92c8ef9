import numpy as np
import pytest
import torch
from PIL import Image

from codec.errors import RecipeError
from codec.training.films import Films
from codec.training.sources import dataset

from support import picture_of


@pytest.fixture
def folder(tmp_path):
    for i, shape in enumerate([(90, 120, 3), (100, 80, 3), (75, 75, 3)]):
        Image.fromarray(np.roll(picture_of(shape), 7 * i, 2)).save(tmp_path / f"{i}.png")
    return tmp_path


@pytest.fixture
def films(folder) -> Films:
    return Films([folder], smallest=64, frames=3)


def test_films_depend_on_the_seed_alone(films):
    a, b, other = (films.crops([1, step], 4, 48, [0, 1, 2]) for step in (5, 5, 6))
    assert a.shape == (4, 3, 3, 48, 48)
    assert a.dtype == torch.uint8
    assert torch.equal(a, b)
    assert not torch.equal(a, other)


def test_some_films_stand_still_and_others_move(films):
    crops = films.crops([3], 40, 32, [0, 1, 2]).float()
    change = (crops[:, 1:] - crops[:, :-1]).abs().mean((1, 2, 3, 4))
    assert (change == 0).any()
    assert (change > 5).sum() >= 5


def test_frames_show_the_same_scene(films):
    """What moves is the picture: frames are nearer to each other than to other films."""
    crops = films.crops([4], 30, 48, [0, 1, 2]).float()
    within = (crops[:, 1] - crops[:, 0]).abs().mean((1, 2, 3))
    across = (crops[:, 0] - crops.roll(1, 0)[:, 0]).abs().mean((1, 2, 3))
    assert within.median() < 0.5 * across.median()


def test_validation_films_are_fixed(tmp_path):
    Image.fromarray(picture_of((280, 300, 3))).save(tmp_path / "a.png")
    films = Films([tmp_path], smallest=64, frames=3)
    assert films.centres([0]).shape == (1, 3, 3, 256, 256)
    assert torch.equal(films.centres([0]), films.centres([0]))


def test_signals_keep_their_frames(films):
    signal = films.signal(films.crops([1], 2, 32, [0]))
    assert signal.shape == (2, 3, 3, 32, 32)
    assert -0.5 <= float(signal.min()) <= float(signal.max()) <= 0.5


class _System:
    media, fits, id, film = "video", False, "any", 3


def test_videos_are_trained_on_films_unless_they_are_fitted(folder):
    assert isinstance(dataset(_System(), [folder], smallest=64), Films)
    fitted = _System()
    fitted.fits = True
    with pytest.raises(RecipeError, match="no training"):
        dataset(fitted, [folder], smallest=64)
