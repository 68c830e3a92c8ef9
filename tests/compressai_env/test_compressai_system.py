"""A CompressAI network in our files: rate, pixels, exactness, damage."""

import dataclasses

import numpy as np
import pytest
import torch

import codec
from codec import container, foreign
from codec.coding.coder import Reader, Writer
from codec.engine import images, units
from codec.errors import CodecError, FormatError, LimitError, ModelError, RateError
from codec.media.image import Image
from codec.models import compressai
from codec.models.compressai import ARCHITECTURES
from codec.params import unpack
from codec.system import no_progress

from support import DATA, picture_of

CONTEXT = [arch for arch, kind in ARCHITECTURES.items() if kind.prior == "context"]
PLAIN = [arch for arch in ARCHITECTURES if arch not in CONTEXT]


@pytest.fixture(scope="module")
def picture() -> Image:
    """A photograph of [192, 256, 3]: whole blocks of 64, so that nobody pads."""
    samples = codec.read(DATA / "parrots.png").samples
    return Image(np.tile(samples, (2, 2, 1))[:192, :256])


@pytest.fixture(params=ARCHITECTURES)
def arch(request) -> str:
    return request.param


def decode(data: bytes, system) -> Image:
    parsed = container.parse(data)
    return images.decode(parsed, unpack(parsed.params), system)


def symbols_of(data: bytes, system) -> dict[str, torch.Tensor]:
    parsed = container.parse(data)
    return units.decode_symbols(parsed, system, unpack(parsed.params))


def tensor(picture: Image) -> torch.Tensor:
    return torch.from_numpy(picture.samples).permute(2, 0, 1)[None].float() / 255


def test_rate_and_pixels_agree_with_compressai(arch, picture, model_of, checkpoint_of):
    info, system = model_of(arch)
    data = images.encode(picture, info, system, quality=50)
    decoded = decode(data, system).samples.astype(float)
    network = foreign.load_network(checkpoint_of(arch), arch)
    with torch.no_grad():
        coded = network.compress(tensor(picture))
        x_hat = network.decompress(coded["strings"], coded["shape"])["x_hat"]
    payload = sum(len(unit.payload) for unit in container.parse(data).units)
    theirs = sum(len(string) for (string,) in coded["strings"])
    assert theirs > 1000
    assert payload == pytest.approx(theirs, rel=0.05)
    expected = (x_hat[0] * 255).round().permute(1, 2, 0).double().numpy()
    assert np.ptp(expected) > 100
    if arch in PLAIN:  # along a context a latent that rounds the other way changes all that follow
        assert np.abs(decoded - expected).mean() < 0.5
    y = symbols_of(data, system)["y"].permute(2, 0, 1)[None] / compressai.STEPS
    with torch.no_grad():
        assert (y - network.g_a(tensor(picture))).abs().max() <= 0.501


def test_every_symbol_survives_the_file(arch, picture, model_of):
    info, system = model_of(arch)
    symbols, params = system.analyze(picture, quality=50, effort=1, progress=no_progress)
    decoded = symbols_of(images.encode(picture, info, system, quality=50), system)
    assert all(torch.equal(decoded[name], symbols[name]) for name in symbols)
    assert {name: tuple(part.shape) for name, part in symbols.items()} == system.shapes(params)
    latents = system.embed(symbols, params)
    assert latents.dtype == torch.float32
    assert latents.shape == (system.latents, 12, 16)


def test_estimated_and_real_bits_agree(arch, picture, model_of):
    info, system = model_of(arch)
    data = images.encode(picture, info, system, quality=50)
    parsed = container.parse(data)
    params = unpack(parsed.params)
    estimate = units.estimate_bits(symbols_of(data, system), params, system) / 8
    assert sum(len(unit.payload) for unit in parsed.units) == pytest.approx(estimate, rel=0.005, abs=8)


def test_threads_do_not_matter(arch, picture, model_of):
    info, system = model_of(arch)
    data = images.encode(picture, info, system, quality=50)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            found.append((symbols_of(data, system), decode(data, system).samples.astype(int)))
        finally:
            torch.set_num_threads(before)
    assert all(torch.equal(found[0][0][name], found[1][0][name]) for name in found[0][0])
    assert np.abs(found[0][1] - found[1][1]).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (65, 3), (64, 64), (70, 130)])
def test_any_size(arch, size, model_of):
    info, system = model_of(arch)
    picture = Image(picture_of((*size, 3)))
    assert decode(images.encode(picture, info, system, quality=50), system).samples.shape == (*size, 3)


@pytest.mark.parametrize("shape", [(40, 48, 1), (40, 48, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_sample_types(shape, dtype, model_of):
    info, system = model_of("mbt2018-mean")
    decoded = decode(images.encode(Image(picture_of(shape, dtype)), info, system, quality=50), system).samples
    assert decoded.dtype == dtype
    assert decoded.shape == shape
    assert np.ptp(decoded) > np.iinfo(dtype).max / 8


def test_tiles_leave_no_seam(arch, picture, model_of, monkeypatch):
    _, system = model_of(arch)
    grid = (12, 16, system.latents)
    whole = system._latents(picture.samples, slice(0, 12), slice(0, 16), grid)
    symbols, params = system.analyze(picture, quality=50, effort=1, progress=no_progress)
    drawn = system.synthesize(symbols, params, progress=no_progress).samples.astype(int)
    monkeypatch.setattr(compressai, "TILE", 4)
    pieces = system._latents(picture.samples, slice(0, 12), slice(0, 16), grid)
    # All that is left is the order of float sums, which the network amplifies; too small a halo shows as 0.1 or more.
    assert (whole - pieces).abs().max() < 2e-3
    assert np.abs(system.synthesize(symbols, params, progress=no_progress).samples - drawn).max() <= 1


@pytest.mark.parametrize("arch", ["bmshj2018-factorized", "mbt2018-mean", "mbt2018"])
def test_units_are_independent(arch, picture, model_of, monkeypatch):
    info, system = model_of(arch)
    monkeypatch.setattr(compressai, "UNIT", 8)
    data = images.encode(picture, info, system, quality=50)
    parsed = container.parse(data)
    assert len(parsed.units) == 4
    params = unpack(parsed.params)
    first, spec = parsed.units[0], system.units(params)[0]
    alone = system.code(Reader(system.tables, first.payload), spec.params, None)
    whole = units.decode_symbols(parsed, system, params)
    assert all(torch.equal(alone[name][0].int(), whole[name][spec.regions[name]]) for name in alone)


def test_damage_is_noticed(arch, picture, model_of):
    info, system = model_of(arch)
    data = images.encode(picture, info, system, quality=50)
    for length in (0, 5, 20, len(data) // 2, len(data) - 1):
        with pytest.raises(FormatError):
            decode(data[:length], system)
    parsed = container.parse(data)
    payload = bytearray(parsed.units[0].payload)
    payload[len(payload) // 3] ^= 16
    unit = dataclasses.replace(parsed.units[0], payload=bytes(payload))
    with pytest.raises(FormatError):  # checksums made anew: the symbols' own check is what is left
        decode(dataclasses.replace(parsed, units=[unit]).pack(), system)


@pytest.mark.parametrize("arch", ["bmshj2018-factorized", "mbt2018-mean", "mbt2018"])
def test_random_payloads_never_crash(arch, model_of):
    _, system = model_of(arch)
    params = {"grid": (8, 8)}
    rng = np.random.default_rng(0)
    for size in (0, 4, 40, 400):
        reader = Reader(system.tables, rng.bytes(size))
        try:
            decoded = system.code(reader, params, None)
        except CodecError:
            continue
        assert all(values.abs().max() < 2**30 for values in decoded.values())


def test_a_hostile_latent_is_corrupt(model_of):
    """Escapes can say far more than any encoder would; the network's input saturates and the result is refused."""
    _, system = model_of("mbt2018-mean")

    class Hostile:
        def categorical(self, symbols, table):
            return torch.full(table.shape, 2.0**21, dtype=torch.float64)

    with pytest.raises(FormatError, match="range"):
        system.code(Hostile(), {"grid": (4, 4)}, None)


def test_a_thin_picture_is_held_to_the_memory_limit(model_of, monkeypatch):
    """One row of pixels has 64 rows of latents."""
    info, system = model_of("mbt2018-mean")
    monkeypatch.setenv("CODEC_MODELS", str(info.folder.parent))
    data = images.encode(Image(picture_of((1, 2000, 3))), info, system, quality=50)
    assert codec.decode(data).samples.shape == (1, 2000, 3)
    with pytest.raises(LimitError, match="symbols"):
        codec.decode(data, max_memory=30_000)


def test_extreme_latents_are_coded(model_of):
    _, system = model_of("mbt2018-mean")
    params = {"grid": (4, 4)}
    far = {"y": torch.full((1, 4, 4, system.latents), 1e9), "z": torch.full((1, 1, 1, len(system.medians)), -1e9)}
    exact = {name: compressai._to_symbols(part.permute(0, 3, 1, 2)) for name, part in far.items()}
    symbols = system.code(compressai._Rounder(), params, exact)
    writer = Writer(system.tables)
    system.code(writer, params, symbols)
    reader = Reader(system.tables, writer.finish())
    decoded = system.code(reader, params, None)
    assert all(torch.equal(decoded[name], symbols[name]) for name in symbols)
    reader.finish(writer.check)
    with pytest.raises(ModelError, match="finite"):
        compressai._to_symbols(torch.full((1, 2, 2, 2), float("nan")))


def test_wavefronts_are_raster_order(model_of, picture):
    """The mean of every latent is what a plain masked convolution over all that is decoded says."""
    _, system = model_of("mbt2018")
    symbols, _ = system.analyze(picture, quality=50, effort=1, progress=no_progress)
    y_hat, z_hat = (symbols[name][None].double() / compressai.STEPS for name in ("y", "z"))
    weight = torch.zeros(2 * system.latents, system.latents, 5, 5, dtype=torch.float64)
    for i, (dr, dc) in enumerate(compressai.wavefront.OFFSETS):
        part = slice(i * system.latents, (i + 1) * system.latents)
        weight[:, :, dr + 2, dc + 2] = system.context.weight[:, part, 0, 0]
    context = torch.nn.functional.conv2d(y_hat.permute(0, 3, 1, 2), weight, padding=2)
    context = compressai.fix(context + system.context.bias[:, None, None], compressai.FRACTION_BITS)
    features = system.h_s(z_hat.permute(0, 3, 1, 2))
    mean = system.entropy_parameters(torch.cat([features, context], 1)).permute(0, 2, 3, 1)[..., system.latents :]
    steps = y_hat - mean
    assert torch.equal(steps, steps.round())


def test_one_rate(picture, model_of):
    info, system = model_of("mbt2018-mean")
    sizes = {len(images.encode(picture, info, system, quality=quality, effort=8)) for quality in (0, 100)}
    assert len(sizes) == 1
    size, folder = sizes.pop(), f"{info.folder}/"
    assert len(codec.encode(picture, model=folder, target_size=size)) == size
    with pytest.raises(RateError, match="single rate"):
        codec.encode(picture, model=folder, target_size=size - 1)
    with pytest.raises(ModelError, match="trained with CompressAI"):
        system.loss(torch.zeros(1, 3, 64, 64))
