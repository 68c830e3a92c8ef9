"""Every quantizer is held to the same promises, then each to its own."""

import pytest
import torch

from codec.models.layers.quantizers import KINDS, base, build

WIDTH = 12
CONFIGS = {
    "residual": {"books": 4, "entries": 32},
    "grouped": {"groups": 2, "layers": 2, "entries": 32},
    "masked": {"books": 5, "entries": 32},
    "single": {"entries": 128},
    "projected": {"entries": 128},
    "fsq": {"levels": [8, 5, 5]},
}


def test_every_kind_is_tested():
    assert CONFIGS.keys() == KINDS.keys()


@pytest.fixture(params=sorted(CONFIGS))
def kind(request) -> str:
    return request.param


@pytest.fixture
def quantizer(kind):
    torch.manual_seed(1)
    made = build(WIDTH, {"kind": kind, **CONFIGS[kind]})
    made.initialize(points(600))
    return made


def points(count: int, seed: int = 2) -> torch.Tensor:
    """Vectors around a few centres, with channels of falling strength."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(20, WIDTH, generator=torch.Generator().manual_seed(0))
    chosen = centres[torch.randint(20, (count,), generator=generator)]
    return (chosen + 0.3 * torch.randn(count, WIDTH, generator=generator)) * torch.linspace(1.2, 0.3, WIDTH)


def train(quantizer, steps: int = 40) -> None:
    for step in range(steps):
        x = points(256, seed=100 + step).reshape(4, 64, WIDTH)
        quantizer(x.requires_grad_(), torch.full((4,), quantizer.books))


def test_codes_fit_the_books(quantizer):
    codes = quantizer.encode(points(50).reshape(5, 10, WIDTH))
    assert codes.shape == (5, 10, quantizer.books)
    assert codes.dtype == torch.int64
    assert codes.min() >= 0
    assert (codes < torch.tensor(quantizer.sizes)).all()


def test_training_and_coding_give_the_same_codes(quantizer):
    train(quantizer)
    x = points(60, seed=5).reshape(3, 20, WIDTH)
    with torch.no_grad():
        quantized = quantizer(x, torch.full((3,), quantizer.books))
    assert torch.equal(quantized.codes, quantizer.encode(x))
    torch.testing.assert_close(quantized.vectors, quantizer.decode(quantized.codes))


def test_fewer_books_are_a_prefix(quantizer):
    x = points(40)
    whole = quantizer.encode(x)
    for books in range(1, quantizer.books + 1):
        assert torch.equal(quantizer.encode(x, books), whole[:, :books])


def test_dropped_books_add_nothing(quantizer):
    x = points(40).reshape(2, 20, WIDTH)
    keep = torch.tensor([1, quantizer.books])
    with torch.no_grad():
        vectors = quantizer(x, keep).vectors
    codes = quantizer.encode(x)
    torch.testing.assert_close(vectors[0], quantizer.decode(codes[0, :, :1]))
    torch.testing.assert_close(vectors[1], quantizer.decode(codes[1]))
    padded = torch.cat([codes[0, :, :1], torch.full((20, quantizer.books - 1), base.NOTHING)], 1)
    torch.testing.assert_close(quantizer.decode(padded), vectors[0])


def test_the_gradient_passes_straight_through(quantizer):
    x = points(40).reshape(2, 20, WIDTH).requires_grad_()
    quantized = quantizer(x, torch.full((2,), quantizer.books))
    quantized.vectors.sum().backward()
    slope = 1 - torch.tanh(x.detach()) ** 2 if type(quantizer).__name__ == "FiniteScalar" else torch.ones_like(x)
    torch.testing.assert_close(x.grad, slope)


def test_more_books_are_nearer(quantizer):
    train(quantizer)
    x = points(200, seed=9)
    target = torch.tanh(x) if type(quantizer).__name__ == "FiniteScalar" else x
    errors = [
        float((quantizer.decode(quantizer.encode(x, k)) - target).pow(2).mean()) for k in range(1, quantizer.books + 1)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * float(target.var())


def test_frozen_vectors_are_dyadic(quantizer):
    quantizer.freeze()
    for book in range(quantizer.books):
        scaled = quantizer.vectors(book) * 2.0**base.ENTRY_BITS
        assert scaled.dtype == torch.float64
        assert torch.equal(scaled, scaled.round())


def test_windows_apply_to_coding_as_to_training():
    masked = build(WIDTH, {"kind": "masked", **CONFIGS["masked"]})
    for book, (start, stop) in enumerate([(0, 4), (4, 8), (8, 12), (0, 12), (0, 12)]):
        vectors = masked.vectors(book)
        outside = torch.ones(WIDTH, dtype=torch.bool)
        outside[start:stop] = False
        assert not vectors[:, outside].any()
        assert vectors[:, ~outside].any(0).all()
    x = points(30)
    other = x.clone()
    other[:, 4:] += 1  # what the first book does not see
    assert torch.equal(masked.encode(x, 1), masked.encode(other, 1))


def test_groups_take_turns():
    grouped = build(WIDTH, {"kind": "grouped", **CONFIGS["grouped"]})
    assert [bool(grouped.vectors(book)[:, :6].any()) for book in range(4)] == [True, False, True, False]


def test_dead_entries_begin_anew():
    torch.manual_seed(0)
    single = build(WIDTH, {"kind": "single", "entries": 64})
    with torch.no_grad():
        single.tables[0].entries[:60] = 1e3  # nowhere near anything
    before = len(single.encode(points(500)).unique())
    train(single, 600)
    assert before <= 4
    assert len(single.encode(points(500)).unique()) > 40


def test_books_follow_what_chooses_them():
    torch.manual_seed(0)
    single = build(2, {"kind": "single", "entries": 2})
    single.tables[0].entries.copy_(torch.tensor([[-0.1, 0.0], [0.1, 0.0]]))
    x = torch.tensor([[-3.0, 1.0], [3.0, -1.0]]).repeat(50, 1)[None].requires_grad_()
    for _ in range(800):
        single(x, torch.tensor([1]))
    torch.testing.assert_close(single.tables[0].entries, torch.tensor([[-3.0, 1.0], [3.0, -1.0]]), atol=0.01, rtol=0)


def test_a_projection_moves_all_entries():
    torch.manual_seed(0)
    projected = build(WIDTH, {"kind": "projected", "entries": 128})
    projected.initialize(points(600))
    before, frozen = projected.entries.clone(), projected.frozen.clone()
    optimizer = torch.optim.SGD(projected.parameters(), 0.1)
    for _ in range(20):
        optimizer.zero_grad()
        projected((points(64)[None] * 2).requires_grad_(), torch.tensor([1])).loss.backward()
        optimizer.step()
    with torch.no_grad():
        after = projected.projector(frozen)
    assert torch.equal(projected.frozen, frozen)
    assert (after - before).abs().sum(1).min() > 0.01
    assert float(after.square().mean()) > 1.2 * float(before.square().mean())


def test_scalar_codes_are_numbers_in_mixed_radix():
    fsq = build(3, {"kind": "fsq", "levels": [8, 5, 5]})
    lowest, highest = torch.full((1, 3), -9.0), torch.full((1, 3), 9.0)
    assert fsq.encode(lowest).item() == 0
    assert fsq.encode(highest).item() == 199
    assert fsq.encode(torch.tensor([[9.0, -9.0, -9.0]])).item() == 7
    assert fsq.encode(torch.tensor([[-9.0, 9.0, -9.0]])).item() == 32
    torch.testing.assert_close(fsq.decode(torch.tensor([[32]])), torch.tensor([[-1.0, 1.0, -1.0]]))


@pytest.mark.parametrize(
    "config",
    [
        {"kind": "none"},
        {},
        {"kind": "grouped", "groups": 13, "layers": 1, "entries": 4},
        {"kind": "masked", "books": 2, "entries": 4},
        {"kind": "fsq", "levels": [5] * 5},
    ],
)
def test_what_does_not_fit_is_refused(config):
    with pytest.raises(ValueError, match=r"quantizer|cannot"):
        build(WIDTH, config)
