"""Writing video: what each container and encoder keeps, sound tracks, and what is left after an error."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from codec.errors import MediaError
from codec.media import video as media
from codec.media.sound_tracks import copy_sound
from codec.media.video import PIXELS, Video
from codec.media.video_encoders import CONTAINERS, ENCODERS, encoder_for
from codec.media.video_pixels import to_rgb
from codec.media.video_raw import RawFormat
from codec.media.video_reader import Reader
from codec.media.video_writer import Writer, format_of

from video_files import RATE, Piped, clip_of, packets, tone, written

PAIRS = [(container, encoder) for container, form in CONTAINERS.items() for encoder in form.encoders]
LOSSLESS = ("ffv1", "utvideo", "y4m", "raw")
TIMES = [0, 1, 2, 4, 5, 6, 9]


def reread(data: bytes, container: str, clip: Video) -> Video:
    form = clip.format
    raw = RawFormat(form.width, form.height, form.pixels, form.rate) if container == "yuv" else None
    return media.read(data, raw=raw)


def decibels(wanted: Video, got: Video) -> float:
    """PSNR of RGB, of frames that both have."""
    pictures = []
    for video in (wanted, got):
        rgb = to_rgb(video.frames.planes, video.format)
        pictures.append(rgb.astype(float) / np.iinfo(rgb.dtype).max)
    common = [pictures[1][got.frames.times.index(time)] for time in wanted.frames.times]
    return 10 * np.log10(1 / (((pictures[0] - np.stack(common)) ** 2).mean() + 1e-12))


@pytest.mark.parametrize("pixels", PIXELS)
@pytest.mark.parametrize(("container", "encoder"), PAIRS)
def test_every_pair_keeps_frames_and_times(container, encoder, pixels):
    if pixels not in ENCODERS[encoder].pixels:
        with pytest.raises(MediaError, match=f"{encoder} has no {pixels}; use"):
            written(clip_of(pixels=pixels), container, encoder)
        return
    size = (68, 66) if encoder == "x265" else (48, 40)
    clip = clip_of(*size, pixels=pixels, times=TIMES, matrix=1, primaries=1, transfer=1)
    file = io.BytesIO()
    lost = media.write(clip, file, container, encoder=encoder)
    got = reread(file.getvalue(), container, clip)
    assert list(got.frames.times) == (list(range(10)) if CONTAINERS[container].steady else TIMES)
    assert (got.format.rate, got.format.time_base) == (RATE, 1 / RATE)
    assert ("chroma resolution" in lost) == (clip.format.rgb and not got.format.rgb)
    assert got.format.pixels == (clip.format.pixels if "chroma resolution" not in lost else got.format.pixels)
    exact = encoder in LOSSLESS and (not clip.format.rgb or encoder != "y4m") and "colours" not in lost
    if exact or (encoder in LOSSLESS and clip.format.rgb and encoder != "y4m"):
        for wanted, plane in zip(clip.frames.planes, got.frames.planes, strict=True):
            shown = plane[[got.frames.times.index(time) for time in TIMES]]
            np.testing.assert_array_equal(wanted, shown)
    elif "colours" not in lost:
        assert decibels(clip, got) > (36 if "chroma resolution" in lost else 40)


@pytest.mark.parametrize("container", CONTAINERS)
def test_format_comes_back_but_for_what_is_said_to_be_lost(container):
    clip = clip_of(frames=3, rotation=90, aspect=Fraction(4, 3), matrix=9, primaries=9, transfer=16, full=True,
                   metadata={"title": "T", "mood": "blue"})  # fmt: skip
    file = io.BytesIO()
    lost = media.write(clip, file, container)
    got = reread(file.getvalue(), container, clip)
    assert (got.format.rotation == 90) == ("rotation" not in lost)
    assert (got.format.aspect == Fraction(4, 3)) == ("aspect" not in lost)
    points = (got.format.matrix, got.format.primaries, got.format.transfer)
    assert (points == (9, 9, 16)) == ("colours" not in lost)
    assert got.format.full or "colours" in lost
    assert got.metadata == {key: value for key, value in clip.metadata.items() if key not in lost}
    assert container in ("y4m", "yuv") or got.metadata["title"] == "T"
    assert "mood" in lost or container in ("mkv", "webm")


@pytest.mark.parametrize("container", [name for name, form in CONTAINERS.items() if form.tags])
def test_tags_that_are_not_lost_come_back(container):
    special = {"track": "3/9", "disc": "1/2", "date": "2020", "creation_time": "2021-02-03T04:05:06.000000Z",
               "location": "+48.1+011.5/"}  # fmt: skip
    tags = {name: special.get(name, f"Größe {name}") for name in CONTAINERS[container].tags}
    got = media.read(written(clip_of(frames=1, metadata=tags), container))
    assert got.metadata == tags


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("container", ["mp4", "mkv", "webm", "mov"])
def test_rotation_comes_back(container, degrees):
    assert media.read(written(clip_of(frames=1, rotation=degrees), container)).format.rotation == degrees


@pytest.mark.parametrize("size", [(47, 39), (1, 1), (3, 2)])
@pytest.mark.parametrize("pixels", PIXELS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_odd_sizes(container, pixels, size):
    clip = clip_of(*size, frames=2, pixels=pixels)
    if min(size) < 16 and encoder_for(container, clip.format) == "av1":  # it refuses them
        with pytest.raises(MediaError, match="use mkv with ffv1"):
            written(clip, container)
        return
    data = written(clip, container)
    got = reread(data, container, clip)
    assert (got.width, got.height, got.length) == (*size, 2)
    if size == (47, 39):
        assert decibels(clip, got) > 36


def test_tiny_frames_have_a_home():
    for pixels in PIXELS:
        clip = clip_of(1, 1, 2, pixels)
        got = media.read(written(clip, "mkv", "ffv1"))
        for wanted, plane in zip(clip.frames.planes, got.frames.planes, strict=True):
            np.testing.assert_array_equal(wanted, plane)


@pytest.mark.parametrize("container", ["mp4", "mkv", "webm", "mov"])
def test_variable_frame_rates_are_kept(container):
    times = [5, 38, 50, 106, 123]
    clip = clip_of(frames=5, times=times, time_base=Fraction(1, 1000), rate=Fraction(42))
    got = media.read(written(clip, container))
    assert [time * got.format.time_base for time in got.frames.times] == [Fraction(t - 5, 1000) for t in times]


@pytest.mark.parametrize("container", ["avi", "y4m", "yuv"])
def test_steady_containers_repeat_or_refuse(container):
    clip = clip_of(frames=3, times=[2, 3, 6], full=False)
    got = reread(written(clip, container, "utvideo" if container == "avi" else None), container, clip)
    order = [0, 1, 1, 1, 2]
    np.testing.assert_array_equal(got.frames.planes[0], clip.frames.planes[0][order])
    with pytest.raises(MediaError, match="no multiples"):
        written(clip_of(frames=3, times=[0, 3, 7], time_base=Fraction(1, 100)), container)
    with pytest.raises(MediaError, match="missing in a row"):
        written(clip_of(frames=2, times=[0, 1 << 40]), container)


def test_times_must_rise_across_groups():
    clip = clip_of(frames=4)
    with pytest.raises(MediaError, match="must rise"), Writer(io.BytesIO(), "y4m", clip.format) as writer:
        writer.write(clip.frames[:2])
        writer.write(clip.frames[1:])
    with pytest.raises(MediaError, match="expected yuv420p frames"), Writer(io.BytesIO(), "y4m", clip.format) as writer:
        writer.write(clip_of(32, 40).frames)
    deep = clip_of(pixels="yuv420p10le").format
    with pytest.raises(MediaError, match="uint8"), Writer(io.BytesIO(), "mp4", deep) as writer:
        writer.write(clip.frames)


def test_formats_and_encoders_by_name():
    assert [format_of(name) for name in (".MP4", "m4v", "matroska", ".y4m", "raw")] == [
        "mp4",
        "mp4",
        "mkv",
        "y4m",
        "yuv",
    ]
    with pytest.raises(MediaError, match=r"cannot write '\.gif' video; use one of mp4, mkv"):
        format_of(".gif")
    form = clip_of().format
    assert [encoder_for(kind, form) for kind in CONTAINERS] == ["x264", "x264", "vp9", "x264", "x264", "y4m", "raw"]
    assert encoder_for("webm", clip_of(pixels="yuv420p10le").format) == "av1"
    for container, encoder, words in (("mp4", "ffv1", "cannot hold ffv1"), ("mp4", "h264", "unknown encoder"),
                                      ("mkv", "x265", "fails below 64x64")):  # fmt: skip
        with pytest.raises(MediaError, match=words):
            encoder_for(container, form, encoder)


def test_lossless_h264_sizes_are_small():
    clip = clip_of(96, 80, 20)
    assert len(written(clip, "mp4")) < len(written(clip, "mkv", "ffv1")) < len(written(clip, "y4m"))


# --- what is left after an error -----------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["mp4", "mkv", "y4m"])
def test_nothing_half_written_stays(container, tmp_path):
    clip, path, file = clip_of(frames=4), tmp_path / "a", io.BytesIO(b"before")
    file.seek(6)
    for target in (path, file):
        with pytest.raises(RuntimeError, match="stop"), Writer(target, container, clip.format) as writer:
            writer.write(clip.frames)
            raise RuntimeError("stop")
    assert not path.exists()
    assert file.getvalue() == b"before"
    with pytest.raises(MediaError, match="at least one frame"), Writer(path, container, clip.format):
        pass
    assert not path.exists()


def test_a_file_is_written_from_where_it_stands():
    clip, file = clip_of(), io.BytesIO(b"before")
    file.seek(6)
    media.write(clip, file, "mp4")
    assert file.getvalue().startswith(b"before")
    assert media.read(file.getvalue()[6:]).length == 7


class Full(io.BytesIO):
    """A disk with little room."""

    def write(self, data):
        if self.tell() + len(data) > 3000:
            raise OSError(28, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("container", ["mp4", "mkv", "y4m"])
def test_a_full_disk_is_told(container):
    file = Full()
    with pytest.raises(OSError, match="No space left"):
        media.write(clip_of(96, 80, 60, full=True), file, container)
    assert file.getvalue() == b""


class Pipe:
    """Takes bytes, never goes back."""

    def __init__(self):
        self.data = b""

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def test_pipes():
    clip = clip_of()
    for container in ("y4m", "yuv"):
        pipe = Pipe()
        media.write(clip, pipe, container)
        np.testing.assert_array_equal(reread(pipe.data, container, clip).frames.planes[2], clip.frames.planes[2])
    with pytest.raises(MediaError, match="pipe; use y4m"):
        media.write(clip, Pipe(), "mp4")


# --- sound ---------------------------------------------------------------------------------------------------


def remuxed(sound: bytes, container: str, frames: int = 30) -> bytes:
    """A video with copied sound."""
    clip, file = clip_of(frames=frames), io.BytesIO()
    with Writer(file, container, clip.format, sound=[io.BytesIO(sound)]) as writer:
        writer.write(clip.frames)
    return file.getvalue()


@pytest.mark.parametrize(("muxer", "codec", "rate"), [("mp4", "aac", 44100), ("mp4", "libmp3lame", 48000),
                                                      ("matroska", "libopus", 48000), ("mov", "pcm_s16le", 44100),
                                                      ("mp4", "flac", 44100), ("mp4", "ac3", 48000)])  # fmt: skip
def test_packets_are_the_same_to_the_bit(muxer, codec, rate):
    source = tone(muxer, codec, 1.0, clip_of(frames=30), rate)
    kept = io.BytesIO()
    names = copy_sound(source, kept)
    assert names == [{"libmp3lame": "mp3", "libopus": "opus"}.get(codec, codec)]
    again = remuxed(kept.getvalue(), {"matroska": "mkv"}.get(muxer, muxer))
    first, between, last = packets(source), packets(kept.getvalue()), packets(again)
    assert len(first[0]) >= 10
    assert [p[2] for p in first[0]] == [p[2] for p in between[0]] == [p[2] for p in last[0]]
    if muxer != "matroska":
        assert [p[0] for p in first[0]] == [p[0] for p in last[0]]  # times too, to the sample


def test_run_up_of_the_encoder_stays_before_the_picture():
    source = tone("mp4", "aac", 0.5, clip_of(frames=15))
    kept = io.BytesIO()
    copy_sound(source, kept)
    assert packets(source)[0][0][0] == packets(remuxed(kept.getvalue(), "mp4", 15))[0][0][0] < 0
    mkv = remuxed(kept.getvalue(), "mkv", 15)
    delay = packets(mkv, "video")[0][0][0] - packets(mkv)[0][0][0]
    assert delay == round(1024 / 44.1)  # ms: the picture waits for it instead
    with Reader(mkv) as reader:
        assert next(reader.groups(99)).times[0] == 0


def test_sound_long_before_the_picture_is_not_cut():
    source, kept = tone("mp4", "flac", 1.0), io.BytesIO()
    copy_sound(source, kept, start=Fraction(1, 2))
    again = remuxed(kept.getvalue(), "mp4")
    assert packets(again)[0][0][0] == 0
    with av.open(io.BytesIO(again)) as container:
        assert container.streams.video[0].start_time * container.streams.video[0].time_base == Fraction(1, 2)


@pytest.mark.parametrize("piped", [False, True])
def test_reader_copies_sound_while_it_reads(piped):
    clip = clip_of(frames=30)
    source = tone("mp4", "aac", 1.0, clip)
    with Reader(Piped(source) if piped else source) as reader:
        assert reader.sound == 1
        groups = reader.groups(4)
        times = list(next(groups).times)
        file = io.BytesIO()
        assert reader.copy_sound(file) == ["aac"]
        times += [time for group in groups for time in group.times]
    assert times == list(range(30))
    assert [p[2] for p in packets(file.getvalue())[0]] == [p[2] for p in packets(source)[0]]


def test_copies_are_deterministic_and_keep_language():
    source, copies = tone("mp4", video=clip_of()), []
    for _ in range(2):
        copies.append(io.BytesIO())
        copy_sound(source, copies[-1])
    assert copies[0].getvalue() == copies[1].getvalue()
    with av.open(io.BytesIO(source)) as read, av.open(named := io.BytesIO(), "w", format="mp4") as container:
        stream = container.add_stream_from_template(read.streams.audio[0])
        stream.metadata["language"] = "fra"
        for packet in read.demux(read.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    copy_sound(named.getvalue(), kept := io.BytesIO())
    with av.open(io.BytesIO(remuxed(kept.getvalue(), "mp4"))) as container:
        assert container.streams.audio[0].metadata["language"] == "fra"


def test_several_tracks_and_files():
    one, two = io.BytesIO(), io.BytesIO()
    copy_sound(tone("mp4", "aac", 0.5), one)
    copy_sound(tone("mp4", "flac", 0.7), two)
    clip, file = clip_of(), io.BytesIO()
    with Writer(file, "mkv", clip.format, sound=[one.getvalue(), two.getvalue()]) as writer:
        writer.write(clip.frames)
    both = io.BytesIO()
    assert copy_sound(file.getvalue(), both) == ["aac", "flac"]
    again = packets(both.getvalue())
    assert [[p[2] for p in track] for track in again] == [[p[2] for p in packets(x.getvalue())[0]] for x in (one, two)]
    with Reader(file.getvalue()) as reader:
        assert reader.sound == 2


def test_tags_that_copy_sound_did_not_write():
    kept = io.BytesIO()
    copy_sound(tone("mp4", "aac", 0.3), kept)
    assert b"-256/11025" in kept.getvalue()  # 1024 samples of 44100 a second
    for text in (b"nonsense!!", b"-256/00000", b"9999999999"):
        with pytest.raises(MediaError, match="not made by copy_sound"):
            remuxed(kept.getvalue().replace(b"-256/11025", text), "mp4")


def test_no_sound_gives_no_file():
    file = io.BytesIO()
    assert copy_sound(written(clip_of(), "mp4"), file) == []
    assert file.getvalue() == b""
    with Reader(written(clip_of(), "y4m")) as reader:
        assert reader.copy_sound(file) == []


def test_sound_a_container_cannot_hold():
    kept = io.BytesIO()
    copy_sound(tone("mp4", "aac", 0.3), kept)
    with pytest.raises(MediaError, match="webm cannot hold aac sound; write mkv"):
        remuxed(kept.getvalue(), "webm")
    with pytest.raises(MediaError, match="y4m holds no sound"):
        remuxed(kept.getvalue(), "y4m")
    with pytest.raises(MediaError, match="not a video file"):
        remuxed(b"nonsense", "mp4")
