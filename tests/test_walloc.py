import numpy as np
import pytest
import torch

import codec
from codec import checkpoint
from codec.engine import images
from codec.evaluation.bd import rate_at
from codec.media.image import Image
from codec.models import walloc
from codec.models.layers import precision, transform_codec
from codec.models.layers.refine import refine, soft_round
from codec.system import no_progress

from support import SMALL, picture_of


def decode_with_tile(monkeypatch, data: bytes, side: int) -> np.ndarray:
    monkeypatch.setattr(transform_codec, "TILE_PIXELS", side)
    return codec.decode(data).samples


def test_tiles_leave_no_seams(monkeypatch):
    """Encoded and decoded in tiles of 64 pixels, a picture is what it is in one piece."""
    picture = picture_of((200, 264, 3))
    monkeypatch.setattr(transform_codec, "TILE_PIXELS", 1 << 20)
    whole = codec.encode(picture, model=SMALL, quality=60)
    monkeypatch.setattr(transform_codec, "TILE_PIXELS", 64)
    assert codec.encode(picture, model=SMALL, quality=60) == whole
    one, many = (decode_with_tile(monkeypatch, whole, side) for side in (1 << 20, 64))
    np.testing.assert_array_equal(one, many)


def test_units_tile_the_symbols(small_system):
    params = {"width": 2100, "height": 1025, "quality": 0, "gray": 0, "deep": 0, "kind": 0}
    covered = np.zeros(small_system.shapes(params)["y"], int)
    for spec in small_system.units(params):
        covered[spec.regions["y"]] += 1
        rows, cols, _ = spec.regions["y"]
        assert spec.params["grid"] == (1, rows.stop - rows.start, cols.stop - cols.start)
    assert (covered == 1).all()
    assert len(small_system.units(params)) == 6


def test_many_units_decode_in_any_number_of_threads():
    picture = picture_of((24, 3000, 3))
    data = codec.encode(picture, model=SMALL, quality=50)
    assert codec.open(data).info.units == 3
    assert codec.decode(data).samples.shape == picture.shape


def test_effort_saves_bits_at_equal_psnr(photo):
    """In real bytes and decoded pixels, against the curve of effort 1."""
    original = Image(photo)

    def point(quality: float, effort: int) -> tuple[int, float]:
        seen = []
        data = codec.encode(photo, model="walloc-12", quality=quality, effort=effort, progress=seen.append)
        assert seen == sorted(seen)
        return len(data), codec.psnr_of(codec.decode(data), original)

    curve = list(zip(*(point(quality, 1) for quality in (0, 20, 40, 60, 80, 100)), strict=True))
    size, psnr = point(65, 4)
    assert size < 0.95 * rate_at(*curve, psnr)


def test_refinement_never_gives_a_worse_cost():
    y = torch.randn(1, 3, 4, 4)
    cost = lambda z: (z - 0.3).abs().sum()
    best = refine(cost, y, 4, no_progress)
    assert torch.equal(best, best.round())
    assert cost(best) <= cost(torch.floor(y + 0.5))
    assert torch.equal(refine(cost, y, 4, no_progress), best)


def test_refinement_moves_across_rounding_boundaries():
    y = torch.full((1, 1, 8, 8), 0.6)
    best = refine(lambda z: (z * 3).abs().sum(), y, 8, no_progress)
    assert best.abs().sum() < 16


def test_soft_round_runs_from_identity_to_rounding():
    x = torch.linspace(-3, 3, 61)
    torch.testing.assert_close(soft_round(x, 0.01), x, atol=1e-3, rtol=0)
    away = x[(x - x.round()).abs() < 0.4]
    torch.testing.assert_close(soft_round(away, 100.0), away.round(), atol=1e-3, rtol=0)


def test_compander_inverts():
    compander = walloc.Compander(4)
    y = torch.randn(2, 4, 5, 5) * 20
    torch.testing.assert_close(compander.expand(compander(y)), y, atol=1e-3, rtol=1e-4)


def test_float32_and_bfloat16_synthesis_agree(monkeypatch, photo):
    """Symbols equal, pixels close: what other processors decode."""
    data = codec.encode(photo, model=SMALL, quality=60)
    pictures, digests = [], set()
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(walloc, "fast_dtype", lambda device, dtype=dtype: dtype)
        checkpoint._load.cache_clear()
        pictures.append(codec.decode(data).samples.astype(int))
        digests.add(codec.open(data).symbols_digest())
    checkpoint._load.cache_clear()
    assert len(digests) == 1
    assert np.abs(pictures[0] - pictures[1]).max() <= 2


def test_fast_dtype_is_for_this_processor():
    assert precision.fast_dtype("cpu") in (torch.float32, torch.bfloat16)
    assert precision.fast_dtype("cuda") == torch.bfloat16


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_pictures(level):
    picture = np.full((40, 40, 3), level, np.uint8)
    decoded = codec.decode(codec.encode(picture, model=SMALL, quality=90))
    assert np.abs(decoded.samples.astype(int) - level).mean() < 8


def test_extreme_samples_stay_in_range():
    rng = np.random.default_rng(0)
    picture = Image((rng.integers(0, 2, (64, 64, 3)) * 65535).astype(np.uint16))
    info = checkpoint.find_model(SMALL)
    system = checkpoint.load(info)
    data = images.encode(picture, info, system, quality=100)
    assert codec.decode(data).samples.shape == (64, 64, 3)
