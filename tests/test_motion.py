import pytest
import torch

from codec.coding import exact
from codec.models.layers import motion
from codec.models.layers.motion import Search, compensate, dominant
from codec.models.layers.motion_prior import FlagPrior, VectorPrior

from support import picture_of


def scene(height: int = 64, width: int = 80) -> torch.Tensor:
    torch.manual_seed(0)
    texture = torch.nn.functional.interpolate(
        torch.rand(1, 3, height // 4, width // 4), (height, width), mode="bicubic"
    )
    return texture + torch.from_numpy(picture_of((height, width, 3))).permute(2, 0, 1)[None] / 255 - 1


def test_no_motion_is_the_reference_itself():
    x = scene()
    assert compensate(x, torch.zeros(1, 8, 10, 2)) is x


@pytest.mark.parametrize("shift", [(3, -2), (0, 5), (-4, 0)])
def test_whole_pixels_only_move(shift):
    x = scene()
    vectors = torch.tensor(shift).float().mul(motion.UNITS).expand(1, 8, 10, 2)
    moved = compensate(x, vectors)[..., 8:-8, 8:-8]
    assert (moved - x.roll([-n for n in shift], (-2, -1))[..., 8:-8, 8:-8]).abs().max() < 1e-3


def test_blocks_that_move_differently_leave_no_edge():
    x = torch.linspace(-0.4, 0.4, 80).expand(1, 3, 64, 80).contiguous()
    vectors = torch.zeros(1, 8, 10, 2)
    vectors[:, :, 5:, 1] = 16
    steps = compensate(x, vectors).diff(dim=-1)[..., 8:-8]
    assert steps.max() < 2.1 * (0.8 / 79)


@pytest.mark.parametrize("shift", [(3, -2), (0, 0), (-17, 9), (0.5, 1.25)])
@pytest.mark.parametrize("fast", [True, False])
def test_search_finds_pans(shift, fast):
    x = scene(96, 128)
    vectors = torch.tensor(shift).float().mul(motion.UNITS).expand(1, 12, 16, 2)
    found = Search(compensate(x, vectors), x, 1.0, fast=fast).run(torch.zeros_like(vectors))
    inner = (found - vectors)[:, 3:-3, 3:-3].abs().amax(-1)
    assert (inner <= 1).float().mean() > 0.95


def test_dominant_vector():
    vectors = torch.zeros(2, 3, 3, 2)
    vectors[1, 0] = vectors[1, 1] = torch.tensor([4.0, -8.0])
    assert dominant(vectors).tolist() == [[0, 0], [4, -8]]


PRIORS = {"vectors": (VectorPrior, 2), "flags": (FlagPrior, 1)}


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 3), (17, 21)])
def test_priors_decode_in_the_order_they_encode(name, shape):
    torch.manual_seed(0)
    cls, channels = PRIORS[name]
    prior = cls(8, 3)
    exact.freeze(prior)
    values = torch.randint(0, 2, (1, *shape, channels)).double() * (1 if channels == 1 else 12)
    conditions = torch.randint(-2, 3, (1, *shape, 3)).double()
    extra = () if channels == 1 else (torch.randint(-9, 9, values.shape).double(),)
    written = []

    def writer(given, location, log2_scale):
        written.append((given, location, log2_scale))
        return given

    assert torch.equal(prior.code(writer, values, *extra, conditions), values)
    assert sum(given.shape[1] for given, _, _ in written) >= shape[0] * shape[1]

    def reader(given, location, log2_scale):
        assert given is None
        symbols, *parameters = written.pop(0)
        assert torch.equal(location, parameters[0])
        assert torch.equal(log2_scale, parameters[1])
        return symbols

    assert torch.equal(prior.code(reader, None, *extra, conditions), values)


def test_vectors_are_expected_where_their_neighbours_are():
    prior = VectorPrior(8, 1)
    values = torch.tensor([8.0, -4.0]).expand(1, 16, 16, 2)
    flags = []

    def coder(given, location, log2_scale):
        if location.min() != location.max() or not set(given.flatten().tolist()) - {0, 1}:
            flags.extend(given.flatten().tolist())
        return given

    prior.code(coder, values, None, torch.zeros(1, 16, 16, 1))
    assert len(flags) == 16 * 16
    assert sum(flags) == 4  # those of the first pass know of none
