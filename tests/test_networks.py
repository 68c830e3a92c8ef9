import torch

from codec.learning.networks import Classifier, Mapper, Shape, fold, folded


def used(shape: Shape) -> Classifier:
    """A classifier whose normalisations have seen something."""
    torch.manual_seed(0)
    network = Classifier(shape).train()
    for _ in range(3):
        network(torch.randn(4, shape.channels, 1 if shape.line else 32, 48) * 2 + 1)
    return network.eval()


def test_a_folded_network_gives_the_same():
    for shape in (Shape(3, 5, stem=(8, 16), widths=(16, 24)), Shape(12, 4, widths=(16, 24), line=True)):
        network = used(shape)
        x = torch.randn(2, shape.channels, 1 if shape.line else 40, 56)
        again = fold(network)
        torch.testing.assert_close(again(x), network(x), rtol=1e-4, atol=1e-4)
        assert not any("norm" in type(part).__name__.lower() for part in again.modules())
        other = folded(shape)
        other.load_state_dict(again.state_dict())
        torch.testing.assert_close(other(x), again(x))


def test_stages_can_be_entered_in_the_middle():
    network = used(Shape(3, 5, stem=(8,), widths=(8, 16, 24)))
    x = torch.randn(1, 3, 33, 47)
    for stage in range(4):
        torch.testing.assert_close(network.after(network.before(x, stage), stage), network(x))


def test_nothing_is_convolved_across_a_line():
    network = used(Shape(6, 3, widths=(8, 8), line=True))
    assert all(part.weight.shape[2] == 1 for part in network.modules() if isinstance(part, torch.nn.Conv2d))
    assert network(torch.randn(2, 6, 1, 100)).shape == (2, 3)


def test_a_mapper_keeps_the_grid():
    assert Mapper(12, 7, width=8, blocks=2)(torch.randn(2, 12, 9, 13)).shape == (2, 7, 9, 13)
    assert Mapper(12, 7, width=8, blocks=2, line=True)(torch.randn(2, 12, 1, 13)).shape == (2, 7, 1, 13)


def test_making_the_folded_form_draws_no_chance():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    folded(Shape(3, 5, widths=(8, 8)))
    assert torch.equal(torch.rand(3), expected)
