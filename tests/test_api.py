import io
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import torch

import codec
from codec import rate
from codec.errors import LimitError, MissingModelError, ModelError, RateError, UnknownSystemError

from support import DATA, SMALL


def run_python(script: str, cwd=None) -> str:
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_public_names_exist():
    for name in codec.__all__:
        assert getattr(codec, name) is not None
    assert dir(codec) == sorted(codec.__all__)
    with pytest.raises(AttributeError, match="no attribute"):
        codec.nothing  # noqa: B018


def test_importing_is_free():
    heavy = "{'torch', 'numpy', 'PIL', 'constriction', 'rich', 'av'} & set(sys.modules)"
    assert run_python(f"import sys, codec; print({heavy})") == "set()"


def test_inspecting_needs_no_torch(small_stream, tmp_path):
    path = tmp_path / "a.lcb"
    path.write_bytes(small_stream)
    script = f"import sys, codec; print(codec.open({str(path)!r}).info.width, 'torch' in sys.modules)"
    assert run_python(script) == "56 False"


def test_bare_models_is_not_importable(tmp_path):
    script = "import importlib.util; print(importlib.util.find_spec('models'), importlib.util.find_spec('cli'))"
    assert run_python(script, cwd=tmp_path) == "None None"


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "file", "pillow", "array", "tensor", "value"])
def test_sources_of_encode_agree(kind):
    path = DATA / "parrots.png"
    with PIL.Image.open(path) as image:
        image.load()
    array = np.asarray(image)
    source = {
        "path": path,
        "text": str(path),
        "bytes": path.read_bytes(),
        "file": io.BytesIO(path.read_bytes()),
        "pillow": image,
        "array": array,
        "tensor": torch.from_numpy(array.copy()).permute(2, 0, 1),
        "value": codec.read(path),
    }[kind]
    assert codec.encode(source, model=SMALL, quality=30) == codec.encode(path, model=SMALL, quality=30)


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "view", "file"])
def test_sources_of_open(kind, small_stream, tmp_path):
    path = tmp_path / "a.lcb"
    path.write_bytes(small_stream)
    source = {
        "path": path,
        "text": str(path),
        "bytes": small_stream,
        "view": memoryview(small_stream),
        "file": io.BytesIO(small_stream),
    }[kind]
    assert codec.open(source).info.bytes == len(small_stream)


def test_info_and_parts(small_stream):
    stream = codec.open(small_stream)
    info = stream.info
    assert (info.width, info.height, info.channels, info.bit_depth, info.kind) == (56, 40, 3, 8, "image")
    assert info.bpp == 8 * len(small_stream) / (56 * 40) == rate.bits_per_pixel(info.bytes, 56, 40)
    assert info.model == SMALL
    assert info.bytes - info.payload_bytes <= 32
    assert stream.symbols()["y"].shape == (5, 7, 12)
    assert stream.latents().shape == (12, 5, 7)
    assert stream.problems() == []
    assert "56x40" in repr(stream)
    assert repr(stream.decode()) == "Image(56x40x3 uint8)"


def test_latents_are_sixteen_times_fewer(photo):
    picture = photo[:144, :200]
    latents = codec.open(codec.encode(picture, model="walloc-12")).latents()
    assert latents.numel() * 16 == picture.size


@pytest.mark.parametrize("target", [{"target_size": 900}, {"bpp": 0.3}])
def test_size_targets_are_met_closely(target, photo):
    data = codec.encode(photo, model=SMALL, **target)
    limit = target.get("target_size") or target["bpp"] * photo.shape[0] * photo.shape[1] / 8
    assert 0.9 * limit < len(data) <= limit


def test_psnr_target_is_met_at_the_lowest_quality(photo):
    original = codec.read(photo)
    target = codec.psnr_of(codec.decode(codec.encode(photo, model=SMALL, quality=50)), original) - 0.01
    data = codec.encode(photo, model=SMALL, psnr=target)
    quality = codec.open(data).info.quality
    assert codec.psnr_of(codec.decode(data), original) >= target
    assert quality == pytest.approx(50, abs=2)
    below = codec.encode(photo, model=SMALL, quality=quality - 2)
    assert codec.psnr_of(codec.decode(below), original) < target


@pytest.mark.parametrize("target", [{"target_size": 40}, {"bpp": 0.001}, {"psnr": 80.0}])
def test_targets_out_of_reach(target, photo):
    with pytest.raises(RateError, match="out of reach"):
        codec.encode(photo, model=SMALL, **target)


@pytest.mark.parametrize("steps", [0, 1, 511, 1023, 1024])
def test_bisection_finds_the_boundary(steps):
    from codec.params import quality_index

    attempt = lambda quality: quality_index(quality)
    assert rate.largest_below(attempt, float, steps, "x") == steps
    assert rate.smallest_above(attempt, float, steps, "x") == steps


def test_option_errors(photo):
    with pytest.raises(ValueError, match="exclude"):
        codec.encode(photo, quality=3, bpp=1)
    with pytest.raises(ValueError, match="quality"):
        codec.encode(photo, quality=101)
    with pytest.raises(ValueError, match="effort"):
        codec.encode(photo, effort=11)
    with pytest.raises(MissingModelError, match="installed"):
        codec.encode(photo, model="nothing")
    with pytest.raises(ModelError, match="device"):
        codec.encode(photo, device="tpu")


def test_psnr_of():
    a, b = (codec.read(np.full((4, 4, 3), value, np.uint8)) for value in (10, 13))
    assert codec.psnr_of(a, b) == pytest.approx(20 * np.log10(255 / 3))
    assert codec.psnr_of(a, a) == np.inf


def test_limits_are_checked_before_decoding(small_stream):
    with pytest.raises(LimitError, match="max-pixels"):
        codec.decode(small_stream, max_pixels=100)
    with pytest.raises(LimitError, match="max-memory"):
        codec.decode(small_stream, max_memory=100)


def test_models_that_are_missing_are_named(small_stream, monkeypatch):
    monkeypatch.delenv("CODEC_MODELS")
    stream = codec.open(small_stream)
    assert stream.info.model is None
    with pytest.raises(MissingModelError, match=stream.info.digest):
        stream.decode()


def test_unknown_systems_are_named(small_stream):
    from dataclasses import replace

    from codec import container

    parsed = container.parse(small_stream)
    stream = codec.open(replace(parsed, system="nonesuch").pack())
    assert stream.info.system == "nonesuch"
    with pytest.raises(UnknownSystemError, match="nonesuch"):
        stream.decode()


def test_models_cannot_be_swapped_unnoticed(tmp_path, monkeypatch):
    import shutil

    from codec import checkpoint
    from codec.errors import ModelMismatchError

    info = checkpoint.find_model(SMALL)
    shutil.copytree(info.folder, tmp_path / "copy")
    weights = tmp_path / "copy" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(ModelMismatchError, match="digest"):
        checkpoint.load(checkpoint.find_model(str(tmp_path / "copy")))
    (tmp_path / "copy" / "model.json").write_text("{}")
    monkeypatch.setenv("CODEC_MODELS", str(tmp_path))
    with pytest.raises(ModelError, match="not a model description"):
        codec.installed_models()
