"""Which settings the report shows, and what it says of them."""

import PIL.Image
import pytest
from benchmarks import strip

import codec
from codec.evaluation import showcase
from codec.evaluation.measure import Job
from codec.evaluation.pictures import PICTURES
from codec.evaluation.report import Decoded
from codec.evaluation.report.page import render
from codec.evaluation.results import Row
from codec.evaluation.sources import SourceFile
from codec.evaluation.spec import CurveSpec

from support import DATA
from test_report import Tree, curve_of, evaluation_of

PIXELS = {"width": 1000, "height": 800}
FILE = SourceFile(str(DATA / "parrots.png"), "a.png")


def shown(psnr: float | None = 30.0, **curves: list[int]) -> dict[str, list[int]]:
    """Return, of curves given by the bytes at their settings, the bytes of those that are chosen."""
    jobs, rows = [], []
    for name, sizes in curves.items():
        for size in sizes:
            jobs.append(Job(FILE, "", CurveSpec("jpeg", name, {}), f"q={size}"))
            rows.append(Row("a.png", "", name, f"q={size}", size=PIXELS, bytes=size, metrics={"psnr": psnr}))
    chosen = showcase.choose(jobs, rows, ["a.png"], PICTURES)["a.png"]
    return {name: [c.row.bytes for c in chosen if c.job.curve.name == name] for name in curves}


def test_rates_that_all_reach_are_shown():
    found = shown(a=[1000, 2000, 3000, 9000], b=[100, 1100, 2700, 9500, 90_000])
    assert found == {"a": [1000, 3000, 9000], "b": [1100, 2700, 9500]}


def test_where_nothing_is_common_each_is_shown_as_near_as_it_gets():
    found = shown(vqgan=[2000, 3000, 4500], webp=[15_000, 20_000, 60_000], avif=[4000, 6000, 9000])
    assert found == {"vqgan": [2000, 3000, 4500], "webp": [15_000], "avif": [4000]}
    assert shown(vqgan=[2000, 3000, 4500], avif=[4000], webp=[15_000])["vqgan"] == [2000, 3000, 4500]


def test_single_points_of_one_size_match():
    assert shown(a=[1000, 3000, 9000], b=[3000]) == {"a": [3000], "b": [3000]}


def test_what_is_lossless_is_left_out():
    assert shown(None, png=[100_000]) == {"png": []}


@pytest.fixture(scope="module")
def exhibits():
    """A picture by a codec at one setting, decoded from what was measured of it."""
    curve = CurveSpec("jpeg", "jpeg", {"q=1": {"q": "1", "subsampling": "4:2:0", "scans": "many"}})
    picture = codec.read(FILE.path)
    size = len(curve.codec("q=1").encode(picture))
    metrics = {"psnr": 22.1, "ssimulacra2": -12.34, "ms-ssim": None, "lpips": None}
    row = Row("a.png", "x", "jpeg", "q=1", size=PICTURES.size_of(picture), bytes=size, metrics=metrics)
    choice = showcase.Choice(Job(FILE, "x", curve, "q=1"), row)
    steps = []
    found = showcase.decode({"a.png": [choice], "b.png": []}, PICTURES, steps.append, {})
    assert steps == [1.0]
    return found


def test_exhibits_are_what_the_codec_decodes(exhibits):
    [exhibit] = exhibits
    [decoded] = exhibit.decoded
    assert exhibit.original.samples.shape == decoded.signal.samples.shape
    assert decoded.rate == pytest.approx(8 * decoded.bytes / (exhibit.original.width * exhibit.original.height))
    assert 10 < codec.psnr_of(decoded.signal, exhibit.original) < 30


def test_captions_tell_bytes_rate_and_how_it_looks(exhibits):
    [decoded] = exhibits[0].decoded
    expected = f"{decoded.bytes:,} bytes, {decoded.rate:.3f} bpp, 22.10 dB, SSIMULACRA 2 \N{MINUS SIGN}12.34"
    tree = Tree(render(evaluation_of(curve_of("jpeg")), exhibits))
    assert expected in tree.text
    assert [a["data-facts"] for tag, a in tree.tags if "data-facts" in a] == [expected]


def test_what_was_not_measured_is_not_told(exhibits):
    plain = Decoded("jpeg", "q=1", 0.1, None, exhibits[0].original, metrics={"dists": 0.25})
    assert (plain.size, plain.quality) == ("", "lossless, DISTS 0.2500")


@pytest.mark.parametrize("form", ["webp", "png"])
def test_a_strip_shows_what_is_nearest_in_bytes(tmp_path, capsys, form):
    out = tmp_path / f"strip.{form}"
    wanted = len(CurveSpec("jpeg", "", {"": {"q": "10", "subsampling": "4:2:0", "scans": "many"}}).codec("").encode(
        codec.read(FILE.path)))  # fmt: skip
    words = [FILE.path, "-c", "jpeg:q=1,10,90", "-c", "webp:q=0", "--bytes", str(wanted + 9), "-o", str(out)]
    strip.main([*words, "--crop", "64", "--limit", "4000"])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"jpeg q=10, {wanted:,} bytes, ")
    assert second.startswith("webp q=0, ")
    with PIL.Image.open(out) as opened:
        assert (opened.format, opened.width) == (form.upper(), 3 * 64 + 2 * strip.GAP)
    assert form == "png" or out.stat().st_size <= 4000


def test_a_strip_too_large_for_its_limit_is_refused(tmp_path):
    words = [FILE.path, "-c", "jpeg:q=1", "--bytes", "1500", "-o", str(tmp_path / "s.webp"), "--limit", "10"]
    with pytest.raises(SystemExit, match="smaller --crop"):
        strip.main(words)
    assert list(tmp_path.iterdir()) == []
