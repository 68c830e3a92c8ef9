import pytest
import torch

from codec.coding import exact
from codec.coding.coder import RateMeter
from codec.coding.distributions import ScaleMixture
from codec.models.layers import motion
from codec.models.layers.motion_choice import BlockErrors, choose
from codec.models.layers.motion_prior import VectorPrior
from codec.models.layers.quincunx import Lattice

from support import picture_of

EVERYWHERE = Lattice(slice(None), slice(None))


@pytest.fixture
def prior() -> VectorPrior:
    torch.manual_seed(0)
    prior = VectorPrior(8, 1)
    exact.freeze(prior)
    return prior


def scene(height: int = 96, width: int = 128) -> torch.Tensor:
    return torch.from_numpy(picture_of((height, width, 3))).permute(2, 0, 1)[None] / 255 - 0.5


@torch.no_grad()
@pytest.mark.parametrize("followed", [True, False])
def test_prices_are_what_coding_costs(prior, followed):
    shape = ScaleMixture().double()
    vectors = torch.randint(-1, 2, (1, 17, 21, 2)).double() * 3
    vectors[:, :8] = 5
    before = torch.randint(-1, 2, vectors.shape).double() * 3 if followed else None
    conditions = torch.zeros(1, 17, 21, 1).double()
    bits = []

    def decide(at, sites):
        given = at.read(vectors)
        both = torch.stack([given + 1000, given])  # further choices change nothing
        bits.append(prior.prices(shape, both, sites)[1].sum())
        return given

    assert torch.equal(prior.walk(before, conditions, decide), vectors)
    meter = _Sum(shape)
    prior.code(meter, vectors, before, conditions)
    assert float(sum(bits)) == pytest.approx(meter.bits, rel=1e-9)


class _Sum:
    """A RateMeter that may be given some of the sites."""

    def __init__(self, shape: ScaleMixture) -> None:
        self._shape, self.bits = shape, 0.0

    def __call__(self, symbols, *parameters):
        meter = RateMeter(self._shape, noise=False)
        out = meter(symbols, *parameters)
        self.bits += float(meter.bits.sum())
        return out


def chosen(prior: VectorPrior, found: torch.Tensor, errors: BlockErrors, worth: float) -> torch.Tensor:
    like = found.new_zeros(1, 1, 1, 2)
    conditions = torch.zeros_like(found[..., :1])
    return choose(
        prior, ScaleMixture().double(), found, None, conditions, everywhere=like, errors=errors, worth=worth
    )  # fmt: skip


@torch.no_grad()
def test_vectors_are_kept_that_are_worth_their_bits(prior):
    x = scene()
    pan = torch.tensor([8.0, -12.0]).double().expand(1, 12, 16, 2)
    errors = BlockErrors(motion.compensate(x, pan.float()), x)
    found = pan.clone()
    found[:, 3::4, 3::4] += 40  # wrong, and dear
    kept = chosen(prior, found, errors, worth=1.0)
    assert (kept == pan).all(-1).float().mean() > 0.97
    cheap = chosen(prior, found, errors, worth=1e9)  # whatever that does to the picture
    assert len(cheap.flatten(0, 2).unique(dim=0)) <= 4  # those of the first pass have nobody to follow
    two = pan.clone()
    two[:, :, 8:] = 0
    errors = BlockErrors(torch.cat([motion.compensate(x, pan.float())[..., :64], x[..., 64:]], -1), x)
    assert (chosen(prior, two, errors, worth=1.0) == two).all(-1).float().mean() > 0.9


def test_errors_are_those_of_the_best_of_two_predictions():
    x = scene()
    none, some = torch.zeros(1, 192, 2), torch.full((1, 192, 2), 8.0)
    assert float(BlockErrors(x, x)(EVERYWHERE, none).max()) < 1e-2
    alone = BlockErrors(x, x.roll(2, -1))(EVERYWHERE, some)
    assert float(BlockErrors(x, x.roll(2, -1), x)(EVERYWHERE, some).max()) < 1e-2
    assert float(alone.mean()) > 1
    lighter, darker = x + 0.05, x - 0.05
    assert float(BlockErrors(x, lighter, darker)(EVERYWHERE, none).max()) < 1e-2
    part = Lattice(slice(1, None, 4), slice(2, None, 2))
    picked = torch.zeros(1, 12, 16, dtype=torch.bool)
    picked[:, part.rows, part.cols] = True
    expected = alone[picked.flatten(1)]
    assert torch.equal(BlockErrors(x, x.roll(2, -1))(part, some[:, : len(expected)])[0], expected)
