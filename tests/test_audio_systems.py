"""Every installed model for sound, held to the same promises."""

import io
import itertools

import numpy as np
import pytest
import torch

import codec
from codec import checkpoint
from codec.engine.audio import Decoder, Encoder
from codec.errors import CodecError, CorruptError, LimitError, RateError, TruncatedError

from support import sound_of

MODELS = [info.name for info in checkpoint.installed_models() if info.media == "audio"]


@pytest.fixture(params=MODELS)
def info(request) -> checkpoint.ModelInfo:
    return checkpoint.find_model(request.param)


def in_pieces(sound: codec.Audio, info: checkpoint.ModelInfo, sizes, quality: float = 60) -> bytes:
    form = {"rate": sound.rate, "layout": sound.layout, "channels": sound.channels, "depth": sound.depth}
    encoder = Encoder(info, checkpoint.load(info), quality=quality, tags=sound.metadata, **form)
    out, start = [], 0
    for size in sizes:
        out.append(encoder.push(sound.samples[:, start : start + size]))
        start += size
        if start >= sound.length:
            break
    return b"".join([*out, encoder.finish()])


@pytest.mark.parametrize("length", [0, 1, 7, 511, 512, 513, 50_001])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_length_comes_back(info, length, channels):
    sound = sound_of(length, channels)
    stream = codec.open(codec.encode(sound, model=info.name))
    decoded = stream.decode()
    assert (decoded.samples.shape, decoded.rate, decoded.layout) == (sound.samples.shape, sound.rate, sound.layout)
    assert stream.info.length == length
    assert stream.info.channels == channels


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000, 96_000, 11_025])
def test_any_rate_comes_back(info, rate):
    sound = sound_of(rate // 3, rate=rate, depth="s24")
    decoded = codec.decode(codec.encode(sound, model=info.name))
    assert (decoded.length, decoded.rate, decoded.depth) == (sound.length, rate, "s24")


def test_files_do_not_depend_on_the_pieces(info):
    sound = codec.Audio(sound_of(100_000).samples, 44_100, metadata={"title": "Pieces"})
    whole = codec.encode(sound, model=info.name)
    for sizes in ([4_410], [44_100], [1, 0, 99, 65_536], [777]):
        assert in_pieces(sound, info, itertools.cycle(sizes)) == whole
    assert codec.decode(whole).metadata == {"title": "Pieces"}


def test_following_a_stream_gives_what_the_file_gives(info):
    sound = sound_of(300_000)
    data = codec.encode(sound, model=info.name)
    decoder = Decoder(io.BytesIO(data))
    blocks = list(decoder)
    assert len(blocks) > 1
    np.testing.assert_allclose(np.concatenate(blocks, 1), codec.decode(data).samples, atol=1e-6)
    assert (decoder.rate, decoder.layout, decoder.model) == (44_100, "stereo", info.name)


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (49_000, 49_300), (1_234, 99_999), (99_999, 100_000), (500, 500)])
def test_seeking_gives_the_same_samples(info, start, stop):
    sound = sound_of(100_000)
    stream = codec.open(codec.encode(sound, model=info.name))
    part = stream.decode(start=start, stop=stop)
    np.testing.assert_allclose(part.samples, stream.decode().samples[:, start:stop], atol=1e-5)
    with pytest.raises(ValueError, match="of 100000"):
        stream.decode(start=stop, stop=100_001)


def test_what_is_cut_off_is_all_that_is_lost(info):
    sound = sound_of(600_000)
    data = codec.encode(sound, model=info.name)
    whole = codec.decode(data).samples
    for cut in (len(data) - 1, len(data) // 2, len(data) // 3):
        with pytest.raises(TruncatedError):
            codec.decode(data[:cut])
        rest = codec.open(data[:cut], tolerant=True).decode()
        assert 0 < rest.length <= 600_000
        sure = rest.length - 20 * checkpoint.load(info).hop  # the decoder looked at what is missing
        np.testing.assert_allclose(rest.samples[:, :sure], whole[:, :sure], atol=1e-6)
        blocks = []
        with pytest.raises(TruncatedError):
            blocks.extend(iter(Decoder(io.BytesIO(data[:cut]))))


def test_a_damaged_unit_is_silence_and_the_others_are_not(info):
    data = bytearray(codec.encode(sound_of(500_000), model=info.name))
    whole = codec.decode(bytes(data)).samples
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(CorruptError):
        codec.decode(bytes(data))
    stream = codec.open(bytes(data), tolerant=True)
    assert len(stream.problems()) == 1
    decoded = stream.decode().samples
    assert decoded.shape == whole.shape
    np.testing.assert_allclose(decoded[:, :20_000], whole[:, :20_000], atol=1e-6)
    np.testing.assert_allclose(decoded[:, -20_000:], whole[:, -20_000:], atol=1e-6)


def test_quality_orders_rate_and_distortion(info):
    sound = sound_of(60_000)
    keeps_wave = checkpoint.system_class(info.system).keeps_wave
    results = []
    for quality in (0, 33.3, 66.6, 100):
        data = codec.encode(sound, model=info.name, quality=quality)
        kept = codec.psnr_of(codec.decode(data), sound) if keeps_wave else quality
        results.append((len(data), kept))
    assert results == sorted(results)
    assert results[-1][0] > 1.3 * results[0][0]


def test_targets(info):
    sound = sound_of(60_000)
    low = codec.open(codec.encode(sound, model=info.name, quality=20)).info.kbps
    data = codec.encode(sound, model=info.name, kbps=low)
    assert 0.95 * low < codec.open(data).info.kbps <= low
    with pytest.raises(RateError, match="kbit/s"):
        codec.encode(sound, model=info.name, kbps=0.01)
    with pytest.raises(ValueError, match="bpp is for image"):
        codec.encode(sound, model=info.name, bpp=1)


def test_threads_and_a_second_encode_agree(info):
    sound, before, results = sound_of(60_000), torch.get_num_threads(), set()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            data = codec.encode(sound, model=info.name)
            results.add((data, codec.open(data).symbols_digest()))
        finally:
            torch.set_num_threads(before)
    assert len({digest for _, digest in results}) == 1


def test_estimated_and_real_bits_agree(info):
    sound = sound_of(200_000)
    stream = codec.open(codec.encode(sound, model=info.name))
    estimate = stream.estimated_bits() / 8
    assert abs(stream.info.payload_bytes - estimate) <= 0.01 * estimate + 8 * stream.info.units


def test_channels_of_different_groups_do_not_mix(info):
    sound = sound_of(30_000, channels=4)
    silent = sound.samples.copy()
    silent[2:] = 0
    both = [
        codec.decode(codec.encode(codec.Audio(s, 44_100), model=info.name)).samples for s in (sound.samples, silent)
    ]
    np.testing.assert_array_equal(both[0][:2], both[1][:2])


def test_latents(info):
    latents = codec.open(codec.encode(sound_of(60_000), model=info.name)).latents()
    assert latents.dtype == torch.float32
    assert latents.shape[0] % info.config["latents"] == 0
    assert torch.isfinite(latents).all()


def test_hostile_headers_are_refused_before_memory_is_taken(info):
    from codec import container
    from codec.params import AUDIO

    data = codec.encode(sound_of(1_000), model=info.name)
    parsed = container.parse(data)
    huge = container.Container(
        parsed.system, parsed.version, parsed.digest, parsed.params, parsed.units, {}, None, 1 << 60
    ).pack()
    with pytest.raises(LimitError, match="max-memory"):
        codec.decode(huge)
    with pytest.raises(CodecError):
        list(Decoder(io.BytesIO(huge)))
    values = AUDIO.unpack(parsed.params)[0] | {"layout": 63}
    odd = container.Container(
        parsed.system, parsed.version, parsed.digest, AUDIO.pack(values), parsed.units, {}, None, 1_000
    ).pack()
    with pytest.raises(CorruptError, match="layout"):
        codec.decode(odd)


def test_an_image_model_says_that_it_is_not_for_sound():
    with pytest.raises(ValueError, match="is for image, not for audio"):
        codec.encode(sound_of(100), model="walloc-conformance")
    with pytest.raises(ValueError, match="is for audio, not for image"):
        codec.encode(np.zeros((8, 8, 3), np.uint8), model=MODELS[0])


def test_headers_that_name_a_model_for_something_else_are_refused():
    from codec import container
    from codec.params import AUDIO, IMAGE

    sound = container.parse(codec.encode(sound_of(1_000), model=MODELS[0]))
    image = container.parse(codec.encode(np.zeros((8, 8, 3), np.uint8), model="walloc-conformance"))
    values = IMAGE.unpack(image.params)[0]
    forged = [
        (image, AUDIO.pack({"quality": 0, "kind": 1, "depth": 0, "rate": 8_000, "layout": 0}), 1_000),
        (sound, IMAGE.pack(values), None),
    ]
    for parsed, params, length in forged:
        data = container.Container(
            parsed.system, parsed.version, parsed.digest, params, parsed.units, {}, None, length
        ).pack()
        with pytest.raises(CorruptError, match="its model"):
            codec.decode(data)
        assert codec.open(data).info.model is None
