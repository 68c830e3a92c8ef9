"""The report and the plots as files: what is in them, what must not be, and how large they are."""

from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import json
import math
import re
import sys
from html.parser import HTMLParser

import numpy as np
import PIL.Image
import pytest

from codec.errors import MediaError, MissingPackageError, RateError
from codec.evaluation.bd import bd_psnr, bd_rate
from codec.evaluation.comparison import compare, compare_all
from codec.evaluation.report import Decoded, Exhibit, write_plots, write_report
from codec.evaluation.report.appearance import DARK, LIGHT, MINUS, SHAPES, number, seconds
from codec.evaluation.report.page import render
from codec.evaluation.report.pictures import CROP, data_uri, detailed_crop
from codec.evaluation.results import Curve, Evaluation, Point
from codec.media.image import Image

from support import picture_of

EVIL = "</script><img src=x onerror=alert(1)>'\"&<!--.png"
METRICS = ("psnr", "psnr-of-mean-mse", "ms-ssim", "ms-ssim-db", "ssimulacra2")


def curve_of(name: str, kind: str = "anchor", *, gain: float = 0.0, points: int = 6) -> Curve:
    """A plausible curve, `gain` dB better than the others at every rate."""

    def point(i: int) -> Point:
        psnr = 26 + 2 * i + gain
        metrics = {
            "psnr": psnr, "psnr-of-mean-mse": psnr - 0.4, "ms-ssim": 1 - 10 ** (-(psnr - 18) / 10),
            "ms-ssim-db": psnr - 18, "ssimulacra2": 100 - 1200 / psnr,
        }  # fmt: skip
        return Point(f"q={10 * i + 10}", 0.1 * 1.6**i, metrics, 0.05 + 0.01 * i, 0.02, 90 << 20, 80 << 20, 24)

    return Curve(name, kind, f"{name}, Pillow 13.0.0, quality 10 to 60", tuple(point(i) for i in range(points)))


def lossless(name: str = "png") -> Curve:
    metrics = dict.fromkeys(METRICS) | {"ms-ssim": 1.0, "ssimulacra2": 100.0}
    return Curve(name, "anchor", "Pillow, optimised", (Point("", 11.94, metrics, 0.4, 0.1, 1 << 20, 1 << 20, 24),))


def evaluation_of(*curves: Curve, metrics=METRICS, data: str = "kodak") -> Evaluation:
    return Evaluation(
        curves, metrics, {"Rate": "8 x size of the file / pixels"}, "codec eval kodak --codec jpeg:q=10..60/10",
        {"data": [data], "files": 24, "machine": "two cores"},
    )  # fmt: skip


@pytest.fixture
def evaluation() -> Evaluation:
    published = Curve("VTM", "published", "VTM 9.1", tuple(Point("", p.rate, {"psnr": p.metrics["psnr"] + 3})
                                                          for p in curve_of("x").points))  # fmt: skip
    return evaluation_of(curve_of("walloc-12", "model", gain=1), curve_of("jpeg"), lossless(), published)


@pytest.fixture
def pictures() -> list[Exhibit]:
    original = picture_of((400, 520, 3))
    worse = (original // 16 * 16).astype(np.uint8)
    return [Exhibit("kodim01.png", Image(original), [Decoded("jpeg", "q=10", 0.1, 26.0, Image(worse))])]


class Tree(HTMLParser):
    """What a browser's parser makes of a page, as far as the tests ask."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open[-1:] != ["script"] and self._open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def data_in(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_an_ordinary_report_is_small_and_complete_without_scripts(evaluation, tmp_path):
    write_report(evaluation, [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    text = Tree(page).text
    for expected in ("kodak, 24 files", "1 model, 2 anchors, 1 published curve", "published, not run", "q=10",
                     "Pillow 13.0.0, quality 10 to 60", "8 x size of the file / pixels", "0.1000", "lossless",
                     evaluation.command, "two cores"):  # fmt: skip
        assert expected in text
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


@pytest.mark.parametrize(
    ("facts", "heading"),
    [
        ({"data": ["kodak"], "files": 1}, "kodak, 1 file"),
        ({"data": [f"{i}.png" for i in range(9)], "files": 9}, "0.png, 1.png, 7 more, 9 files"),
        ({"Data": "clic"}, "clic, 24 files"),
        ({}, "Rate and distortion, 24 files"),
    ],
)
def test_the_heading_names_the_data(facts, heading):
    evaluation = Evaluation((curve_of("jpeg"),), METRICS, {}, "codec eval", facts)
    assert f"<h1>{heading}</h1>" in render(evaluation, [])


def test_failures_are_announced_at_the_top(evaluation):
    failed = dataclasses.replace(evaluation, facts=evaluation.facts | {"failures": ["jpeg q=10 has no point (broken)"]})
    announcement = "Not everything could be measured."
    text = Tree(render(failed, [])).text
    assert text.index(announcement) < text.index("Rate and distortion")
    assert "jpeg q=10 has no point (broken)" in text
    assert announcement not in Tree(render(evaluation, [])).text


def test_a_large_report_stays_under_300_kb():
    kinds = ["model"] * 6 + ["peer"] * 4 + ["anchor"] * 12 + ["published"] * 18
    curves = [curve_of(f"{kind}-{i}:speed=6,subsampling=4:4:4", kind, gain=i / 9, points=8)
              for i, kind in enumerate(kinds)]  # fmt: skip
    page = render(evaluation_of(*curves, lossless()), [])
    assert len(page.encode()) < 300_000
    assert len(data_in(page)["bd"]["anchors"]) < len(curves)  # all pairs of all would not fit


def test_nothing_is_loaded_from_anywhere(evaluation, pictures):
    for _, attributes in Tree(render(evaluation, pictures)).tags:
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "data:").startswith(("data:image/webp;base64,", "data:", "#"))


def test_the_policy_allows_this_script_and_style_only(evaluation):
    page = render(evaluation, [])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert len([tag for tag, _ in Tree(page).tags if tag in ("script", "style")]) == 3  # style, data, script


def test_names_from_data_are_only_ever_text(pictures):
    evil = Curve(EVIL, "model", EVIL, tuple(Point(EVIL, p.rate, p.metrics) for p in curve_of("x").points))
    evaluation = Evaluation((evil, curve_of("jpeg")), (*METRICS, EVIL), {EVIL: EVIL}, EVIL, {"data": EVIL, EVIL: EVIL})
    decoded = [Decoded(EVIL, EVIL, 0.1, None, pictures[0].original)]
    page = render(evaluation, [Exhibit(EVIL, pictures[0].original, decoded)])
    plain = render(evaluation_of(curve_of("jpeg")), [])
    tree = Tree(page)
    assert "onerror=alert" not in " ".join(f"{name}" for _, attributes in tree.tags for name in attributes)
    assert len([tag for tag, _ in tree.tags if tag == "script"]) == 2
    assert [a["src"][:15] for tag, a in tree.tags if tag == "img" and "src" in a] == ["data:image/webp"] * 2
    assert page.count("<!--") == plain.count("<!--") == 0
    assert data_in(page)["curves"][0]["name"] == EVIL
    assert tree.text.count(EVIL) > 5


def test_bd_values_are_those_of_the_module(evaluation):
    ours, jpeg = evaluation.curves[:2]
    rates = [[p.rate for p in curve.points] for curve in (jpeg, ours)]
    psnrs = [[p.metrics["psnr"] for p in curve.points] for curve in (jpeg, ours)]
    rate = bd_rate(rates[0], psnrs[0], rates[1], psnrs[1])
    gain = bd_psnr(rates[0], psnrs[0], rates[1], psnrs[1])
    page = render(evaluation, [])
    assert number(rate.value, 1, sign=True) in Tree(page).text
    assert number(gain.value, 2, sign=True) == "+1.00"
    bd = data_in(page)["bd"]
    assert bd["anchor"] == 1  # the only anchor that is a curve
    cell = bd["cells"][0][bd["anchors"].index(1)][0]
    assert cell == pytest.approx([rate.value, rate.overlap, gain.value, gain.overlap], abs=0.006)


def test_every_pair_is_embedded_and_the_asked_for_anchor_comes_first(evaluation):
    bd = data_in(render(evaluation, [], anchor="VTM"))["bd"]
    assert bd["anchor"] == 3
    assert bd["anchors"] == [3, 1, 0]  # then anchors, published, models; not the lossless one
    assert np.shape(bd["cells"]) == (len(METRICS), 3, 4, 4)
    with pytest.raises(RateError, match=r"no curve is called bpg; the anchor is one of walloc-12"):
        render(evaluation, [], anchor="bpg")


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        (lossless(), "png is lossless: a point, not a curve"),
        (curve_of("short", points=3), "short has 3 points; a curve needs at least 4, add qualities"),
        (curve_of("dot", points=1), "dot has 1 point; a curve needs at least 4, add qualities"),
        (Curve("bare", "published", "", ()), "bare has no PSNR (dB)"),
        (curve_of("far", gain=60), "the curves have no common range; choose qualities that overlap"),
        (
            Curve("back", "anchor", "", tuple(Point("", 1.0 + i, {"psnr": 30.0 - i}) for i in range(5))),
            "back: a curve must rise in rate and quality together; leave points out where it does not",
        ),
    ],
)
def test_a_number_that_cannot_be_had_has_its_reason(curve, reason):
    found = compare(curve_of("jpeg"), curve, "psnr")
    assert (found.rate, found.why_no_rate) == (None, reason)
    page = render(evaluation_of(curve_of("jpeg"), curve), [])
    assert reason in data_in(page)["bd"]["reasons"]
    assert any(attributes.get("title") == reason for tag, attributes in Tree(page).tags if tag == "abbr")


def test_little_overlap_is_marked():
    page = render(evaluation_of(curve_of("jpeg"), curve_of("high", gain=8)), [])
    assert Tree(page).text.count("20 low") == 1
    assert Tree(render(evaluation_of(curve_of("jpeg"), curve_of("near", gain=1)), [])).text.count(" low ") == 0


def test_metrics_that_fall_count_the_right_way_round():
    def falling(name: str, factor: float) -> Curve:
        return Curve(name, "anchor", "", tuple(Point("", 0.1 * 2**i, {"lpips": factor * 0.5**i}) for i in range(5)))

    found = compare(falling("a", 1.0), falling("b", 0.8), "lpips")  # b has the smaller, better distance
    assert found.rate < 0
    assert found.gain > 0


def test_values_that_are_no_numbers_are_left_out():
    broken = Curve("broken", "anchor", "", (*curve_of("x").points, Point("q=99", 3.0, {"psnr": math.nan}, math.nan),
                                            Point("q=100", 4.0, {"psnr": math.inf})))  # fmt: skip
    page = render(evaluation_of(broken, curve_of("jpeg")), [])
    points = data_in(page)["curves"][0]["points"]
    assert [point["values"][0] for point in points[-2:]] == [None, None]
    assert "encode" not in points[-2]
    assert not re.search(r"\b(NaN|nan|Infinity|inf)\b", Tree(page).text + json.dumps(data_in(page)))


@pytest.mark.parametrize("curves", [(), (lossless(),), (curve_of("dot", points=1),), (curve_of("model", "model"),)])
def test_there_may_be_hardly_anything_to_report(curves, tmp_path):
    page = render(evaluation_of(*curves), [])
    assert "How the numbers were obtained" in page
    write_plots(evaluation_of(*curves), tmp_path)


def test_the_same_evaluation_gives_the_same_files(evaluation, pictures, tmp_path):
    assert render(evaluation, pictures) == render(evaluation, pictures)
    first, second = (write_plots(evaluation, tmp_path / name) for name in "ab")
    assert [path.name for path in first] == [f"rd-{m}{kind}" for m in METRICS for kind in (".png", ".svg")]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert all(re.search(rb"\b20\d\d-\d\d-\d\d", path.read_bytes()) is None for path in first if path.suffix == ".svg")


def test_plots_leave_matplotlib_as_it_was(evaluation, tmp_path):
    import matplotlib

    before, backend = dict(matplotlib.rcParams), matplotlib.get_backend(auto_select=False)
    with PIL.Image.open(write_plots(evaluation, tmp_path / "plots")[0]) as plot:
        assert plot.size[0] > 1000
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.get_backend(auto_select=False) == backend


def test_names_are_no_formulas(tmp_path):
    names = ("a$b$c", "_hidden", "x_{1}^2 $", EVIL)
    write_plots(evaluation_of(*map(curve_of, names), metrics=("psnr",)), tmp_path)
    comments = re.findall(r"<!-- (.*?) -->", (tmp_path / "rd-psnr.svg").read_text(encoding="utf-8"))
    assert any("hidden" in comment for comment in comments)


def test_plots_without_matplotlib_say_what_to_install(evaluation, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'codec\[eval\]'$"):
        write_plots(evaluation, tmp_path / "plots")
    assert not (tmp_path / "plots").exists()


def test_the_report_needs_neither_torch_nor_matplotlib():
    import subprocess

    code = (
        "import sys, codec.evaluation.report, codec.evaluation.report.page\n"
        "sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def pixels_in(uri: str) -> np.ndarray:
    data = base64.b64decode(uri.removeprefix("data:image/webp;base64,"))
    return np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))


def test_crops_are_exact(pictures):
    original = pictures[0].original
    crop = detailed_crop(original)
    assert (crop.width, crop.height) == (CROP, CROP)
    sources = [a["src"] for tag, a in Tree(render(evaluation_of(), pictures)).tags if tag == "img" and "src" in a]
    assert np.array_equal(pixels_in(sources[0]), crop.of(original).samples)
    assert np.array_equal(pixels_in(sources[1]), crop.of(pictures[0].decoded[0].signal).samples)


def test_crops_lie_where_the_detail_is():
    samples = np.full((900, 1000, 3), 128, np.uint8)
    samples[430:860, 560:990] = np.random.default_rng(0).integers(0, 256, (430, 430, 3))
    crop = detailed_crop(Image(samples))
    assert 430 <= crop.y <= 860 - CROP
    assert 560 <= crop.x <= 990 - CROP


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 700, 3), (383, 385, 1), (384, 384, 3), (700, 5, 3)])
def test_crops_of_small_and_gray_pictures(shape):
    image = Image(picture_of(shape))
    crop = detailed_crop(image)
    assert (crop.height, crop.width) == (min(shape[0], CROP), min(shape[1], CROP))
    assert pixels_in(data_uri(crop.of(image))).shape == (crop.height, crop.width, 3)


def test_deep_pictures_are_rounded_to_8_bits():
    samples = np.array([[[0], [128], [129], [65535]]], np.uint16)
    assert pixels_in(data_uri(Image(samples)))[0, :, 0].tolist() == [0, 0, 1, 255]


def test_colour_profiles_travel_with_the_crops(pictures):
    from PIL import ImageCms

    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = base64.b64decode(data_uri(pictures[0].original, icc).partition(",")[2])
    assert PIL.Image.open(io.BytesIO(data)).info["icc_profile"] == icc


def test_a_picture_of_another_size_is_refused(pictures):
    smaller = Decoded("jpeg", "q=1", 0.1, 20.0, Image(picture_of((399, 520, 3))))
    wrong = Exhibit("kodim01.png", pictures[0].original, [smaller])
    with pytest.raises(MediaError, match=r"kodim01.png by jpeg q=1: Image\(520x399x3 uint8\) is not the size of"):
        render(evaluation_of(), [wrong])


def test_numbers_are_set_as_numbers():
    assert [number(v, 1, sign=True) for v in (1.25, -1.26, -0.01, 0, None, math.nan)] == [
        "+1.2", f"{MINUS}1.3", "0.0", "0.0", "n/a", "n/a",
    ]  # fmt: skip
    assert [seconds(v) for v in (123.4, 12.34, 1.234, 0.01234, 0, None)] == [
        "123", "12.3", "1.23", "0.0123", "0.00", "n/a",
    ]  # fmt: skip


# Machado, Oliveira & Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009),
# full severity, on linear RGB.
SIGHTS = {
    "normal": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colours) -> np.ndarray:
    values = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colours])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize(("colours", "page"), [(LIGHT, "#ffffff"), (DARK, "#15171a")])
def test_colours_can_be_told_apart_and_seen(colours, page):
    light = sorted([linear(colours) @ TO_XYZ[1], np.repeat(linear([page]) @ TO_XYZ[1], 8)], key=np.mean)
    assert ((light[1] + 0.05) / (light[0] + 0.05)).min() >= 3
    for sight in SIGHTS.values():
        xyz = np.clip(linear(colours) @ np.array(sight).T, 0, 1) @ TO_XYZ.T / [0.9505, 1, 1.089]
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        lab = np.stack([116 * f[:, 1], 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2)) > 14


def test_forty_curves_all_look_different():
    assert math.gcd(len(LIGHT), len(SHAPES)) == 1
    curves = [curve_of(f"c{i}", kind) for i, kind in enumerate(["published", "anchor", "model"] * 4)]
    styles = [curve["style"] for curve in data_in(render(evaluation_of(*curves), []))["curves"]]
    assert sorted(styles) == list(range(12))
    assert styles[2] == 0  # our first model has the first colour


def test_the_best_default_anchor_can_be_compared_with_most():
    found = compare_all(evaluation_of(curve_of("far", gain=60), curve_of("jpeg"), curve_of("webp", gain=1)))
    assert found.default == 1
