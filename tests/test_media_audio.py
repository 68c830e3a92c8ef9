import io
import os
import signal
import threading
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.errors import LimitError, MediaError
from codec.media import audio as media
from codec.media import pcm, wav
from codec.media.audio import Audio, Reader, Resampler, Writer

LOSSY = ("mp3", "ogg", "m4a")
TAGS = {"title": "Größe", "artist": "A", "album": "B", "date": "2020", "comment": "C", "genre": "Jazz", "track": "3"}


def noise(channels: int, length: int, depth: str = "s16", rate: int = 48000, **rest) -> Audio:
    """Noise of full scale that the depth holds exactly."""
    samples = np.random.default_rng(length).uniform(-1, 1, (channels, length)).astype(np.float32)
    return Audio(pcm.unpack(pcm.pack(samples, depth), depth, channels), rate, depth, **rest)


def sine(length: int, rate: int = 48000, hertz: float = 1000, channels: int = 1) -> Audio:
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(length) / rate)
    return Audio(np.tile(wave.astype(np.float32), (channels, 1)), rate)


def written(sound: Audio, form: str) -> bytes:
    file = io.BytesIO()
    media.write(sound, file, form)
    return file.getvalue()


def encoded(
    codec: str, muxer: str, samples: np.ndarray, rate=48000, layout="stereo", form="fltp", tags=None, **options
):
    """A file as PyAV writes it by itself."""
    file = io.BytesIO()
    with av.open(file, "w", format=muxer, container_options=options) as container:
        container.metadata.update(tags or {})
        stream = container.add_stream(codec, rate=rate, layout=layout)
        if form:
            stream.codec_context.format = form
        kind = {"f": "flt", "i": f"s{8 * samples.dtype.itemsize}", "u": "u8"}[samples.dtype.kind]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T).reshape(1, -1), kind, layout)
        frame.sample_rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def decibels(wanted: np.ndarray, got: np.ndarray) -> float:
    """SNR in the middle half."""
    middle = np.s_[..., wanted.shape[-1] // 4 : wanted.shape[-1] * 3 // 4]
    return 10 * np.log10(np.sum(wanted[middle] ** 2) / (np.sum((wanted[middle] - got[middle]) ** 2) + 1e-30))


def assert_same(one: Audio, two: Audio) -> None:
    np.testing.assert_array_equal(one.samples, two.samples)
    assert (one.rate, one.depth, one.layout, one.metadata) == (two.rate, two.depth, two.layout, two.metadata)


class Pipe:
    """What a pipe has: it gives and takes bytes in small pieces, and cannot seek."""

    def __init__(self, data: bytes = b"", piece: int = 1000):
        self.data, self.piece, self.given = io.BytesIO(data), piece, bytearray()

    def read(self, size: int) -> bytes:
        return self.data.read(min(size, self.piece))

    def write(self, data: bytes) -> int:
        part = bytes(data[: self.piece])
        self.given += part
        return len(part)


# The value


def test_a_value_knows_its_shape():
    sound = Audio(np.zeros((2, 24000), np.float32), 48000, metadata={"title": "x"})
    assert (sound.channels, sound.length, sound.seconds, sound.layout) == (2, 24000, 0.5, "stereo")
    assert repr(sound) == "Audio(2x24000 stereo s16, 48000 Hz, 0.500 s, title)"
    assert Audio(np.zeros((1, 0), np.float32), 8000).seconds == 0


@pytest.mark.parametrize(
    "change",
    [
        {"samples": np.zeros(5, np.float32)},
        {"samples": np.zeros((0, 5), np.float32)},
        {"samples": np.zeros((2, 5))},
        {"rate": 0},
        {"rate": 44100.0},
        {"depth": "s8"},
        {"layout": "mono"},
        {"layout": "nonsense"},
        {"metadata": {"Title": "x"}},
        {"metadata": {"title": 3}},
    ],
)
def test_a_value_is_valid(change):
    with pytest.raises(MediaError):
        Audio(**{"samples": np.zeros((2, 5), np.float32), "rate": 8000} | change)


# Arrays


def test_integers_survive_float32():
    every = np.arange(-(2**15), 2**15, dtype=np.int16)
    np.testing.assert_array_equal(pcm.to_integer(pcm.to_float(every), 16), every)
    some = np.arange(-(2**23), 2**23, 97, dtype=np.int32)
    np.testing.assert_array_equal(pcm.to_integer((some / 2**23).astype(np.float32), 24), some)


def test_rounding_is_half_to_even_and_clips():
    samples = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32) / 32768
    assert pcm.to_integer(samples, 16).tolist() == [0, 2, 2, 0, -2]
    for bits in (16, 24, 32):
        assert pcm.to_integer(np.array([2, 1, -1, -2], np.float32), bits).tolist() == [
            2 ** (bits - 1) - 1,
            2 ** (bits - 1) - 1,
            -(2 ** (bits - 1)),
            -(2 ** (bits - 1)),
        ]


@pytest.mark.parametrize(
    ("array", "depth", "value"),
    [
        (np.full(3, 0.25, np.float64), "f32", 0.25),
        (np.full((2, 3), 8192, np.int16), "s16", 0.25),
        (np.full((2, 3), 1 << 29, np.int32), "s32", 0.25),
        (np.full((2, 3), 160, np.uint8), "s16", 0.25),
    ],
)
def test_arrays_are_read(array, depth, value):
    sound = media.read(array, rate=16000)
    assert (sound.channels, sound.length, sound.depth, sound.rate) == (1 if array.ndim == 1 else 2, 3, depth, 16000)
    assert (sound.samples == value).all()


def test_tensors_are_read():
    class Tensor:  # all that is asked of one
        detach = cpu = lambda self: self

        def numpy(self):
            return np.ones((2, 4), np.float32)

    assert media.read(Tensor(), rate=8000).layout == "stereo"


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3, 4), np.float32),
        np.zeros((2, 3), np.int64),
        np.array([0, np.nan], np.float32),
        np.array([1e300]),
        np.zeros((1000, 2), np.float32),
    ],
)
def test_arrays_that_are_no_sound(array):
    with pytest.raises(MediaError):
        media.read(array, rate=8000)


def test_a_rate_is_for_arrays():
    with pytest.raises(MediaError, match="rate="):
        media.read(np.zeros(3, np.float32))
    with pytest.raises(MediaError, match="rate is for arrays"):
        media.read(written(sine(10), "wav"), rate=8000)


# Lossless files


@pytest.mark.parametrize(
    ("form", "depth"), [*(("wav", depth) for depth in pcm.WIDTH), ("flac", "s16"), ("flac", "s24")]
)
@pytest.mark.parametrize(("channels", "rate"), [(1, 8000), (2, 44100), (6, 48000), (8, 192000)])
@pytest.mark.parametrize("length", [0, 1, 7, 10007])
def test_lossless_formats_return_every_bit(form, depth, channels, rate, length):
    sound = noise(channels, length, depth, rate, metadata={"title": "x"})
    assert_same(media.read(written(sound, form)), sound)


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(0, 9000),
    channels=st.integers(1, 8),
    rate=st.integers(1, 400000),
    depth=st.sampled_from(sorted(pcm.WIDTH)),
    pieces=st.lists(st.integers(0, 5000), max_size=3),
)
def test_any_size_goes_through_wav(length, channels, rate, depth, pieces):
    sound = noise(channels, length, depth, rate)
    file = io.BytesIO()
    with Writer(file, "wav", rate=rate, layout=sound.layout, depth=depth) as writer:
        for part in np.split(sound.samples, sorted(pieces), axis=1):
            writer.write(part)
    assert file.getvalue() == written(sound, "wav")
    assert_same(media.read(file.getvalue()), sound)


@pytest.mark.parametrize("layout", ["3.0", "quad", "5.1(side)", "7.1(wide)", "12 channels", "40 channels"])
def test_layouts_stay_in_wav(layout):
    sound = noise(pcm.channels_of(layout), 100, "s24", layout=layout)
    assert_same(media.read(written(sound, "wav")), sound)


def test_others_read_our_wav():
    sound = noise(2, 101, metadata={"title": "x"})
    with wave.open(io.BytesIO(written(sound, "wav"))) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth(), file.getnframes()) == (2, 48000, 2, 101)
        assert file.readframes(200) == pcm.pack(sound.samples, "s16")


@pytest.mark.parametrize(
    ("codec", "samples", "depth"),
    [
        ("pcm_u8", np.arange(0, 256, dtype=np.uint8), "s16"),
        ("pcm_s16le", np.arange(-300, 300, dtype=np.int16), "s16"),
        ("pcm_s24le", np.arange(-300, 300, dtype=np.int32) << 8, "s24"),
        ("pcm_s32le", np.arange(-300, 300, dtype=np.int32) << 8, "s32"),
        ("pcm_f32le", np.linspace(-2, 2, 77, dtype=np.float32), "f32"),
        ("pcm_f64le", np.linspace(-2, 2, 77, dtype=np.float32), "f32"),
        ("pcm_mulaw", np.zeros(77, np.int16), "s16"),
    ],
)
def test_wav_of_others(codec, samples, depth):
    sound = media.read(encoded(codec, "wav", np.stack([samples, samples]), form=None))
    assert (sound.depth, sound.layout, sound.channels) == (depth, "stereo", 2)
    np.testing.assert_array_equal(sound.samples[1], pcm.to_float(samples))


@pytest.mark.parametrize(
    ("codec", "muxer", "form", "depth"),
    [
        ("alac", "ipod", "s16p", "s16"),
        ("alac", "ipod", "s32p", "s24"),
        ("wavpack", "wv", "fltp", "f32"),
        ("pcm_s24be", "aiff", "s32", "s24"),
        ("pcm_s16be", "aiff", "s16", "s16"),
        ("flac", "ogg", "s32", "s24"),
        ("pcm_s16le", "matroska", "s16", "s16"),
        ("wavpack", "matroska", "s32p", "s32"),
    ],
)
def test_other_lossless_files(codec, muxer, form, depth):
    wanted = noise(2, 5003, depth if depth != "s32" else "s24")
    sound = media.read(encoded(codec, muxer, wanted.samples, form=form))
    assert sound.depth == depth
    np.testing.assert_array_equal(sound.samples, wanted.samples)


def test_eight_planes_and_more():
    """PyAV itself reads past the planes of these."""
    wanted = noise(9, 3000, "f32")
    sound = media.read(encoded("wavpack", "wv", wanted.samples, layout="9 channels"))
    np.testing.assert_array_equal(sound.samples, wanted.samples)
    seven = media.read(written(sine(5000, channels=8), "m4a"))
    assert (seven.layout, seven.length) == ("7.1", 5000)


def test_float_that_is_not_finite_is_refused():
    for bad in (np.nan, np.inf):
        samples = np.array([[0, bad]], np.float32)
        with pytest.raises(MediaError, match="NaN or infinite"):
            media.read(encoded("pcm_f32le", "wav", samples, layout="mono", form="flt"))
        with pytest.raises(MediaError, match="NaN or infinite"):
            media.write(Audio(samples, 8000), io.BytesIO(), "wav")


def test_flac_takes_float_as_24_bits():
    sound = noise(2, 1000, "f32")
    loud = Audio(sound.samples * 2, 48000, "f32")
    back = media.read(written(loud, "flac"))
    assert back.depth == "s24"
    assert np.abs(back.samples - loud.samples.clip(-1, 1)).max() <= 2**-23


def test_flac_frames_stay_readable():
    """FFmpeg writes frames of 16384 samples at 192 kHz and loses them above 256 KiB when it reads."""
    sound = noise(8, 40000, "s24", 192000)
    assert_same(media.read(written(sound, "flac")), sound)


# Lossy files


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("length", [100, 1000, 4410, 10007])
def test_lossy_files_keep_length_and_place(rate, length):
    sound = sine(length, rate, 440, channels=2)
    for form in LOSSY:
        back = media.read(written(sound, form))
        assert back.length == round(length * back.rate / rate), form
        assert (back.channels, back.depth, back.rate) == (2, "s16", 48000 if form == "ogg" else rate)
        if length == 10007:
            assert decibels(sine(back.length, back.rate, 440).samples, back.samples) > 30, form


@pytest.mark.parametrize(
    ("codec", "muxer", "options"),
    [
        ("libmp3lame", "mp3", {}),
        ("libopus", "ogg", {}),
        ("libopus", "matroska", {}),
        ("aac", "ipod", {}),
        ("aac", "ipod", {"movie_timescale": "48000"}),
        ("aac", "ipod", {"movflags": "frag_keyframe+delay_moov"}),
    ],
)
def test_files_of_others_keep_their_length(codec, muxer, options):
    for length in (2000, 4801, 10007, 10240, 48000):
        data = encoded(
            codec, muxer, sine(length, channels=2).samples, form="flt" if codec == "libopus" else "fltp", **options
        )
        sound = media.read(data)
        assert sound.length == length, (length, options)
        assert length < 10000 or decibels(sine(length).samples, sound.samples) > 20  # 17.7 if it were off by one


def test_itunes_says_the_length_in_a_tag():
    """Written as iTunes does: whole packets, and the tag iTunSMPB with delay, padding and length."""
    length = 5000
    data = encoded("aac", "ipod", sine(5120, channels=2).samples, movie_timescale="48000")
    assert media.read(data).length == 5120
    text = f" 00000000 00000400 00000078 {length:016X} 00000000".encode()
    box = lambda kind, body: (len(body) + 8).to_bytes(4, "big") + kind + body
    values = box(b"mean", b"\0\0\0\0com.apple.iTunes") + box(b"name", b"\0\0\0\0iTunSMPB")
    tag = box(b"----", values + box(b"data", b"\0\0\0\1\0\0\0\0" + text))
    handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    user = box(b"udta", box(b"meta", bytes(4) + handler + box(b"ilst", tag)))
    start = data.index(b"moov") - 4
    size = int.from_bytes(data[start : start + 4], "big")
    movie = data[start + 8 : start + size]
    movie = movie[: movie.index(b"udta") - 4] if b"udta" in movie else movie
    sound = media.read(data[:start] + box(b"moov", movie + user) + data[start + size :])
    assert (sound.length, sound.metadata) == (length, {})


def test_layouts_of_lossy_formats():
    for layout, kept in (("5.1", "5.1"), ("5.1(side)", "5.1"), ("6 channels", "5.1")):
        sound = Audio(sine(3000, channels=6).samples, 48000, layout=layout)
        for form in ("ogg", "m4a"):
            assert media.read(written(sound, form)).layout == kept
    with pytest.raises(MediaError, match=r"mp3 cannot hold 5\.1"):
        written(sine(3000, channels=6), "mp3")


@pytest.mark.parametrize("form", LOSSY)
def test_lossy_formats_need_samples(form, tmp_path):
    with pytest.raises(MediaError, match="no samples"):
        media.write(sine(0), tmp_path / "x", form)
    assert not list(tmp_path.iterdir())


# Tags


@pytest.mark.parametrize("form", ["wav", "flac", *LOSSY])
def test_tags_stay(form):
    file = io.BytesIO()
    assert media.write(Audio(sine(2000).samples, 48000, metadata=TAGS), file, form) == []
    assert media.read(file.getvalue()).metadata == TAGS


def test_tags_a_format_cannot_hold_are_named():
    sound = Audio(sine(2000).samples, 48000, metadata={"title": "x", "mood": "y", "track": "side A"})
    lost = {form: media.write(sound, io.BytesIO(), form) for form in ("wav", "flac", "m4a", "s16le")}
    assert lost == {"wav": ["mood"], "flac": [], "m4a": ["mood", "track"], "s16le": ["mood", "title", "track"]}


def test_every_wav_tag_comes_back():
    tags = dict.fromkeys(wav.INFO, "odd") | {"artist": "even"}
    assert media.read(written(Audio(sine(3).samples, 48000, metadata=tags), "wav")).metadata == tags


def test_technical_and_old_tags():
    data = written(Audio(sine(3).samples, 48000, metadata={"title": "caf__"}), "wav").replace(b"caf__", b"caf\xe9\0")
    assert media.read(data).metadata == {"title": "café"}  # Windows-1252, as old programs wrote
    sound = media.read(encoded("aac", "ipod", sine(3000, channels=2).samples, tags={"TITLE": "x"}))
    assert sound.metadata == {"title": "x"}


# What cannot be read


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"hello world" * 100, "not an audio file"),
        (b"#EXTM3U\n#EXTINF:9,\n/etc/hostname\n", "not an audio file"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "not an audio file"),
        (np.random.default_rng(1).bytes(20000), None),
    ],
)
def test_what_is_no_audio(data, message, capfd, tmp_path):
    path = tmp_path / "sound.wav"
    path.write_bytes(data)
    for source in (path, str(path), data, Pipe(data)):
        with pytest.raises(MediaError, match=message) as caught:
            media.read(source)
        assert "\n" not in str(caught.value)
    with pytest.raises(MediaError, match=r"sound\.wav"):
        media.read(path)
    assert capfd.readouterr() == ("", "")


def test_paths_that_cannot_be_opened(tmp_path):
    with pytest.raises(FileNotFoundError):
        media.read(tmp_path / "none.wav")
    with pytest.raises(MediaError, match="folder"):
        media.read(tmp_path)
    with pytest.raises(MediaError, match="binary mode"):
        media.read(io.StringIO("RIFF"))


def video(with_sound: bool) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        picture = container.add_stream("mpeg4", rate=25, width=16, height=16, pix_fmt="yuv420p")
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono") if with_sound else None
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((24, 16), np.uint8), "yuv420p")
            frame.pts = i
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        if sound:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
            frame.sample_rate = 8000
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return file.getvalue()


def test_videos_are_refused():
    for with_sound in (True, False):
        with pytest.raises(MediaError, match="is a video"):
            media.read(video(with_sound))


def test_cover_pictures_are_not_videos():
    png = av.CodecContext.create("png", "w")
    png.width = png.height = 16
    png.pix_fmt, png.time_base = "rgb24", Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")
    picture = b"".join(bytes(packet) for packet in [*png.encode(frame), *png.encode(None)])
    body = b"\0image/png\0\3\0" + picture
    tag = b"APIC" + len(body).to_bytes(4, "big") + b"\0\0" + body
    size = bytes(len(tag) >> shift & 127 for shift in (21, 14, 7, 0))
    sound = written(sine(5000, channels=2), "mp3")
    sound = sound[sound.index(b"\xff\xfb") :]  # without the tag FFmpeg wrote
    assert media.read(b"ID3\3\0\0" + size + tag + sound).length == 5000


def test_limits():
    data = written(sine(1000, channels=2), "flac")
    assert media.read(data, max_samples=2000).length == 1000
    with pytest.raises(LimitError, match="1999 samples"):
        media.read(data, max_samples=1999)


def forms_of(sound: Audio) -> dict[str, bytes]:
    return {form: written(sound, form) for form in ("wav", "flac", *LOSSY)}


@pytest.mark.parametrize("piped", [False, True])
def test_truncated_files(piped):
    """They are refused or shorter, whatever the offset; lossless ones that tell their length are never shorter."""
    for form, data in forms_of(noise(2, 12000)).items():
        for cut in sorted({3, 11, 30, 44, 100, 300, *range(500, len(data), len(data) // 12), len(data) - 3}):
            part = data[:cut]
            try:
                sound = media.read(Pipe(part) if piped else part)
            except MediaError:
                continue
            assert sound.length <= 12000 + 1152 * (form == "mp3"), (form, cut)  # its padding may be cut off
            assert form not in ("wav", "flac"), (form, cut)


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(["wav", "flac", "mp3", "ogg", "m4a"]), seed=st.integers(0, 2**32 - 1), flips=st.integers(1, 20)
)
def test_damaged_files(form, seed, flips):
    data = bytearray(DAMAGED[form])
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(data), flips):
        data[place] = rng.integers(256)
    try:
        sound = media.read(bytes(data), max_samples=1 << 22)
    except (MediaError, LimitError):
        return
    assert np.isfinite(sound.samples).all()


DAMAGED = forms_of(Audio(noise(2, 6000).samples, 48000, metadata={"title": "x"}))


def test_sound_that_changes_on_the_way_is_refused():
    parts = [
        encoded("aac", "adts", sine(9000, channels=i + 1).samples, layout=layout)
        for i, layout in enumerate(("mono", "stereo"))
    ]
    with pytest.raises(MediaError, match="changes from 1 x 48000 Hz to 2 x 48000 Hz"):
        media.read(b"".join(parts))


def test_junk_around_frames_is_skipped():
    """As players do: pieces of a frame at the start, tags of old kinds at the end."""
    data = encoded("libmp3lame", "mp3", noise(2, 20000).samples)
    frames = data[data.index(b"\xff\xfb", data.index(b"Info")) :]
    assert media.read(frames[100:] + b"TAG" + bytes(125)).length % 1152 == 0
    adts = encoded("aac", "adts", noise(2, 20000).samples)
    assert media.read(adts[:-100]).length == media.read(adts).length - 1024


def test_damage_in_the_middle_is_not():
    for codec, muxer in (("aac", "adts"), ("libmp3lame", "mp3")):
        data = encoded(codec, muxer, noise(2, 100000).samples)
        with pytest.raises(MediaError, match="damaged after"):
            media.read(data[:10000] + data[10100:])


def test_every_wrong_bit_of_flac_is_found():
    """FFmpeg plays damaged frames unless it is told to look at their checksums."""
    data = written(noise(2, 30000), "flac")
    for place in range(9000, len(data), len(data) // 20):
        with pytest.raises(MediaError):
            media.read(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])


# Blocks, pipes and raw PCM


def test_a_reader_gives_blocks_of_one_size():
    data = written(noise(2, 10007), "flac")
    with Reader(data, block=1000) as reader:
        assert (reader.rate, reader.layout, reader.channels, reader.depth) == (48000, "stereo", 2, "s16")
        assert reader.expected == 10007
        blocks = list(reader)
    assert [block.shape for block in blocks] == [(2, 1000)] * 10 + [(2, 7)]
    assert all(block.dtype == np.float32 for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), noise(2, 10007).samples)


def test_reading_starts_where_the_file_is_and_leaves_it_open():
    sound = noise(1, 3000)
    for form in ("wav", "m4a"):
        file = io.BytesIO(b"before" + written(sound, form))
        file.seek(6)
        assert media.read(file).length == 3000
        assert not file.closed


@pytest.mark.parametrize("form", ["wav", "flac", "mp3", "ogg"])
def test_pipes_in_and_out(form):
    sound = Audio(sine(10007, channels=2).samples, 48000, metadata={"title": "x"})
    pipe = Pipe()
    with Writer(pipe, form, rate=48000, layout="stereo", metadata={"title": "x"}) as writer:
        for part in np.array_split(sound.samples, 7, axis=1):
            writer.write(part)
    back = media.read(Pipe(bytes(pipe.given)))
    assert back.metadata == {"title": "x"}
    if form != "mp3":  # its length stands at the start, where a pipe cannot return to
        assert back.length == 10007
    if form in ("wav", "flac"):
        assert np.abs(back.samples - sound.samples).max() <= 1 / 65536


def test_wav_pipes_say_that_their_size_is_unknown():
    pipe = Pipe()
    with Writer(pipe, "wav", rate=8000, layout="mono", depth="s24") as writer:
        writer.write(np.zeros((1, 3), np.float32))
    assert bytes(pipe.given[4:8]) == b"\xff\xff\xff\xff"
    assert bytes(pipe.given[-17:-9]) == b"data\xff\xff\xff\xff"
    assert media.read(bytes(pipe.given)).length == 3


def test_m4a_does_not_go_through_pipes():
    with pytest.raises(MediaError, match="pipe"):
        media.write(sine(1000), Pipe(), "m4a")
    with pytest.raises(MediaError):
        media.read(Pipe(written(noise(2, 200000), "m4a")))


@pytest.mark.parametrize("raw", ["s16le", "s24le", "s32le", "f32le"])
def test_raw_pcm(raw):
    sound = noise(2, 10007, raw[:3])
    pipe = Pipe()
    media.write(sound, pipe, raw)
    assert len(pipe.given) == 2 * 10007 * pcm.WIDTH[raw[:3]]
    with Reader(Pipe(bytes(pipe.given), 777), raw=raw, rate=48000, layout="stereo", block=4096) as reader:
        assert (reader.depth, reader.channels, reader.expected) == (raw[:3], 2, None)
        np.testing.assert_array_equal(np.concatenate(list(reader), axis=1), sound.samples)


def test_raw_pcm_needs_to_be_told_and_to_be_whole():
    for options in ({"raw": "s8", "rate": 1, "layout": "mono"}, {"raw": "s16le"}, {"rate": 8000}, {"layout": "mono"}):
        with pytest.raises(MediaError):
            Reader(b"abcd", **options)
    with Reader(b"abcde", raw="s16le", rate=8000, layout="mono") as reader, pytest.raises(MediaError, match="inside"):
        list(reader)
    with Reader(b"", raw="s16le", rate=8000, layout="mono") as reader:
        assert list(reader) == []


def test_a_live_pipe_is_read_as_it_fills():
    """Blocks come while the other end still writes."""
    out, into = os.pipe()
    first = threading.Event()

    def write():
        with os.fdopen(into, "wb") as file:
            for _ in range(2):
                file.write(bytes(2 * 4096))
                file.flush()
                first.wait(10)

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(out, "rb") as file, Reader(file, raw="s16le", rate=8000, layout="mono", block=1024) as reader:
        blocks = iter(reader)
        for _ in range(4):
            assert next(blocks).shape == (1, 1024)
        first.set()
        assert len(list(blocks)) == 4
    thread.join()


# Writing that fails


def test_formats_by_name():
    assert [media.format_of(name) for name in (".WAV", "oga", "m4b", "opus", "f32le")] == [
        "wav", "ogg", "m4a", "opus", "f32le",
    ]  # fmt: skip
    with pytest.raises(MediaError, match="use one of wav, flac"):
        media.format_of("xyz")


@pytest.mark.parametrize("form", ["wav", "flac", *LOSSY, "s16le"])
def test_an_unfinished_file_is_not_there(form, tmp_path):
    path, held = tmp_path / "x", io.BytesIO(b"before")
    held.seek(6)
    for file in (path, held):
        with pytest.raises(KeyError), Writer(file, form, rate=48000, layout="stereo") as writer:
            writer.write(noise(2, 50000).samples)
            raise KeyError
        writer.close()
    assert not path.exists()
    assert held.getvalue() == b"before"


@pytest.mark.parametrize("form", ["wav", "flac", "mp3", "ogg"])
def test_errors_of_the_file_come_through(form):
    class Full(io.BytesIO):
        def write(self, data):
            if self.tell() + len(data) > 20000:
                raise OSError(28, "No space left on device")
            return super().write(data)

    with pytest.raises(OSError, match="No space left"):
        media.write(noise(2, 200000), Full(), form)


def test_ctrl_c_comes_through():
    class Interrupted(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 5000:
                signal.raise_signal(signal.SIGINT)
            return super().read(min(size, 3000))

    for form in ("wav", "flac", "mp3"):
        with pytest.raises(KeyboardInterrupt):
            media.read(Interrupted(written(noise(2, 200000), form)))


def test_a_writer_checks_what_it_is_given(tmp_path):
    for options in ({"rate": 0}, {"depth": "s8"}, {"layout": "none"}, {"format": "xyz"}):
        with pytest.raises(MediaError):
            Writer(tmp_path / "x", **{"format": "wav", "rate": 8000, "layout": "mono"} | options)
    with Writer(tmp_path / "x", "wav", rate=8000, layout="mono") as writer, pytest.raises(MediaError):
        writer.write(np.zeros((2, 3), np.float32))
    with pytest.raises(MediaError, match="closed"):
        writer.write(np.zeros((1, 3), np.float32))
    for form, sound in (("wav", Audio(np.zeros((40000, 1), np.float32), 8000)), ("flac", noise(9, 10))):
        with pytest.raises(MediaError, match=f"{form} cannot hold"):
            media.write(sound, tmp_path / "y", form)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x"]


def test_wav_beyond_4_gib_is_rf64(monkeypatch):
    sound = noise(2, 1001, "s24", metadata={"title": "x"})
    plain = written(sound, "wav")
    monkeypatch.setattr(wav, "RIFF_LIMIT", 5000)
    data = written(sound, "wav")
    assert len(data) == len(plain)
    assert data.startswith(b"RF64\xff\xff\xff\xffWAVEds64")
    assert int.from_bytes(data[20:28], "little") == len(data) - 8
    assert_same(media.read(data), sound)
    assert wav.header(48000, "stereo", "s16", {}, 1 << 33).startswith(b"RF64") is True


# Resampling


def resampled(samples: np.ndarray, rate_in: int, rate_out: int, block: int) -> np.ndarray:
    resampler = Resampler(rate_in, rate_out, len(samples))
    parts = [resampler.push(samples[:, i : i + block]) for i in range(0, samples.shape[1], block)]
    return np.concatenate([*parts, resampler.finish()], axis=1)


@pytest.mark.parametrize(("rate_in", "rate_out"), [(44100, 16000), (16000, 44100), (48000, 44100), (44100, 44101)])
def test_blocks_do_not_matter(rate_in, rate_out):
    samples = noise(2, 3 * rate_in + 11).samples
    whole = resampled(samples, rate_in, rate_out, samples.shape[1])
    assert whole.shape == (2, round(samples.shape[1] * rate_out / rate_in))
    for block in (rate_in // 10, rate_in, 997):
        np.testing.assert_array_equal(resampled(samples, rate_in, rate_out, block), whole)


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(0, 40000), rate_in=st.integers(4000, 192000), rate_out=st.integers(4000, 192000),
    block=st.integers(100, 50000),
)  # fmt: skip
def test_any_length_and_rate(length, rate_in, rate_out, block):
    samples = np.ones((1, length), np.float32)
    out = resampled(samples, rate_in, rate_out, block)
    assert out.shape == (1, round(length * rate_out / rate_in))
    np.testing.assert_allclose(out, 1, atol=1e-3)


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_time_stays_aligned(rate):
    there = resampled(sine(88200, 44100).samples, 44100, rate, 4410)
    assert decibels(sine(there.shape[1], rate).samples, there) > 90
    sound = sine(88200, 44100)
    back = resampled(there, rate, 44100, 4410)
    assert back.shape == sound.samples.shape
    assert decibels(sound.samples, back) > 90
    noisy = resampled(resampled(noise(1, 44100).samples, 44100, rate, 999), rate, 44100, 999)[0]
    shifts = np.correlate(noisy[20000:24000], noise(1, 44100).samples[0, 19900:24100], "valid")
    assert 100 - shifts[::-1].argmax() == 0


def test_equal_rates_change_nothing():
    samples = noise(2, 1000).samples
    resampler = Resampler(8000, 8000, 2)
    assert resampler.push(samples) is samples
    assert resampler.finish().shape == (2, 0)


def test_resamplers_check_what_they_are_given():
    for rates in ((0, 8000, 1), (8000, -1, 1), (8000, 16000, 0)):
        with pytest.raises(MediaError):
            Resampler(*rates)
    resampler = Resampler(8000, 16000, 2)
    with pytest.raises(MediaError, match="expected"):
        resampler.push(np.zeros((1, 5), np.float32))
    resampler.finish()
    with pytest.raises(MediaError, match="after the end"):
        resampler.push(np.zeros((2, 5), np.float32))
