import io

import numpy as np
import PIL.Image
import pytest

import codec
import codec.pillow

from support import DATA, SMALL


@pytest.mark.parametrize("name", ["parrots.png", "gray.png", "alpha.png", "deep.png", "rotated.jpg"])
def test_image_open(name, tmp_path):
    data = codec.encode(DATA / name, model=SMALL, quality=70)
    path = tmp_path / "a.lcb"
    path.write_bytes(data)
    expected = codec.decode(data)
    with PIL.Image.open(path) as image:
        assert image.format == "LCB"
        assert image.size == (expected.width, expected.height)
        mode = image.mode
        pixels = np.asarray(image)
        assert image.mode == mode
        assert image.info.get("icc_profile") == expected.metadata.get("icc")
    samples = expected.samples if expected.alpha is None else np.dstack([expected.samples, expected.alpha])
    np.testing.assert_array_equal(pixels, samples.squeeze(-1) if samples.shape[2] == 1 else samples)


def test_image_save():
    out = io.BytesIO()
    with PIL.Image.open(DATA / "parrots.png") as image:
        image.save(out, "LCB", quality=20, model=SMALL)
    assert out.getvalue() == codec.encode(DATA / "parrots.png", model=SMALL, quality=20)


def test_damage(small_stream):
    with pytest.raises(PIL.UnidentifiedImageError):
        PIL.Image.open(io.BytesIO(small_stream[:-3]))
