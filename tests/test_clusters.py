import itertools

import pytest
import torch

from codec.models.layers.clusters import Clusters


@pytest.fixture
def vectors() -> torch.Tensor:
    """Sixteen clouds of eight entries each."""
    generator = torch.Generator().manual_seed(0)
    centres = 4 * torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    return (centres[:, None] + 0.2 * torch.randn(16, 8, 2, generator=generator)).flatten(0, 1)


@pytest.fixture
def clusters(vectors) -> Clusters:
    made = Clusters(len(vectors), 4)
    made.start(vectors, torch.ones(len(vectors)))
    return made


def test_sizes_are_powers_of_two_and_all():
    assert Clusters(128, 4).sizes == (4, 8, 16, 32, 64, 128)
    assert Clusters(100, 16).sizes == (16, 32, 64, 100)
    assert Clusters(16, 16).sizes == (16,)


@pytest.mark.parametrize("smallest", [0, 1, 3, 256])
def test_other_beginnings_are_refused(smallest):
    with pytest.raises(ValueError, match="power of two"):
        Clusters(128, smallest)


def test_the_order_is_a_permutation(clusters):
    assert sorted(clusters.codes(128).tolist()) == list(range(128))


def test_a_part_has_an_entry_in_every_cloud(clusters):
    assert sorted((clusters.codes(16) // 8).tolist()) == list(range(16))


def test_each_size_halves_the_error_or_better(clusters, vectors):
    errors = []
    for size in clusters.sizes:
        chosen = vectors[clusters.codes(size)][clusters.nearest(vectors, vectors, size)]
        errors.append(float((chosen - vectors).square().mean()))
    assert all(b <= 0.6 * a for a, b in itertools.pairwise(errors))
    assert errors[-1] == 0


def test_ranks_count_within_the_part(clusters, vectors):
    ranks = clusters.nearest(vectors[:40].reshape(5, 8, 2), vectors, 16)
    assert ranks.shape == (5, 8)
    assert ranks.max() < 16


def test_entries_that_are_used_come_first(vectors):
    weights = torch.ones(128)
    weights[5::8] = 50  # the sixth of every cloud
    clusters = Clusters(128, 16)
    clusters.start(vectors, weights)
    assert (clusters.codes(16) % 8 == 5).sum() >= 12
