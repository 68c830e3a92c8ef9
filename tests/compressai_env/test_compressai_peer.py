"""CompressAI with its own coder, as a peer in evaluations."""

import numpy as np
import pytest
import torch

import codec
from codec import foreign
from codec.errors import CorruptError, ModelError
from codec.evaluation import compressai
from codec.media.image import Image

from support import DATA, picture_of


@pytest.fixture(scope="module")
def options(checkpoint_of) -> dict[str, str]:
    return {"arch": "bmshj2018-hyperprior", "checkpoint": str(checkpoint_of("bmshj2018-hyperprior"))}


def test_the_file_is_their_strings_and_their_header(options, checkpoint_of):
    picture = Image(np.tile(codec.read(DATA / "parrots.png").samples, (2, 2, 1))[:192, :256])
    made = compressai.peer.make(options)
    data = made.encode(picture)
    network = foreign.load_network(checkpoint_of(options["arch"]), options["arch"])
    x = torch.from_numpy(picture.samples).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        coded = network.compress(x)
        x_hat = network.decompress(coded["strings"], coded["shape"])["x_hat"]
    header = 2 + 8 + 1 + 8 + 4  # examples/codec.py: model, size, bit depth, shape, number of strings
    assert len(data) == header + sum(4 + len(string) for (string,) in coded["strings"])
    expected = (x_hat[0] * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
    assert np.array_equal(made.decode(data).samples, expected)


@pytest.mark.parametrize("shape", [(1, 1, 3), (65, 70, 3), (40, 33, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_picture(options, shape, dtype):
    made = compressai.peer.make(options)
    decoded = made.decode(made.encode(Image(picture_of(shape, dtype)))).samples
    assert decoded.shape == shape
    assert decoded.dtype == dtype


def test_cut_files_are_noticed(options):
    made = compressai.peer.make(options)
    data = made.encode(Image(picture_of((64, 64, 3))))
    for length in (0, 10, 24, len(data) - 1):
        with pytest.raises(CorruptError):
            made.decode(data[:length])


def test_descriptions_name_the_weights(options):
    for family in (compressai.peer, compressai.system):
        one, two = family.make(options | {"device": "cpu"}), family.make(options | {"device": "cpu"})
        assert one.version == two.version
        assert options["arch"] in one.version
    with pytest.raises(ModelError, match="not those"):
        compressai.peer.make(options | {"arch": "mbt2018"})
