import pytest
import torch

from codec.models.layers.quincunx import QuincunxPrior

SHAPES = [(1, 1), (1, 9), (1, 301), (7, 3), (8, 8), (17, 21), (33, 16)]
OPTIONS = {
    "plain": {},
    "conditioned": {"conditions": 3, "far": 2, "shared": True},
    "line": {"line": True, "far": 2},
}


@pytest.fixture(params=OPTIONS)
def prior(request, shape) -> QuincunxPrior:
    torch.manual_seed(0)
    options = OPTIONS[request.param]
    if "line" in options and shape[0] > 1:
        pytest.skip("a line is one row")
    prior = QuincunxPrior(5, (2, 3), 8, **options)
    for module in prior.modules():
        if hasattr(module, "freeze"):
            module.freeze()
    return prior.double()


def run(prior: QuincunxPrior, values: torch.Tensor) -> tuple[list[float], list[float]]:
    """Return the symbols [1, h, w, C] and their locations in coding order."""
    symbols, locations = [], []

    def coder(given, location, log2_scale):
        symbols.extend(given.flatten().tolist())
        locations.extend(location.flatten().tolist())
        return given

    conditions = torch.full((1, 3 if prior.shared else 1), 0.5).double()
    out = prior.code(coder, values, (1, *values.shape[1:3]), torch.zeros(1, 5).double(), conditions)
    assert torch.equal(out, values)
    return symbols, locations


@pytest.mark.parametrize("shape", SHAPES)
def test_every_symbol_is_coded_once(prior, shape):
    names = torch.arange(shape[0] * shape[1] * 5).double().reshape(1, *shape, 5)
    assert sorted(run(prior, names)[0]) == names.flatten().tolist()


@pytest.mark.parametrize("shape", SHAPES)
def test_decoding_visits_the_same_sites(prior, shape):
    torch.manual_seed(2)
    values = torch.randint(-8, 8, (1, *shape, 5)).double()
    queue = run(prior, values)[0]

    def coder(given, location, log2_scale):
        assert given is None
        taken = [queue.pop(0) for _ in range(location.numel())]
        return torch.tensor(taken).double().reshape(location.shape)

    conditions = torch.full((1, *shape, 3 if prior.shared else 1), 0.5).double()
    assert torch.equal(prior.code(coder, None, (1, *shape), torch.zeros(1, 5).double(), conditions), values)


@pytest.mark.parametrize("shape", [(17, 21), (1, 301)])
def test_locations_depend_on_earlier_symbols_only(prior, shape):
    torch.manual_seed(1)
    names = torch.arange(shape[0] * shape[1] * 5).double().reshape(1, *shape, 5)
    order = [int(name) for name in run(prior, names)[0]]
    values = torch.randint(-8, 8, names.shape).double()
    before = run(prior, values)[1]
    changed = 0
    for position in range(0, len(before), 97):
        other = values.clone()
        other.view(-1)[order[position]] += 8
        after = run(prior, other)[1]
        assert after[: position + 1] == before[: position + 1]
        changed += after != before
    assert changed > 5  # and they do depend on them


def test_neighbours_are_those_of_the_format_document():
    from codec.models.layers.quincunx import NEIGHBOURS

    from support import ROOT

    text = " ".join((ROOT / "bitstreams" / "FORMAT.md").read_text().split())
    for kind, offsets in NEIGHBOURS.items():
        assert f"{kind}: " + " ".join(f"({r},{c})" for r, c in offsets) in text
