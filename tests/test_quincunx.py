import pytest
import torch

from codec.models.layers.quincunx import QuincunxPrior

SHAPES = [(1, 1), (1, 9), (7, 3), (8, 8), (17, 21), (33, 16)]


def make() -> QuincunxPrior:
    torch.manual_seed(0)
    prior = QuincunxPrior(5, (2, 3), 8)
    for module in prior.modules():
        if hasattr(module, "freeze"):
            module.freeze()
    return prior.double()


def run(prior: QuincunxPrior, values: torch.Tensor):
    """Return every (site, channel) in coding order with its location, feeding `values` [1, h, w, C]."""
    height, width = values.shape[1:3]
    sites = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), -1)[None]
    order = []

    def step(lattices, channels, location, log2_scale):
        where = torch.cat([at.read(sites) for at in lattices], 1)[0].tolist()
        for (row, col), values_of_site in zip(where, location[0].tolist(), strict=True):
            for channel, value in zip(range(channels.start, channels.stop), values_of_site, strict=True):
                order.append(((row, col, channel), value))
        return torch.cat([at.read(values[..., channels]) for at in lattices], 1)

    out = prior.code(step, 1, height, width, torch.zeros(1, 1).double())
    assert torch.equal(out, values)
    return order


@pytest.mark.parametrize("shape", SHAPES)
def test_every_symbol_is_coded_once(shape):
    order = [site for site, _ in run(make(), torch.zeros(1, *shape, 5).double())]
    assert sorted(order) == [(r, c, k) for r in range(shape[0]) for c in range(shape[1]) for k in range(5)]


def test_locations_depend_on_earlier_symbols_only():
    torch.manual_seed(1)
    values = torch.randint(-8, 8, (1, 17, 21, 5)).double()
    prior = make()
    before = run(prior, values)
    changed = 0
    for position in range(0, len(before), 97):
        row, col, channel = before[position][0]
        other = values.clone()
        other[0, row, col, channel] += 8
        after = run(prior, other)
        assert after[: position + 1] == before[: position + 1]
        changed += after != before
    assert changed > 5  # and they do depend on them


def test_neighbours_are_those_of_the_format_document():
    from codec.models.layers.quincunx import NEIGHBOURS

    from support import ROOT

    text = " ".join((ROOT / "bitstreams" / "FORMAT.md").read_text().split())
    for kind, offsets in NEIGHBOURS.items():
        assert f"{kind}: " + " ".join(f"({r},{c})" for r, c in offsets) in text
