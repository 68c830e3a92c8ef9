"""Reading video: pixels, times, pipes, damage, and what kind a file is."""

import io
import os
import sys
import threading
from fractions import Fraction

import av
import numpy as np
import pytest

from codec.errors import LimitError, MediaError
from codec.media import audio
from codec.media import video as media
from codec.media.kinds import SOUND_SUFFIXES, VIDEO_SUFFIXES, kind_of
from codec.media.video import PIXELS, Video, VideoFormat
from codec.media.video_frames import Unpacker, carried_as, frame_of
from codec.media.video_pixels import enlarged_planes, from_rgb, matrix_for, rgb_of_ycc, to_rgb, ycc_planes
from codec.media.video_raw import RawFormat
from codec.media.video_reader import Reader
from codec.media.video_times import timing

from support import sound_of
from video_files import RATE, Piped, clip_of, encoded, pictures_of, tone, written

SIZES = [(48, 40), (47, 39), (1, 1), (2, 1), (3, 5)]


def form(pixels: str, **rest) -> VideoFormat:
    size = {"width": 64, "height": 48} | rest
    return VideoFormat(size.pop("width"), size.pop("height"), Fraction(25), pixels, **size)


def colours(width: int, height: int, dtype=np.uint8) -> np.ndarray:
    """[1, H, W, 3], smooth."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 31 + y / 50), np.cos(y / 23), np.sin((x + y) / 41)], -1)
    return np.rint((0.5 + 0.4 * waves) * np.iinfo(dtype).max).astype(dtype)[None]


def decibels(wanted: np.ndarray, got: np.ndarray) -> float:
    scale = np.iinfo(wanted.dtype).max
    return 10 * np.log10(scale**2 / (((wanted.astype(float) - got) ** 2).mean() + 1e-9))


# --- pixels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("pixels", "least"), [("yuv420p", 51), ("yuv420p10le", 60)])
@pytest.mark.parametrize("matrix", [1, 2, 6, 7, 9])
def test_smooth_colours_survive_4_2_0(pixels, least, full, matrix):
    format = form(pixels, width=97, height=65, full=full, matrix=matrix)
    wanted = colours(97, 65, np.uint8 if format.depth == 8 else np.uint16)
    planes = from_rgb(wanted, format)
    assert [plane.shape[1:] for plane in planes] == list(format.plane_shapes)
    got = to_rgb(planes, format)
    assert got.dtype == wanted.dtype
    assert decibels(wanted, got) > least


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le"])
def test_grays_are_gray_and_come_back_to_the_code(pixels, full):
    depth = PIXELS[pixels]
    low, high = (0, (1 << depth) - 1) if full else (16 << depth - 8, 235 << depth - 8)
    format = form(pixels, width=high - low + 1, height=2, full=full)
    luma = np.tile(np.arange(low, high + 1), (1, 2, 1)).astype(np.uint8 if depth == 8 else np.uint16)
    shape = (1, *format.plane_shapes[1])
    planes = (luma, *[np.full(shape, 1 << depth - 1, luma.dtype)] * 2)
    rgb = to_rgb(planes, format)
    assert (rgb == rgb[..., :1]).all()
    assert (rgb[0, 0, 0, 0], rgb[0, 0, -1, 0]) == (0, np.iinfo(rgb.dtype).max)
    for before, after in zip(planes, from_rgb(rgb, format), strict=True):
        np.testing.assert_array_equal(before, after)


def test_known_colours():
    # Pure red by BT.601 and BT.709 in limited range, as every table of colour bars has it.
    red = np.full((1, 4, 4, 3), (255, 0, 0), np.uint8)
    assert [int(p.flat[0]) for p in from_rgb(red, form("yuv420p", width=4, height=4))] == [81, 90, 240]
    assert [int(p.flat[0]) for p in from_rgb(red, form("yuv420p", width=4, height=4, matrix=1))] == [63, 102, 240]
    assert [int(p.flat[0]) for p in from_rgb(red, form("yuv420p", width=4, height=4, full=True))] == [76, 85, 255]


def test_agrees_with_swscale_on_smooth_pictures():
    format = form("yuv420p", matrix=1)
    planes = from_rgb(colours(64, 48), format)
    frame = pictures_of(Video(format, media.Frames(planes, (0,))))[0]
    given = frame_of(frame, "yuv420p")
    flags = 0x4 | 0x2000 | 0x4000 | 0x40000 | 0x80000
    theirs = given.reformat(format="rgb24", src_colorspace="ITU709", interpolation=flags).to_ndarray()
    assert np.abs(to_rgb(planes, format)[0].astype(int) - theirs).max() <= 3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pixels", PIXELS)
def test_any_size_goes_to_rgb_and_back(size, pixels):
    video = clip_of(*size, 2, pixels)
    rgb = to_rgb(video.frames.planes, video.format)
    assert rgb.shape == (2, size[1], size[0], 3)
    again = from_rgb(rgb, video.format)
    assert [plane.dtype for plane in again] == [plane.dtype for plane in video.frames.planes]
    assert [plane.shape for plane in again] == [plane.shape for plane in video.frames.planes]


def test_rgb_changes_depth_full_scale_to_full_scale():
    rgb = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    (deep,) = from_rgb(rgb, form("rgb48le", width=16, height=16))
    assert (deep.dtype, deep.max()) == (np.uint16, 65535)
    (back,) = from_rgb(deep, form("rgb24", width=16, height=16))
    np.testing.assert_array_equal(back, rgb)
    assert from_rgb(rgb, form("rgb24", width=16, height=16))[0] is rgb


def test_full_chroma_keeps_luma_and_follows_chroma():
    planes = pictures_of(clip_of(47, 39, 1))[0]
    wide = enlarged_planes(planes, 8)
    np.testing.assert_array_equal(wide[0], planes[0])
    for small, large in zip(planes[1:], wide[1:], strict=True):
        assert large.shape == (39, 47)
        between_rows = (large[:-1:2, ::2].astype(float) + large[1::2, ::2]) / 2  # where chroma lies
        assert np.abs(between_rows - small[:19]).max() <= 2


def test_4_4_4_loses_only_rounding():
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    back = np.empty_like(rgb)
    rgb_of_ycc(*ycc_planes(rgb, 10, 1, False), depth=10, matrix=1, full=False, out=back)
    np.testing.assert_array_equal(back, rgb)


def test_unknown_matrix_is_named():
    with pytest.raises(MediaError, match="matrix 8"):
        to_rgb(clip_of(matrix=8).frames.planes, clip_of(matrix=8).format)
    assert matrix_for(form("rgb24", matrix=0)) == matrix_for(form("rgb24", matrix=8)) == 1
    assert (matrix_for(form("rgb24", matrix=9)), matrix_for(form("yuv420p"))) == (9, 2)


# --- times ---------------------------------------------------------------------------------------------------


def test_milliseconds_snap_to_the_rate():
    wanted = [0, 1, 2, 5, 6, 9]
    found = timing([7 + round(k * 1000 / RATE) for k in wanted], Fraction(1, 1000), [RATE])
    assert (found.rate, found.time_base, found.start) == (RATE, 1 / RATE, 7)
    assert [found.ticks(7 + round(k * 1000 / RATE)) for k in wanted] == wanted


def test_hours_of_milliseconds_snap_without_drift():
    wanted = np.arange(300_000)
    given = np.rint(wanted * float(1000 / RATE)).astype(int)
    found = timing(given, Fraction(1, 1000), [RATE])
    assert found.rate == RATE
    assert found.ticks(int(given[-1])) == wanted[-1]
    assert timing(given, Fraction(1, 1000), [Fraction(30)]).time_base == Fraction(1, 1000)  # the wrong rate


def test_the_first_rate_that_fits_counts():
    assert timing([0, 40, 80, 120], Fraction(1, 1000), [Fraction(24), Fraction(25), Fraction(50)]).rate == 25


def test_variable_rates_keep_the_clock():
    found = timing([10, 43, 51, 100], Fraction(1, 1000), [Fraction(30), None])
    assert (found.time_base, found.rate) == (Fraction(1, 1000), Fraction(100, 3))
    assert [found.ticks(time) for time in (10, 43, 51, 100)] == [0, 33, 41, 90]


def test_a_clock_is_no_rate():
    assert timing([0, 3000, 6007], Fraction(1, 90_000), [Fraction(90_000)]).time_base == Fraction(1, 90_000)
    assert timing([0, 1000, 90_000], Fraction(1, 1000), [Fraction(1000)]).time_base == Fraction(1, 1000)
    assert timing([0], Fraction(1, 1000), [None]).rate == 25


# --- reading -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("muxer", "codec"), [("mp4", "libx264"), ("matroska", "libx264"), ("mpegts", "libx264"),
                                              ("webm", "libvpx-vp9"), ("avi", "mpeg4"), ("mov", "mpeg4"),
                                              ("flv", "libx264"), ("nut", "ffv1")])  # fmt: skip
def test_containers(muxer, codec):
    clip = clip_of(frames=12, rate=Fraction(25))
    with Reader(encoded(muxer, codec, pictures_of(clip), "yuv420p")) as reader:
        assert reader.frames == 12
        assert (reader.format.rate, reader.format.time_base) == (25, Fraction(1, 25))
        assert (reader.format.width, reader.format.height, reader.format.pixels) == (48, 40, "yuv420p")
        groups = list(reader.groups(5))
    assert [len(group) for group in groups] == [5, 5, 2]
    assert [time for group in groups for time in group.times] == list(range(12))
    got = np.concatenate([group.planes[0] for group in groups])
    assert decibels(clip.frames.planes[0], got) > 30


@pytest.mark.parametrize("muxer", ["mp4", "matroska"])
@pytest.mark.parametrize("start", [0, 7])
def test_reordered_frames_and_gaps(muxer, start):
    times = [0, 1, 2, 3, 7, 8, 9, 10, 20, 21]
    pictures = pictures_of(clip_of(frames=10))
    data = encoded(muxer, "libx264", pictures, "yuv420p", times=[t + start for t in times], options={"bf": "3"})
    video = media.read(data)
    assert video.format.time_base == Fraction(1, 25)
    assert list(video.frames.times) == times
    for index, planes in enumerate(pictures):
        assert decibels(planes[0], video.frames.planes[0][index]) > 25


@pytest.mark.parametrize(("muxer", "base"), [("mp4", Fraction(1, 16000)), ("matroska", Fraction(1, 1000))])
def test_variable_frame_rates(muxer, base):
    times = [0, 33, 45, 101, 118]
    scaled = [round(time * Fraction(1, 1000) / base) for time in times]
    data = encoded(muxer, "libx264", pictures_of(clip_of(frames=5)), "yuv420p", times=scaled, base=base)
    video = media.read(data)
    seconds = [time * video.format.time_base for time in video.frames.times]
    assert seconds == [Fraction(time, 1000) for time in times]


@pytest.mark.parametrize(("pixels", "codec", "carried"), [
    ("yuv420p10le", "ffv1", "yuv420p10le"), ("yuv422p", "ffv1", "rgb24"), ("yuv444p", "ffv1", "rgb24"),
    ("gray", "ffv1", "rgb24"), ("bgr0", "ffv1", "rgb24"), ("yuv422p10le", "ffv1", "rgb48le"),
    ("yuv444p16le", "ffv1", "rgb48le"), ("gbrp10le", "ffv1", "rgb48le"), ("gray16le", "ffv1", "rgb48le"),
    ("rgb24", "png", "rgb24"), ("yuvj420p", "mjpeg", "yuv420p"),
])  # fmt: skip
def test_pixel_formats(pixels, codec, carried):
    given = "rgb48le" if carried == "rgb48le" else "rgb24"
    clip = clip_of(46, 40, 2, given)
    settings = {"color_range": 2} if "yuvj" in pixels or "gray" in pixels else None
    video = media.read(encoded("nut", codec, pictures_of(clip), pixels, given=given, settings=settings))
    assert video.format.pixels == carried
    assert video.format.full == ("yuvj" in pixels)
    wanted = clip.frames.planes[0]
    got = to_rgb(video.frames.planes, video.format)
    if pixels.startswith("gray"):
        wanted = np.repeat((wanted @ np.array([0.299, 0.587, 0.114])).round()[..., None], 3, -1).astype(wanted.dtype)
    got = got // 257 if got.dtype != wanted.dtype else got
    exact = pixels in ("bgr0", "rgb24")
    assert (wanted == got).all() if exact else decibels(wanted, got) > 32


@pytest.mark.parametrize("size", [(48, 40), (47, 39), (2, 2)])
@pytest.mark.parametrize("pixels", ["nv12", "nv21", "p010le", "yuv420p10be", "yuvj420p"])
def test_other_orders_of_the_same_samples(pixels, size):
    """What decoders on graphics cards and some files give; the way there is NumPy's, the way back swscale's."""
    carried = "yuv420p10le" if "10" in pixels else "yuv420p"
    wanted = pictures_of(clip_of(*size, 1, carried))[0]
    if pixels == "yuv420p10be":
        given = [plane.byteswap() for plane in wanted]
    elif pixels == "yuvj420p":
        given = list(wanted)
    else:
        pair = wanted[:0:-1] if pixels == "nv21" else wanted[1:]
        chroma = np.stack(pair, -1).reshape(len(wanted[1]), -1)
        given = [wanted[0] << 6, chroma << 6] if pixels == "p010le" else [wanted[0], chroma]
    frame = frame_of(tuple(given), pixels)
    assert carried_as(frame, "it") == carried
    for plane, got in zip(wanted, Unpacker(carried, 2, "it").planes(frame), strict=True):
        np.testing.assert_array_equal(plane, got)


def test_transparency_is_refused_by_name():
    clip = clip_of(frames=1, pixels="rgb24")
    with pytest.raises(MediaError, match=r"transparency \(bgra\)"):
        media.read(encoded("matroska", "ffv1", pictures_of(clip), "bgra", given="rgb24"))


def test_transparency_beside_the_pictures_is_refused():
    planes = pictures_of(clip_of(frames=2))
    seen = [(*picture, np.full((40, 48), 99, np.uint8)) for picture in planes]
    with pytest.raises(MediaError, match="alpha_mode"):
        Reader(encoded("webm", "libvpx-vp9", seen, "yuva420p"))


@pytest.mark.parametrize("opacity", [255, 254])
def test_palettes(opacity):
    file = io.BytesIO()
    with av.open(file, "w", format="nut") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 40, 3, "pal8"
        frame = av.VideoFrame(40, 3, "pal8")
        np.frombuffer(frame.planes[0], np.uint8).reshape(3, -1)[:, :40] = np.arange(120).reshape(3, 40) % 80
        np.frombuffer(frame.planes[1], np.uint32)[:] = np.arange(256) * 0x030201 | opacity << 24
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if opacity < 255:
        with pytest.raises(MediaError, match=r"transparency \(pal8\)"):
            media.read(file.getvalue())
        return
    planes = media.read(file.getvalue()).frames.planes
    np.testing.assert_array_equal(planes[0][0].reshape(120, 3), np.arange(120)[:, None] % 80 * [3, 2, 1])


def test_deep_white_is_white():
    white = (np.full((8, 8, 3), 65535, np.uint16),)
    for pixels in ("gbrp10le", "gbrp12le", "yuv444p10le", "gray10le"):
        video = media.read(encoded("matroska", "ffv1", [white], pixels, given="rgb48le"))
        assert video.frames.planes[0].min() > 65535 - 80, pixels  # a code of 10 bits


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_clockwise(degrees):
    one = 1 << 16
    matrix = {0: (one, 0, 0, one), 90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}[degrees]
    a, b, c, d = matrix
    full = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    data = encoded("mp4", "libx264", pictures_of(clip_of(frames=1)), "yuv420p", matrix=full)
    assert media.read(data).format.rotation == degrees


def test_mirrored_video_is_refused():
    one = 1 << 16
    data = encoded("mp4", "libx264", pictures_of(clip_of(frames=1)), "yuv420p",
                   matrix=[-one, 0, 0, 0, one, 0, 0, 0, 1 << 30])  # fmt: skip
    with pytest.raises(MediaError, match="mirrored"):
        Reader(data)


def test_colours_and_aspect_are_read():
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 2,
            "sample_aspect_ratio": Fraction(16, 11)}  # fmt: skip
    format = media.read(encoded("mp4", "libx264", pictures_of(clip_of(frames=1)), "yuv420p", settings=tags)).format
    assert (format.matrix, format.primaries, format.transfer, format.full) == (9, 9, 16, True)
    assert format.aspect == Fraction(16, 11)


def test_raw_video_from_file_and_pipe(tmp_path):
    for pixels in PIXELS:
        clip = clip_of(47, 39, 5, pixels)
        data = written(clip, "yuv")
        raw = RawFormat(47, 39, pixels, RATE)
        (tmp_path / "a.yuv").write_bytes(data)
        with Reader(tmp_path / "a.yuv", raw=raw) as reader:
            assert reader.frames == 5
        for source in (tmp_path / "a.yuv", data, Piped(data)):
            video = media.read(source, raw=raw)
            assert video.format == clip.format
            for wanted, got in zip(clip.frames.planes, video.frames.planes, strict=True):
                np.testing.assert_array_equal(wanted, got)
    with pytest.raises(MediaError, match="inside a frame"):
        media.read(data[:-1], raw=raw)
    with pytest.raises(MediaError, match="more than 10 bits"):
        media.read(b"\xff" * 3000, raw=RawFormat(8, 8, "yuv420p10le"))
    with pytest.raises(LimitError, match="pixels"):
        Reader(b"", raw=RawFormat(1 << 20, 1 << 20))


def test_a_pipe_is_read_like_a_file():
    data = written(clip_of(), "mp4")
    read, write = os.pipe()
    sender = threading.Thread(target=lambda: (os.write(write, data), os.close(write)))
    sender.start()
    with os.fdopen(read, "rb") as pipe, Reader(pipe) as reader:
        assert sum(len(group) for group in reader.groups(3)) == reader.frames == 7
    sender.join()


def test_a_file_is_read_from_where_it_stands():
    data = written(clip_of(), "mkv")
    file = io.BytesIO(b"before" + data)
    file.seek(6)
    assert media.read(file).length == 7
    assert not file.closed


def test_groups_hold_no_more_than_a_group():
    clip = clip_of(frames=40)
    with Reader(written(clip, "y4m")) as reader:
        sizes = [len(group) for group in reader.groups(17)]
    assert sizes == [17, 17, 6]
    with Reader(written(clip, "y4m")) as reader:
        groups = list(reader.groups(1 << 40))
    assert groups[0].planes[0].base is None
    np.testing.assert_array_equal(groups[0].planes[1], clip.frames.planes[1])
    with Reader(written(clip, "y4m")) as reader, pytest.raises(MediaError, match="at least one"):
        next(reader.groups(0))


def test_limit_before_memory():
    data = written(clip_of(frames=8), "mkv")
    with pytest.raises(LimitError, match="more than 2 frames"):
        media.read(data, max_memory=48 * 40 * 3 // 2 * 2 * 2)
    assert media.read(data, max_memory=48 * 40 * 3 // 2 * 2 * 8).length == 8


def test_huge_frames_are_refused_before_they_are_decoded(monkeypatch):
    data = written(clip_of(), "mkv")
    monkeypatch.setattr("codec.media.video_demuxer.MAX_PIXELS", 48 * 40 - 1)
    with pytest.raises(LimitError, match="48x40 are more than 1919 pixels"):
        Reader(data)


# --- what cannot be read -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("container", "encoder"), [("mp4", "x264"), ("mkv", "ffv1"), ("webm", "vp9"), ("y4m", None),
                                                    ("avi", "utvideo")])  # fmt: skip
def test_cut_off_files_are_told(container, encoder):
    data = written(clip_of(frames=10), container, encoder)
    for part in range(1, 20):
        with pytest.raises(MediaError):
            media.read(data[: len(data) * part // 23])


def test_damage_is_found_where_the_decoder_sees_it():
    data = bytearray(written(clip_of(96, 80, frames=20), "mkv", "x264"))
    found = []
    for place in range(len(data) // 3, len(data) * 9 // 10, len(data) // 20):
        broken = data.copy()
        broken[place : place + 8] = bytes(8)
        try:
            media.read(bytes(broken))
        except MediaError as exc:
            found.append(str(exc))
    assert len(found) >= 5
    assert all("damaged" in message and "\n" not in message for message in found)


def test_what_is_no_video():
    for data, words in ((b"", "empty"), (b"hello" * 99, "not a video"), (tone("mp4"), "no video")):
        with pytest.raises(MediaError, match=words):
            Reader(data)
    with pytest.raises(MediaError, match="folder"):
        Reader(".")
    with pytest.raises(MediaError, match="int"):
        Reader(7)
    with pytest.raises(FileNotFoundError):
        Reader("nowhere.mp4")


def test_playlists_open_no_other_files(tmp_path):
    (tmp_path / "a.mp4").write_bytes(written(clip_of(), "mp4"))
    (tmp_path / "list.txt").write_text(f"ffconcat version 1.0\nfile {tmp_path}/a.mp4\n")
    with pytest.raises(MediaError, match="not a video"):
        Reader(tmp_path / "list.txt")


def with_cover() -> bytes:
    """Sound with a picture attached."""
    file = io.BytesIO()
    with av.open(io.BytesIO(tone("mp4"))) as source, av.open(file, "w", format="mp4") as container:
        sound = container.add_stream_from_template(source.streams.audio[0])
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 48, 40, "yuvj420p"
        cover.codec_context.color_range = 2
        cover.disposition = av.stream.Disposition.attached_pic
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = sound
                container.mux(packet)
        frame = av.VideoFrame(48, 40, "yuvj420p")
        frame.color_range = 2
        container.mux(cover.encode(frame))
        container.mux(cover.encode(None))
    return file.getvalue()


def test_a_cover_is_no_video():
    data = with_cover()
    with pytest.raises(MediaError, match="cover"):
        Reader(data)
    assert kind_of(data) == "audio"


def test_a_change_of_size_is_told():
    def stream(width: int) -> bytes:
        return encoded("mpegts", "libx264", pictures_of(clip_of(width, frames=5)), "yuv420p")

    with pytest.raises(MediaError, match=r"changes from 48x40 .* to 64x40"):
        media.read(stream(48) + stream(64))


# --- kinds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("container", "encoder"), [("mp4", "x264"), ("mkv", "ffv1"), ("webm", "vp9"), ("y4m", None),
                                                    ("avi", "ffv1"), ("mov", "x264")])  # fmt: skip
def test_videos_are_told(container, encoder, tmp_path):
    data = written(clip_of(frames=2), container, encoder)
    (tmp_path / "a.bin").write_bytes(data)
    file = io.BytesIO(data)
    assert kind_of(data) == kind_of(tmp_path / "a.bin") == kind_of(file) == "video"
    assert file.tell() == 0


def test_sound_stays_sound():
    for data in (
        tone("mp4"),
        tone("matroska"),
        tone("webm", "libopus", rate=48000),
        tone("ogg", "libopus", rate=48000),
    ):
        assert kind_of(data) == "audio"
    file = io.BytesIO()
    audio.write(sound_of(2000), file, "wav")
    assert kind_of(file.getvalue()) == kind_of(sound_of(2000)) == "audio"
    assert kind_of(tone("mp4", video=clip_of())) == kind_of(clip_of()) == "video"


def test_other_kinds(tmp_path):
    for muxer in ("mpegts", "flv", "mpeg"):
        codec = "libx264" if muxer != "mpeg" else "mpeg1video"
        assert kind_of(encoded(muxer, codec, pictures_of(clip_of(frames=2)), "yuv420p")) == "video", muxer
    for data in (b"", b"\x89PNG\r\n\x1a\n", b"\0\0\0\x20ftypavif", b"RIFF1234WEBPVP8 ", b"GIF89a"):
        assert kind_of(data) == "image"
    assert kind_of(Piped(b"YUV4MPEG2 ")) == kind_of("nowhere.mp4") == "image"
    broken = b"\0\0\0\x20ftypisom" + bytes(100)
    (tmp_path / "a.m4a").write_bytes(broken)
    (tmp_path / "a.mp4").write_bytes(broken)
    assert (kind_of(tmp_path / "a.m4a"), kind_of(tmp_path / "a.mp4")) == ("audio", "video")
    assert not set(SOUND_SUFFIXES) & set(VIDEO_SUFFIXES)


def test_kinds_import_nothing():
    import subprocess

    code = "import sys; from codec.media.kinds import kind_of; kind_of(b'YUV4MPEG2 W1'); kind_of(b'fLaC'); "
    code += "sys.exit('av' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
