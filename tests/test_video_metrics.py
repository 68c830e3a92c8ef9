"""The metrics of video, against what they should be by definition."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from codec.errors import MediaError, MissingPackageError
from codec.evaluation import vmaf as vmaf_module
from codec.evaluation.chroma import subsampled
from codec.evaluation.films import VIDEOS
from codec.evaluation.image_metrics import METRICS as OF_PICTURES
from codec.evaluation.metrics import choose, compare
from codec.evaluation.scales import RATES, scale_of
from codec.evaluation.video_metrics import METRICS, alike
from codec.evaluation.vmaf import vmaf
from codec.media.image import Image
from codec.media.video import Frames, Video
from codec.media.video_pixels import from_rgb, to_rgb
from codec.rate import bits_per_pixel

from support import video_of

OWN = ("psnr", "mse", "psnr-yuv", "psnr-y")


def noisy(video: Video, seed: int = 1, levels: int = 4) -> Video:
    """Every sample up to some levels (of 8 bits) away."""
    random = np.random.default_rng(seed)
    levels <<= video.format.depth - 8
    top = (1 << video.format.depth) - 1
    planes = tuple(
        (plane.astype(np.int64) + random.integers(-levels, levels + 1, plane.shape)).clip(0, top).astype(plane.dtype)
        for plane in video.frames.planes
    )
    return Video(video.format, Frames(planes, video.frames.times))


def measure(name: str, a: Video, b: Video) -> float | None:
    return METRICS[name].measure(*alike(a, b), None)


def mse(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean((x.astype(np.float64) - y) ** 2))


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le", "rgb24", "rgb48le"])
def test_psnr_by_hand(pixels):
    a = video_of(4, pixels=pixels)
    b = noisy(a)
    x, y = (to_rgb(video.frames.planes, video.format) for video in (a, b))
    top = 255 if a.format.depth == 8 else 65535
    each = [mse(p, q) for p, q in zip(x, y, strict=True)]
    assert measure("psnr", a, b) == pytest.approx(np.mean([10 * math.log10(top**2 / e) for e in each]))
    assert measure("mse", a, b) == pytest.approx(np.mean(each) * (255 / top) ** 2)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le"])
def test_psnr_of_planes_by_hand(pixels):
    a = video_of(4, 50, 40, pixels=pixels)
    b = noisy(a)
    top = (1 << a.format.depth) - 1
    planes = [
        [10 * math.log10(top**2 / mse(p, q)) for p, q in zip(x, y, strict=True)]
        for x, y in zip(a.frames.planes, b.frames.planes, strict=True)
    ]
    y, u, v = (np.mean(plane) for plane in planes)
    assert measure("psnr-y", a, b) == pytest.approx(y)
    assert measure("psnr-yuv", a, b) == pytest.approx((6 * y + u + v) / 8)
    assert len({round(value, 3) for value in (y, u, v)}) == 3  # else the weights would not show


def test_planes_of_rgb_are_those_of_what_it_becomes():
    a, b = video_of(3, pixels="rgb24"), noisy(video_of(3, pixels="rgb24"))
    form = subsampled(a.format)
    assert form.pixels == "yuv420p"
    coded = [replace(video, format=form, frames=Frames(from_rgb(video.frames.planes[0], form), video.frames.times))
             for video in (a, b)]  # fmt: skip
    assert measure("psnr-yuv", a, b) == pytest.approx(measure("psnr-yuv", *coded))
    assert measure("psnr-yuv", a, coded[1]) == pytest.approx(measure("psnr-yuv", *coded))


@pytest.mark.parametrize("name", OWN)
def test_what_comes_back_exactly(name):
    a = video_of(4)
    assert measure(name, a, a) == (0 if name == "mse" else None)
    assert compare(a, a, [name]) == {name: 0 if name == "mse" else None}


@pytest.mark.parametrize(("pixels", "most"), [("yuv420p", 60), ("yuv420p10le", 72)])
def test_an_exact_frame_does_not_make_a_mean_infinite(pixels, most):
    a = video_of(4, pixels=pixels)
    b = noisy(a)
    for plane, exact in zip(b.frames.planes, a.frames.planes, strict=True):
        plane[1] = exact[1]
    rest = [measure("psnr", *(Video(v.format, v.frames[i : i + 1]) for v in (a, b))) for i in (0, 2, 3)]
    assert measure("psnr", a, b) == pytest.approx((sum(rest) + most) / 4)
    barely = Video(a.format, Frames(tuple(plane.copy() for plane in a.frames.planes), a.frames.times))
    barely.frames.planes[0][0, 0, 0] ^= 1
    assert measure("psnr-y", a, barely) == pytest.approx(most)  # not lossless, but no better than that


def test_exact_chroma_counts_as_such():
    a = video_of(2)
    b = Video(a.format, Frames((noisy(a).frames.planes[0], *a.frames.planes[1:]), a.frames.times))
    assert measure("psnr-yuv", a, b) == pytest.approx((6 * measure("psnr-y", a, b) + 60 + 60) / 8)


def test_ms_ssim_is_that_of_the_frames():
    pytest.importorskip("pytorch_msssim")
    a = video_of(2, 176, 168)
    b = noisy(a, levels=40)
    x, y = (to_rgb(video.frames.planes, video.format) for video in (a, b))
    each = [OF_PICTURES["ms-ssim"].measure(Image(p), Image(q), None) for p, q in zip(x, y, strict=True)]
    assert measure("ms-ssim", a, b) == pytest.approx(np.mean(each), abs=1e-6)
    assert measure("ms-ssim", a, b) < 0.999
    small = video_of(2, 176, 144)
    assert measure("ms-ssim", small, noisy(small)) is None


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le", "rgb24"])
def test_vmaf(pixels):
    pytest.importorskip("imageio_ffmpeg")
    a = video_of(5, 97, 65, pixels=pixels)
    perfect, good, bad = vmaf(a, a), vmaf(a, noisy(a, levels=4)), vmaf(a, noisy(a, levels=60))
    assert 90 < perfect <= 100
    assert perfect > good > bad + 5
    assert good == vmaf(a, noisy(a, levels=4))
    assert METRICS["vmaf"].measure(a, noisy(a, levels=4), None) == good


def test_vmaf_sees_frames_in_order():
    pytest.importorskip("imageio_ffmpeg")
    a = video_of(6, 96, 64)
    turned = Video(a.format, Frames(tuple(plane[::-1] for plane in a.frames.planes), a.frames.times))
    assert vmaf(a, a) > vmaf(a, turned) + 5


def test_vmaf_of_small_frames_is_not_defined():
    assert vmaf(video_of(2, 48, 30), video_of(2, 48, 30)) is None
    pytest.importorskip("imageio_ffmpeg")
    assert vmaf(video_of(2, 32, 32), video_of(2, 32, 32)) > 90


def test_vmaf_without_its_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingPackageError, match="pip install imageio-ffmpeg"):
        vmaf(video_of(2), video_of(2))
    monkeypatch.setattr("codec.evaluation.metrics.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="vmaf needs a package; pip install imageio-ffmpeg"):
        choose(["vmaf"], {}, VIDEOS)
    assert "vmaf" not in choose([], {}, VIDEOS)[0]


def test_an_ffmpeg_without_libvmaf_is_reported(monkeypatch, tmp_path):
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\necho \"No such filter: 'libvmaf'\" >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(vmaf_module, "_ffmpeg", lambda: str(script))
    with pytest.raises(MediaError, match=r"VMAF could not be computed \(No such filter: 'libvmaf'\); leave it out"):
        vmaf(video_of(2), video_of(2))


def test_what_cannot_be_compared():
    a = video_of(3)
    for b, message in (
        (video_of(3, 50, 40), "48x40 and 50x40 pixels cannot be compared; scale one"),
        (video_of(2), "3 and 2 frames cannot be compared; cut one"),
        (video_of(3, pixels="yuv420p10le"), "8 and 10 bits a sample cannot be compared; convert one"),
    ):
        with pytest.raises(MediaError, match=message):
            compare(a, b, ["psnr"])


def test_a_matrix_that_is_not_stated_is_that_of_the_other():
    stated, silent = video_of(2, matrix=1), video_of(2)
    assert measure("mse", stated, silent) == measure("mse", silent, stated) == 0
    assert measure("mse", stated, replace(silent, format=replace(silent.format, matrix=9))) > 1


def test_times_and_frame_rates_do_not_matter():
    a = video_of(3)
    b = replace(a, format=replace(a.format, rate=Fraction(7), time_base=Fraction(1, 90)))
    assert measure("mse", a, b) == 0


def test_rate_is_of_the_file():
    video = video_of(5)
    size = VIDEOS.size_of(video)
    assert size == {"width": 48, "height": 40, "frames": 5, "microseconds": 200_000}
    assert VIDEOS.rate_of(1200, size) == 8 * 1200 / (48 * 40 * 5) == bits_per_pixel(1200, 48, 40, 5)
    assert bits_per_pixel(1200, 48, 40) == 5
    assert VIDEOS.duration_of(size) == pytest.approx(0.2)


def test_every_metric_is_described():
    assert set(OWN) | {"ms-ssim", "vmaf"} == set(METRICS)
    for name in VIDEOS.columns:
        assert scale_of(name).label != name
    assert RATES["video"].name == "bpp"
    assert set(VIDEOS.infinite) == set(OWN)
