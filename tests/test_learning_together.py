"""Small files decoded together: exactly what each alone decodes to."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

import codec
from codec.coding.coder import Reader, TableModels, Writer
from codec.coding.distributions import ScaleMixture, build_tables
from codec.errors import CodecError, CorruptError, DesyncError, MissingModelError
from codec.learning.together import Readers, symbols_of
from codec.stream import Stream

from support import SMALL, picture_of, sound_of


@pytest.fixture(scope="module")
def models() -> TableModels:
    return TableModels(build_tables(ScaleMixture()))


def coded(models: TableModels, seed: int) -> tuple[list[tuple[torch.Tensor, ...]], bytes, int]:
    """Return three calls (symbols, location, log2 scale), the last with escapes, and what they are written to."""
    rng = np.random.default_rng(seed)
    writer, calls = Writer(models), []
    for shape, wild in (((1, 5, 3), 1), ((1, 0, 3), 1), ((1, 40, 2), 4000)):
        location = torch.from_numpy(rng.integers(-4096, 4096, shape) / 1024.0)
        log2_scale = torch.from_numpy(rng.integers(-4096, 3072, shape) / 1024.0)
        symbols = torch.from_numpy(np.round(rng.standard_normal(shape) * 3 * wild))
        writer(symbols, location, log2_scale)
        calls.append((symbols, location, log2_scale))
    return calls, writer.finish(), writer.check


def test_readers_read_what_each_reader_reads(models):
    files = [coded(models, seed) for seed in range(4)]
    readers = Readers(models, [payload for _, payload, _ in files])
    alone = [Reader(models, payload) for _, payload, _ in files]
    for call in range(3):
        wanted, location, log2_scale = (torch.cat([calls[call][i] for calls, *_ in files]) for i in range(3))
        assert torch.equal(readers(None, location, log2_scale), wanted)
        assert all(
            torch.equal(r(None, *calls[call][1:]), calls[call][0]) for r, (calls, *_) in zip(alone, files, strict=True)
        )
    readers.finish([check for *_, check in files])
    with pytest.raises(DesyncError):
        readers.finish([0] * len(files))


def test_readers_read_computed_alphabets():
    models, lanes = TableModels(None), []
    masses = torch.from_numpy(np.random.default_rng(0).integers(-2000, 2000, (3, 4, 5, 7)) / 256.0)
    given = torch.from_numpy(np.random.default_rng(1).integers(0, 7, (3, 4, 5))).double()
    for symbols, log2_mass in zip(given, masses, strict=True):
        writer = Writer(models)
        writer.masses(symbols, log2_mass)
        lanes.append((writer.finish(compact=True), writer.check))
    readers = Readers(models, [payload for payload, _ in lanes], compact=True)
    assert torch.equal(readers.masses(None, masses), given)
    readers.finish([check for _, check in lanes])


def test_no_payload_gets_past_the_checks(models):
    """Whatever bytes there are, reading ends in symbols within range that fail the check, or in an error."""
    rng = np.random.default_rng(0)
    calls, _, check = coded(models, 0)
    for _ in range(20):
        payload = rng.integers(0, 256, 40, dtype=np.uint8).tobytes()
        with pytest.raises((CorruptError, DesyncError)):
            readers = Readers(models, [payload])
            for _, location, log2_scale in calls:
                readers(None, location, log2_scale)
            readers.finish([check])


@pytest.mark.parametrize("model", [SMALL, "waveprior", "walloc-12"])
def test_together_is_what_alone_is(model):
    shapes = [(40, 56), (56, 40), (1, 1), (40, 56), (33, 49), (40, 56)]
    pictures = [np.roll(picture_of((*shape, 3)), 3 * i, 1) for i, shape in enumerate(shapes)]
    files = [codec.encode(picture, model=model, quality=12 * i + 20) for i, picture in enumerate(pictures)]
    streams = [Stream(data, device="cpu") for data in files]
    assert_alike(streams)


def test_sounds_of_many_units_are_read_together():
    """Mono and stereo of several lengths, and what cannot be joined: more channels, nothing at all, another system."""
    shapes = ((9000, 1), (44_100, 2), (250_000, 1), (44_100, 2), (0, 1), (9000, 3))
    files = [codec.encode(sound_of(*shape), model="walloc-audio", quality=8 * i) for i, shape in enumerate(shapes)]
    files.append(codec.encode(sound_of(9000, 1, 16_000), model="rvq-speech"))
    streams = [Stream(data, device="cpu") for data in files]
    assert max(stream.info.units for stream in streams) > 1
    assert_alike(streams)


def assert_alike(streams: list[Stream]) -> None:
    for stream, symbols in zip(streams, symbols_of(streams), strict=True):
        wanted = stream.symbols()
        assert symbols.keys() == wanted.keys()
        for name, values in symbols.items():
            assert values.dtype == torch.int32
            assert torch.equal(values, wanted[name])
            assert not values.is_inference()


def test_kinds_and_errors_may_be_mixed(monkeypatch):
    picture = codec.encode(picture_of((24, 24, 3)), model=SMALL)
    other = codec.encode(picture_of((24, 24, 3))[::-1].copy(), model=SMALL)
    sound = codec.encode(sound_of(8_000, 1, 16_000), model="rvq-speech")
    wrong = codec.container.parse(other)
    object.__setattr__(wrong.units[0], "check", wrong.units[0].check ^ 1)
    lost = codec.container.parse(other)
    object.__setattr__(lost, "digest", b"none")
    streams = [Stream(data) for data in (picture, sound, wrong.pack(), lost.pack(), other)]
    results = symbols_of(streams)
    assert isinstance(results[2], DesyncError)
    assert isinstance(results[3], CodecError)
    for i in (0, 1, 4):
        assert all(torch.equal(results[i][k], v) for k, v in streams[i].symbols().items())


def test_a_model_is_looked_for_again_when_it_changes(tmp_path, monkeypatch):
    """Where a model lies is remembered, but not beyond its life."""
    data = codec.encode(picture_of((24, 24, 3)), model=SMALL)
    home = codec.find_model(SMALL).folder
    for name in ("first", "second"):
        shutil.copytree(home, tmp_path / name / SMALL)
    monkeypatch.setenv("CODEC_MODELS", str(tmp_path / "first"))
    assert codec.open(data).info.model == SMALL
    description = tmp_path / "first" / SMALL / "model.json"
    description.write_text(description.read_text().replace('"facts": {', '"facts": {"single_rate": true, '))
    assert codec.open(data).info.single_rate
    monkeypatch.setenv("CODEC_MODELS", str(tmp_path / "second"))
    assert not codec.open(data).info.single_rate
    monkeypatch.setenv("CODEC_MODELS", str(tmp_path / "first"))
    description.unlink()
    with pytest.raises(MissingModelError):
        codec.open(data).symbols()
