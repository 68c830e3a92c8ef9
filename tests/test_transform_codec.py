"""What walloc and waveprior share, run over the small network of each."""

import numpy as np
import pytest
import torch

import codec
from codec import checkpoint
from codec.engine import images
from codec.evaluation.bd import rate_at
from codec.media.image import Image
from codec.models import walloc, waveprior
from codec.models.layers import transform_codec

from support import picture_of


@pytest.fixture(params=["walloc-conformance", "waveprior-conformance"])
def model(request) -> str:
    return request.param


def decode_with_tile(monkeypatch, data: bytes, side: int) -> np.ndarray:
    monkeypatch.setattr(transform_codec, "TILE_PIXELS", side)
    return codec.decode(data).samples


def test_tiles_leave_no_seams(model, monkeypatch):
    """Encoded and decoded in tiles of 64 pixels, a picture is what it is in one piece."""
    picture = picture_of((200, 264, 3))
    monkeypatch.setattr(transform_codec, "TILE_PIXELS", 1 << 20)
    whole = codec.encode(picture, model=model, quality=60)
    monkeypatch.setattr(transform_codec, "TILE_PIXELS", 64)
    assert codec.encode(picture, model=model, quality=60) == whole
    one, many = (decode_with_tile(monkeypatch, whole, side) for side in (1 << 20, 64))
    np.testing.assert_array_equal(one, many)


def test_units_tile_the_symbols(model):
    params = {"width": 2100, "height": 1025, "quality": 0, "gray": 0, "deep": 0, "kind": 0}
    system = checkpoint.load(checkpoint.find_model(model))
    covered = {name: np.zeros(shape, int) for name, shape in system.shapes(params).items()}
    for spec in system.units(params):
        for name, region in spec.regions.items():
            covered[name][region] += 1
        rows, cols, _ = spec.regions["y"]
        assert spec.params["grid"] == (1, rows.stop - rows.start, cols.stop - cols.start)
    assert all((count == 1).all() for count in covered.values())
    assert len(system.units(params)) == 6


def test_many_units_decode_in_any_number_of_threads(model):
    picture = picture_of((24, 3000, 3))
    data = codec.encode(picture, model=model, quality=50)
    assert codec.open(data).info.units == 3
    assert codec.decode(data).samples.shape == picture.shape


@pytest.mark.parametrize("model", ["walloc-12"])
def test_effort_saves_bits_at_equal_psnr(model, photo):
    """Of networks that ship, in real bytes and decoded pixels, against the curve of effort 1."""
    original = Image(photo)

    def point(quality: float, effort: int) -> tuple[int, float]:
        seen = []
        data = codec.encode(photo, model=model, quality=quality, effort=effort, progress=seen.append)
        assert seen == sorted(seen)
        return len(data), codec.psnr_of(codec.decode(data), original)

    curve = list(zip(*(point(quality, 1) for quality in (0, 20, 40, 60, 80, 100)), strict=True))
    size, psnr = point(65, 4)
    assert size < 0.95 * rate_at(*curve, psnr)


def test_float32_and_bfloat16_synthesis_agree(model, monkeypatch, photo):
    """Symbols equal, pixels close: what other processors decode."""
    data = codec.encode(photo, model=model, quality=60)
    pictures, digests = [], set()
    for dtype in (torch.float32, torch.bfloat16):
        for module in (walloc, waveprior):
            monkeypatch.setattr(module, "fast_dtype", lambda device, dtype=dtype: dtype)
        checkpoint._load.cache_clear()
        pictures.append(codec.decode(data).samples.astype(int))
        digests.add(codec.open(data).symbols_digest())
    checkpoint._load.cache_clear()
    assert len(digests) == 1
    assert np.abs(pictures[0] - pictures[1]).max() <= 2


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_pictures(model, level):
    picture = np.full((40, 40, 3), level, np.uint8)
    decoded = codec.decode(codec.encode(picture, model=model, quality=90))
    assert np.abs(decoded.samples.astype(int) - level).mean() < 8


def test_extreme_samples_stay_in_range(model):
    rng = np.random.default_rng(0)
    picture = Image((rng.integers(0, 2, (64, 64, 3)) * 65535).astype(np.uint16))
    info = checkpoint.find_model(model)
    system = checkpoint.load(info)
    data = images.encode(picture, info, system, quality=100)
    assert codec.decode(data).samples.shape == (64, 64, 3)
