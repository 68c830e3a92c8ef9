"""The video codecs of others, by PyAV in memory."""

import io
import json
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from codec.errors import MediaError
from codec.evaluation.codecs import FAMILIES, families_for, find_family
from codec.evaluation.spec import parse_spec
from codec.evaluation.video_anchors import ANCHORS, CONTAINERS, decode, encode
from codec.evaluation.video_metrics import METRICS, alike
from codec.media.video import Frames, Video, VideoFormat

CRF = {"crf": "30"}
RAW = {"x264": "h264", "x265": "hevc", "av1": "obu", "vp9": "ivf"}


def clip(frames: int = 9, width: int = 128, height: int = 96, pixels: str = "yuv420p", **tags) -> Video:
    """Waves that drift. (x264 reads memory it has not set of frames much smaller: its files differ from run to run.)"""
    form = VideoFormat(width, height, Fraction(30_000, 1001), pixels, Fraction(1, 30_000), **tags)
    planes = []
    for shape in form.plane_shapes:
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        waves = [np.sin(columns / 5 + t / 3) + np.cos(rows / 7 - t / 5) for t in range(frames)]
        plane = np.stack(waves) * 40 + 128
        if form.rgb:
            plane = np.stack([plane, plane[:, ::-1], 255 - plane], axis=-1)
        planes.append((plane * 2 ** (form.depth - 8)).astype(np.uint8 if form.depth == 8 else np.uint16))
    return Video(form, Frames(tuple(planes), tuple(1001 * t for t in range(frames))))


def psnr(original: Video, decoded: Video, name: str = "psnr-yuv") -> float:
    return METRICS[name].measure(*alike(original, decoded), None)


@pytest.mark.parametrize("name", ANCHORS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_frames_come_back(name, container):
    for pixels in ANCHORS[name].pixels:
        for frames in (1, 2, 9):
            original = clip(frames, pixels=pixels)
            data = encode(name, original, CRF, container=container)
            assert data == encode(name, original, CRF, container=container)
            decoded = decode(name, data, container=container)
            assert (decoded.length, decoded.format.pixels) == (frames, pixels)
            assert psnr(original, decoded) > 30
            if container == "mp4":
                assert decoded.format == original.format
                assert decoded.frames.times == original.frames.times


@pytest.mark.parametrize("name", ANCHORS)
def test_quality_follows_crf(name):
    original = clip(6)
    best, worst = (encode(name, original, {"crf": crf}) for crf in ("12", "50"))
    assert len(best) > len(worst)
    assert psnr(original, decode(name, best)) > psnr(original, decode(name, worst)) + 3


@pytest.mark.parametrize("name", ANCHORS)
def test_raw_is_the_stream_alone(name):
    original = clip()
    raw, file = (encode(name, original, CRF, container=container) for container in ("raw", "mp4"))
    with av.open(io.BytesIO(file)) as container:
        payload = sum(packet.size for packet in container.demux(video=0))
    # parameter sets, and for each frame 12 bytes of IVF or 2 of OBU; in MP4 those are outside of packets
    assert payload < len(raw) + 12 * original.length
    assert len(raw) < payload + 150 + 12 * original.length
    assert len(raw) < len(file)
    for said in (b"x264 - core", b"x265 (build", b"Lavf", b"Lavc"):
        assert said not in raw + file
    with av.open(io.BytesIO(raw)) as container:  # anybody can read it
        assert container.format.name.partition(",")[0] == RAW[name]
        assert len(list(container.decode(video=0))) == original.length


@pytest.mark.parametrize("name", ["x264", "x265", "av1"])
def test_colours_are_stated(name):
    tags = {"matrix": 1, "primaries": 1, "transfer": 1, "full": True}
    form = decode(name, encode(name, clip(2, **tags), CRF)).format
    assert {key: getattr(form, key) for key in tags} == tags
    assert not decode(name, encode(name, clip(2), CRF)).format.full


@pytest.mark.parametrize("name", ANCHORS)
def test_times_of_a_varying_rate_stay_in_mp4(name):
    original = clip()
    times = (0, 1000, 2001, 5001, 5501, 6502, 7503, 7523, 8524)
    original = Video(original.format, Frames(original.frames.planes, times))
    assert decode(name, encode(name, original, CRF, container="mp4"), container="mp4").frames.times == times


@pytest.mark.parametrize(("name", "pixels"), [("x264", "rgb24"), ("x265", "rgb48le"), ("av1", "rgb24")])
def test_rgb_becomes_420(name, pixels):
    original = clip(3, pixels=pixels)
    decoded = decode(name, encode(name, original, {"crf": "10"}))
    assert decoded.format.pixels == ("yuv420p" if pixels == "rgb24" else "yuv420p10le")
    assert psnr(original, decoded, "psnr") > 30
    assert psnr(original, decoded, "psnr-y") > 35


def test_odd_sizes():
    for name in ("av1", "vp9"):
        original = clip(3, 129, 97)
        assert psnr(original, decode(name, encode(name, original, CRF))) > 30
    for name in ("x264", "x265"):
        with pytest.raises(MediaError, match=f"{name} takes even sizes, not 65x96; scale"):
            encode(name, clip(1, 65), CRF)


def test_what_is_impossible_is_said():
    with pytest.raises(MediaError, match="VP9 takes yuv420p here, not yuv420p10le; leave it out"):
        encode("vp9", clip(1, pixels="yuv420p10le"), CRF)
    with pytest.raises(MediaError, match=r"x264 cannot encode Video\(128x96.*preset=sluggish .*; try other options"):
        encode("x264", clip(1), {"preset": "sluggish"})


@pytest.mark.parametrize("name", ANCHORS)
def test_damaged_files(name):
    data = encode(name, clip(3), CRF)
    for damaged in (b"", b"junk" * 20, data[:20]):
        with pytest.raises(MediaError, match="encode again"):
            decode(name, damaged)


def test_a_clip_that_lost_frames_cannot_be_compared():
    original = clip(9)
    data = encode("av1", original, CRF)
    decoded = decode("av1", data)
    with pytest.raises(MediaError, match="9 and 8 frames cannot be compared"):
        alike(original, replace(decoded, frames=decoded.frames[:8]))


def test_versions():
    for name, version in {"x264": "x264 core ", "x265": "x265 4.", "av1": "SVT-AV1 v", "vp9": "libvpx v"}.items():
        assert ANCHORS[name].version().startswith(version)
        assert "(FFmpeg " in ANCHORS[name].version()


def test_families():
    names = [name for name in FAMILIES if find_family(name).media == "video"]
    assert names == list(ANCHORS)
    assert set(names) <= set(families_for("video"))
    assert not set(names) & set(families_for("image"))
    for name in names:
        options = find_family(name).options
        assert len(options["crf"].default) >= 5
        for option in options.values():
            for value in option.default:
                option.check(value)


@pytest.mark.parametrize(
    ("spec", "label", "options"),
    [
        ("x264", "x264", {"crf": 18.0, "preset": "medium", "container": "raw"}),
        (
            "x265:crf=30.5,preset=ultrafast,tune=psnr,container=mp4",
            "x265:preset=ultrafast,tune=psnr,container=mp4",
            {"crf": 30.5, "preset": "ultrafast", "tune": "psnr", "container": "mp4"},
        ),
        ("av1:preset=10", "av1:preset=10", {"crf": 25, "preset": 10, "container": "raw"}),
        ("vp9:speed=5", "vp9:speed=5", {"crf": 20, "cpu-used": 5, "container": "raw"}),
    ],
)
def test_codecs_of_families(spec, label, options):
    import torch

    [curve] = parse_spec(spec)
    assert curve.name == label
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        codec = curve.codec(next(iter(curve.settings)))
    finally:
        torch.set_num_threads(before)
    assert codec.options == options | {"threads": 1}
    assert json.loads(json.dumps(dict(codec.options))) == codec.options  # or resuming measures all again
    original = clip(3)
    assert psnr(original, codec.decode(codec.encode(original))) > 30
