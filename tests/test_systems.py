"""Every installed model of every registered system, held to the same promises."""

import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
import torch

import codec
import codec.models
from codec import checkpoint
from codec.coding.coder import Reader, Writer
from codec.engine import units
from codec.media.image import Image
from codec.params import IMAGE
from codec.system import System, no_progress
from codec.task import TaskSystem

from support import DATA, picture_of

MODELS = [info.name for info in checkpoint.installed_models() if info.media == "image"]
TASKS = [name for name in MODELS if issubclass(checkpoint.system_class(codec.find_model(name).system), TaskSystem)]
SIZES = [(1, 1), (1, 17), (33, 1), (7, 8), (64, 64), (65, 127)]


@pytest.fixture(params=MODELS)
def info(request) -> checkpoint.ModelInfo:
    return checkpoint.find_model(request.param)


@pytest.fixture(params=[name for name in MODELS if name not in TASKS])
def shown(request) -> checkpoint.ModelInfo:
    """Models whose files hold a picture."""
    return checkpoint.find_model(request.param)


def encode(picture, name: str, **options) -> bytes:
    return codec.encode(picture, model=name, **options)


def test_every_system_in_the_package_is_registered():
    registered = {entry.load() for entry in checkpoint.installed_systems().values()}
    found = set()
    for module in pkgutil.iter_modules(codec.models.__path__):
        names = vars(import_module(f"codec.models.{module.name}")).values()
        found |= {c for c in names if isinstance(c, type) and issubclass(c, System) and not inspect.isabstract(c)}
    assert found == registered
    for name, entry in checkpoint.installed_systems().items():
        assert entry.load().id == name


@pytest.mark.parametrize("size", SIZES)
def test_any_size(info, size):
    picture = picture_of((*size, 3))
    data = encode(picture, info.name, quality=70)
    if info.name not in TASKS:
        assert codec.decode(data).samples.shape == picture.shape
    symbols = codec.open(data).symbols()
    assert {k: tuple(v.shape) for k, v in symbols.items()} == checkpoint.load(info).shapes(codec.open(data)._params)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_sample_types(shown, dtype, channels):
    picture = Image(picture_of((40, 48, channels), dtype))
    decoded = codec.decode(encode(picture, shown.name, quality=95))
    assert decoded.samples.dtype == dtype
    assert decoded.samples.shape == picture.samples.shape
    assert codec.psnr_of(decoded, picture) > 20


def test_quality_orders_rate_and_distortion(shown, photo):
    results = []
    for quality in (0, 33.3, 66.6, 100):
        data = encode(photo, shown.name, quality=quality)
        results.append((codec.open(data).info.payload_bytes, codec.psnr_of(codec.decode(data), Image(photo))))
    assert results == sorted(results)
    assert results[-1][0] > 1.5 * results[0][0]


def test_encoding_is_deterministic(info, photo):
    assert encode(photo, info.name, quality=50) == encode(photo, info.name, quality=50)


def test_threads_do_not_matter(shown, photo):
    before = torch.get_num_threads()
    digests, pictures = set(), []
    data = encode(photo, shown.name, quality=60)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            digests.add(codec.open(data).symbols_digest())
            pictures.append(codec.decode(data).samples.astype(int))
        finally:
            torch.set_num_threads(before)
    assert len(digests) == 1
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_another_process_decodes_the_same(info, photo, tmp_path):
    data = encode(photo, info.name, quality=60)
    (tmp_path / "a.lcb").write_bytes(data)
    script = "import codec, sys; print(codec.open(sys.argv[1]).symbols_digest())"
    run = [sys.executable, "-c", script, str(tmp_path / "a.lcb")]
    result = subprocess.run(run, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == codec.open(data).symbols_digest()


@pytest.mark.parametrize("quality", [10, 50, 100])
def test_estimated_and_real_bits_agree(info, quality):
    """Within 1 % plus the container, on a picture large enough for the coder's last word not to matter, but for units
    that are small: each ends on a whole byte."""
    picture = Image(np.tile(codec.read(DATA / "parrots.png").samples, (3, 3, 1)))
    data = encode(picture, info.name, quality=quality)
    stream = codec.open(data)
    estimate = stream.estimated_bits() / 8
    ends = 0.6 * stream.info.units if checkpoint.load(info).compact else 8
    assert abs(stream.info.payload_bytes - estimate) <= 0.01 * estimate + ends


def test_reader_and_writer_take_the_same_path(info, photo):
    system = checkpoint.load(info)
    with torch.no_grad():
        symbols, params = system.analyze(Image(photo), quality=60, effort=1, progress=no_progress)
        for spec in system.units(params):
            part = units.select(symbols, spec)
            writer = Writer(system.tables)
            system.code(writer, spec.params, part)
            reader = Reader(system.tables, writer.finish())
            decoded = system.code(reader, spec.params, None)
            assert reader.check == writer.check
            assert all(torch.equal(decoded[name], part[name]) for name in part)


def test_embedding_is_float_and_small(info, photo):
    stream = codec.open(encode(photo, info.name, quality=60))
    latents = stream.latents()
    symbols = stream.symbols()
    assert latents.dtype == torch.float32
    assert latents.dim() == 3
    assert latents[0].numel() <= photo.size / 100
    if "y" in symbols:
        assert latents.shape == (symbols["y"].shape[2], *symbols["y"].shape[:2])
    assert 0.1 < float(latents.std()) < 10


def test_latents_become_the_picture_again(shown, photo):
    stream = codec.open(encode(photo, shown.name, quality=60))
    latents = stream.latents()
    difference = stream.render(latents).samples.astype(int) - stream.decode().samples
    assert np.abs(difference).max() <= 1
    with pytest.raises(ValueError, match="shape"):
        stream.render(latents[:, 1:])


def test_weights_round_trip(info, tmp_path):
    system = checkpoint.load(info)
    copy = type(system).from_config(info.config)
    copy.load_state_dict(system.state_dict())
    saved = checkpoint.save(copy, tmp_path / "again", config=info.config, facts={})
    again = checkpoint.load(saved)
    for (name, a), (_, b) in zip(system.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_params_pack_into_the_header(info, photo):
    system = checkpoint.load(info)
    _, params = system.analyze(Image(photo), quality=60, effort=1, progress=no_progress)
    assert IMAGE.unpack(IMAGE.pack(params))[0] == params
