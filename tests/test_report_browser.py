"""The report in a real browser: opened from disk, clicked, typed at and looked at."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from codec.evaluation.report import Decoded, Exhibit, write_report
from codec.evaluation.results import Curve, Evaluation, Point
from codec.media.audio import Audio
from codec.media.image import Image

import chromium
from support import picture_of
from test_report import EVIL, METRICS, curve_of, evaluation_of, lossless


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if chromium.find() is None:
        message = "no Chromium; apt-get install chromium"
        pytest.fail(message) if os.environ.get("CODEC_TEST_BROWSER") == "1" else pytest.skip(message)
    with chromium.Browser(tmp_path_factory.mktemp("browser") / "profile") as browser:
        yield browser


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    timed = [dataclasses.replace(p, encode_seconds=None, decode_seconds=99.0, metrics={"psnr": p.metrics["psnr"] + 3})
             for p in curve_of("VTM").points]  # fmt: skip
    return evaluation_of(
        curve_of("walloc-12", "model", gain=1), curve_of("jpeg"), curve_of("webp", gain=0.5), lossless(),
        Curve("VTM", "published", "VTM 9.1", tuple(timed)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(evaluation, tmp_path_factory) -> Path:
    """A page with two pictures; walloc's are black, jpeg's are white, so that it can be seen which is shown."""

    def decoded(shape):
        black, white = (Image(np.full(shape, value, np.uint8)) for value in (0, 255))
        return [
            *(Decoded("walloc-12", f"q={10 * i}", 0.1 * 2**i, 25.0 + i, black) for i in range(3)),
            *(Decoded("jpeg", f"q={10 * i}", 0.12 * 2**i, 24.0 + i, white, 1482 * 2**i) for i in range(3)),
        ]

    shapes = {"kodim01.png": (400, 520, 3), "small.png": (50, 60, 1)}
    pictures = [Exhibit(name, Image(picture_of(shape)), decoded(shape)) for name, shape in shapes.items()]
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(evaluation, pictures, path, anchor="jpeg")
    return path


@pytest.fixture
def page(browser, report):
    """The browser with the report opened afresh at a laptop's size; nothing may go wrong or be loaded meanwhile."""
    browser.complaints.clear()
    browser.requests.clear()
    browser.window(1280, 900)
    browser.open(report)
    yield browser
    assert browser.complaints == []
    assert [address for address in browser.requests if not address.startswith("data:image/webp;base64,")] == []


def texts(page, selector: str) -> list[str]:
    return page.js(f"[...document.querySelectorAll('{selector}')].map((e) => e.textContent)")


def pixels(page, tmp_path: Path, selector: str) -> np.ndarray:
    """Return what can be seen of an element, [H, W, 3]."""
    page.place(selector)
    box = page.js(f"(() => {{ const r = document.querySelector('{selector}').getBoundingClientRect();"
                  "return [r.left, r.top, r.right, r.bottom] })()")  # fmt: skip
    with PIL.Image.open(page.screenshot(tmp_path / "shot.png")) as shot:
        return np.asarray(shot.convert("RGB").crop([round(v) for v in box]))


def colours_in(picture: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in np.unique(picture.reshape(-1, 3), axis=0).tolist()}


def test_the_chart_is_drawn(page, tmp_path):
    chart = pixels(page, tmp_path, "#rd-chart")
    assert chart.shape[0] > 300
    assert {(0x00, 0x69, 0xAC), (0xB8, 0x46, 0x00), (255, 255, 255)} <= colours_in(chart)
    assert texts(page, "#rd-chart text.title") == ["bits per pixel, log scale", "PSNR (dB)"]
    assert page.js("document.querySelectorAll('#rd-chart .curve.published .mark').length") == 6
    dashes = page.js("getComputedStyle(document.querySelector('#rd-chart .published .line')).strokeDasharray")
    assert dashes == "5px, 3px"
    assert "png lossless, 11.94 bpp \N{RIGHTWARDS ARROW}" in texts(page, "#rd-chart text")


def test_a_codec_can_be_hidden_and_shown(page):
    lines = "document.querySelectorAll('#rd-chart g[data-curve=jpeg] path.line').length"
    assert page.js(lines) == 1
    page.click("#legend section:nth-of-type(2) label:nth-of-type(1) span")  # the name, not the box, as people do
    assert page.js(lines) == 0
    page.js("document.querySelector('#legend section:nth-of-type(2) label:nth-of-type(1) input').focus()")
    page.key(" ")
    assert page.js(lines) == 1
    page.click("#legend section:nth-of-type(2) button")
    assert page.js("document.querySelectorAll('#rd-chart g.anchor').length") == 0
    page.click("#legend section:nth-of-type(2) button")
    assert page.js("document.querySelectorAll('#rd-chart g.anchor').length") == 3


def test_metric_and_axis_change(page):
    before = texts(page, "#rd-chart .tick-y"), texts(page, "#rd-chart .tick-x")
    page.choose("#rd [data-control=metric]", "SSIMULACRA 2")
    assert texts(page, "#rd-chart text.title")[1] == "SSIMULACRA 2"
    assert texts(page, "#rd-chart .tick-y") != before[0]
    assert page.js("document.querySelector('#deltas [data-control=metric]').selectedOptions[0].text") == "SSIMULACRA 2"
    assert texts(page, "#bd th")[3] == "BD-SSIMULACRA 2"
    page.click("[name=scale][value=linear]")
    assert texts(page, "#rd-chart .tick-x") == ["0.2", "0.4", "0.6", "0.8", "1"]
    assert before[1] == ["0.1", "0.2", "0.5", "1"]
    assert texts(page, "#rd-chart text.title")[0] == "bits per pixel"


def test_the_pointer_finds_values(page):
    page.mouse("mouseMoved", *page.place("#rd-chart g[data-curve=jpeg] .mark:nth-of-type(4)"))
    assert page.js("document.querySelector('#rd-chart .tip').hidden") is False
    tip = texts(page, "#rd-chart .tip > *")
    assert tip[:2] == ["jpeg", "q=30"]
    assert tip[2].startswith("bpp0.2560PSNR (dB)30.00")
    assert "encode0.07 s" in tip[2]
    page.mouse("mouseMoved", 5, 5)
    assert page.js("document.querySelector('#rd-chart .tip').hidden") is True


def test_the_keyboard_walks_through_the_chart(page):
    page.js("document.querySelector('#rd-chart').focus()")
    walked = []
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "ArrowDown", "ArrowDown"):
        page.key(key)
        walked.append(" ".join(texts(page, "#rd-chart .tip > :not(dl)")))
    assert walked[:4] == ["walloc-12 q=10", "walloc-12 q=20", "walloc-12 q=30", "walloc-12 q=20"]
    assert walked[4:] == ["jpeg q=20", "webp q=20"]
    page.key("Escape")
    assert page.js("document.querySelector('#rd-chart .tip').hidden") is True


def test_the_bd_table_sorts_and_takes_another_anchor(page, report):
    names = "#bd tbody th"
    assert texts(page, names) == ["VTM", "walloc-12", "webp", "jpeg", "png"]  # by BD-rate, as without scripts
    page.click("#bd th:nth-child(3) button")
    assert texts(page, names) == ["jpeg", "webp", "walloc-12", "VTM", "png"]  # n/a stays last
    page.click("#bd th:nth-child(1) button")
    assert texts(page, names) == ["jpeg", "png", "VTM", "walloc-12", "webp"]
    assert page.js("document.querySelector('#bd th:nth-child(1)').getAttribute('aria-sort')") == "ascending"
    against_jpeg = texts(page, "#bd tbody td:nth-child(3)")
    page.choose("#deltas [data-control=anchor]", "walloc-12")
    assert texts(page, "#bd-anchor") == ["walloc-12"]
    against_ours = texts(page, "#bd tbody td:nth-child(3)")
    assert against_ours[3] == "0.0"
    assert against_ours != against_jpeg
    assert page.js("document.querySelector('#bd abbr').title") == "png is lossless: a point, not a curve"
    assert texts(page, "#bd-missing") == ["n/a: png is lossless: a point, not a curve."]


def test_the_table_of_the_page_and_of_the_script_agree(browser, report):
    browser.window(1280, 900)
    browser.open(report, scripts=False)
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    before = texts(browser, "#bd tr")
    browser.open(report)
    assert texts(browser, "#bd tr") == before


def test_speed_against_bd_rate(page):
    marks = "document.querySelectorAll('#speed-chart .mark').length"
    assert page.js(marks) == 3
    assert texts(page, "#speed-chart text.title")[0] == "seconds to decode a file, log scale"
    page.click("[data-control=foreign]")
    assert page.js(marks) == 4
    page.click("[name=operation][value=encode]")
    assert page.js(marks) == 3  # VTM's encoding times are not known
    assert texts(page, "#speed-chart text.title")[0] == "seconds to encode a file, log scale"


def test_points_unfold(page):
    page.click("[data-control=unfold]")
    assert page.js("[...document.querySelectorAll('#points details')].every((fold) => fold.open)")
    assert len(texts(page, "#points tbody tr")) == 6 * 4 + 1


def test_side_by_side(page, tmp_path):
    captions = texts(page, "#panes figure:not([hidden]) figcaption")
    assert captions[0] == "original"
    assert captions[1] == "A jpeg q=10 2,964 bytes, 0.240 bpp, 25.00 dB"
    assert captions[2] == "B walloc-12 q=10 0.200 bpp, 26.00 dB, \N{MINUS SIGN}16.7 % bits against A"
    seen = [pixels(page, tmp_path, f"#panes figure:nth-of-type({i}) .frame") for i in (1, 2, 3)]
    assert [picture.shape for picture in seen] == [(384, 384, 3)] * 3
    assert len(colours_in(seen[0])) > 100
    assert (colours_in(seen[1]), colours_in(seen[2])) == ({(255, 255, 255)}, {(0, 0, 0)})


def test_the_other_side_follows_in_rate(page):
    page.choose("[data-control=b]", "walloc-12 q=20, 0.400 bpp")
    assert page.js("document.querySelector('[data-control=a]').selectedOptions[0].text") == "jpeg q=20, 0.480 bpp"
    page.click("[data-control=match]")
    page.choose("[data-control=b]", "walloc-12 q=0, 0.100 bpp")
    assert page.js("document.querySelector('[data-control=a]').selectedOptions[0].text") == "jpeg q=20, 0.480 bpp"
    page.choose("[data-control=a]", "original")
    assert len(texts(page, "#panes figure:not([hidden])")) == 2  # no need of a second original
    page.choose("[data-control=file]", "small.png")
    assert page.js("document.querySelector('[data-control=b]').selectedOptions[0].text") == "walloc-12 q=0, 0.100 bpp"
    assert "60x50 pixels at (0, 0) of 60x50" in texts(page, "#crop-note")[0]


def test_the_slider_divides_the_picture(page, tmp_path):
    page.click("[name=view][value=wipe]")

    def shares() -> tuple[float, float]:
        seen = pixels(page, tmp_path, "#panes figure:nth-of-type(3) .frame").mean(axis=(0, 2))
        return float((seen > 250).mean()), float((seen < 5).mean())

    assert shares() == pytest.approx((0.5, 0.5), abs=0.02)
    page.drag("#panes", (0.1, 0.3), (0.05, 0.3))  # on the picture
    share = page.js("Number(document.querySelector('#wipe input').value)") / 100
    assert 0.1 < share < 0.3
    assert shares() == pytest.approx((share, 1 - share), abs=0.02)
    page.js("document.querySelector('#wipe input').focus()")
    for _ in range(8):
        page.key("ArrowRight")
    assert shares()[0] == pytest.approx(share + 8 * 0.005, abs=0.012)


def test_flicker_shows_one_after_the_other(page, tmp_path):
    page.click("[name=view][value=flicker]")
    seen, end = set(), time.monotonic() + 20
    while len(seen) < 2 and time.monotonic() < end:
        seen |= colours_in(pixels(page, tmp_path, "#panes figure:nth-of-type(2) .frame"))
    assert seen == {(0, 0, 0), (255, 255, 255)}
    page.click("#flicker")
    assert texts(page, "#flicker") == ["Play"]
    before = colours_in(pixels(page, tmp_path, "#panes figure:nth-of-type(2) .frame"))
    page.js("document.querySelector('#panes figure:nth-of-type(2) .frame').focus()")
    page.key(" ")
    assert colours_in(pixels(page, tmp_path, "#panes figure:nth-of-type(2) .frame")) == seen - before


def test_a_zoomed_picture_can_be_moved(page):
    page.click("[name=zoom][value='4']")
    moved = "document.querySelector('#panes figure:nth-of-type(1) img').style.transform"
    assert page.js(moved) == "scale(4) translate(0px, 0px)"
    page.drag("#panes figure:nth-of-type(1) .frame", (0.9, 0.9), (0.4, 0.65))
    assert page.js(moved) == "scale(4) translate(-48px, -24px)"
    page.js("document.querySelector('#panes figure:nth-of-type(1) .frame').focus()")
    page.key("ArrowDown")
    assert page.js(moved) == "scale(4) translate(-48px, -40px)"


@pytest.mark.parametrize(("scheme", "paper"), [("light", (255, 255, 255)), ("dark", (0x15, 0x17, 0x1A))])
@pytest.mark.parametrize("width", [1280, 600, 360])
def test_every_window_shows_it_without_scrolling_sideways(page, tmp_path, width, scheme, paper):
    page.window(width, 800, scheme=scheme, touch=width < 600)
    page.settle()
    page.settle()
    assert page.js("document.documentElement.scrollWidth") <= width
    with PIL.Image.open(page.screenshot(tmp_path / "shot.png")) as shot:
        picture = np.asarray(shot.convert("RGB"))
    assert tuple(picture[2, 2].tolist()) == paper
    assert len(colours_in(picture)) > 50
    assert page.js("document.querySelector('#rd-chart svg').getBoundingClientRect().right") <= width


def test_without_scripts_tables_and_pictures_are_there(browser, report, tmp_path):
    browser.window(1000, 900)
    browser.open(report, scripts=False)
    browser.call("Emulation.setScriptExecutionDisabled", value=False)  # for the questions below; the page has been read
    shown = "(e) => e.getBoundingClientRect().height > 0"
    assert browser.js(f"[...document.querySelectorAll('#bd, .sheet img, noscript')].every({shown})")
    assert not browser.js(f"[...document.querySelectorAll('.controls, .chart, #viewer')].some({shown})")


def test_printing_leaves_nothing_out(page):
    page.js("dispatchEvent(new Event('beforeprint'))")
    page.call("Emulation.setEmulatedMedia", media="print")
    page.settle()
    assert page.js("[...document.querySelectorAll('#points tr, .sheet img')].every((e) => e.offsetHeight > 0)")
    assert page.js("[...document.querySelectorAll('.controls')].every((e) => e.offsetHeight === 0)")
    page.call("Emulation.setEmulatedMedia", media="")


def test_names_that_try_to_be_code_stay_names(browser, tmp_path):
    evil = Curve(EVIL, "model", EVIL, tuple(Point(EVIL, p.rate, p.metrics, 1.0, 1.0) for p in curve_of("x").points))
    evaluation = Evaluation((evil, curve_of("jpeg")), (*METRICS, EVIL), {EVIL: EVIL}, EVIL, {"data": EVIL, EVIL: EVIL})
    picture = Image(picture_of((40, 40, 3)))
    write_report(evaluation, [Exhibit(EVIL, picture, [Decoded(EVIL, EVIL, 1, None, picture)])], tmp_path / "r.html")
    browser.complaints.clear()
    browser.open(tmp_path / "r.html")
    browser.mouse("mouseMoved", *browser.place("#rd-chart .curve.model .mark"))
    assert browser.complaints == []
    assert browser.js("document.querySelectorAll('[onerror]').length") == 0
    assert browser.js("document.querySelectorAll('script').length") == 2
    assert texts(browser, "#legend span")[0] == EVIL
    assert texts(browser, "#rd-chart .tip b") == [EVIL]
    assert texts(browser, "h1") == [f"{EVIL}, 6 files".replace("6", "24")]


@pytest.mark.parametrize("curves", [(), (lossless(),), (curve_of("dot", points=1),), (curve_of("model", "model"),)])
def test_hardly_anything_to_report_is_no_error(browser, tmp_path, curves):
    write_report(evaluation_of(*curves), [], tmp_path / "report.html")
    browser.complaints.clear()
    browser.open(tmp_path / "report.html")
    assert browser.complaints == []
    assert browser.js("document.querySelector('#pictures').hidden")
    assert browser.js("document.querySelector('#rd-chart svg') !== null")


def test_sounds_are_heard_one_at_a_time_and_go_on_where_the_last_was(browser, tmp_path):
    def sound(pitch: float) -> Audio:
        return Audio((0.3 * np.sin(np.arange(24_000) * pitch))[None].astype(np.float32), 8000)

    points = tuple(Point("", 8.0 * 2**i, {"psnr": 30.0 + i}, 0.1, 0.1, duration=3.0) for i in range(4))
    curves = tuple(Curve(name, "anchor", name, points) for name in ("opus", "mp3"))
    evaluation = Evaluation(curves, ("psnr",), {}, "codec eval", {"data": ["music"]}, "audio")
    exhibit = Exhibit("a.wav", sound(0.3), [Decoded("opus", "kbps=8", 8.0, 30.0, sound(0.31))])
    write_report(evaluation, [exhibit], tmp_path / "report.html", anchor="opus")
    browser.complaints.clear()
    browser.window(1280, 900)
    browser.open(tmp_path / "report.html")
    assert texts(browser, "#rd-chart text.title")[0] == "kilobits per second, log scale"
    browser.mouse("mouseMoved", *browser.place("#rd-chart g[data-curve=opus] .mark:nth-of-type(2)"))
    assert "30 \N{MULTIPLICATION SIGN} real time" in texts(browser, "#rd-chart .tip dl")[0]
    browser.js("window.heard = [...document.querySelectorAll('audio')]; heard.forEach((a) => { a.muted = true; }); 0")
    browser.click("h1")  # nothing plays before somebody was there

    def until(condition: str) -> bool:
        end = time.monotonic() + 20
        while not (met := browser.js(condition)) and time.monotonic() < end:
            time.sleep(0.05)
        return met

    browser.js("heard[0].play(); 0")
    assert until("heard[0].currentTime > 0.3 && Math.abs(heard[0].duration - 3) < 0.01")
    browser.js("heard[1].play(); 0")
    assert until("heard[0].paused && heard[1].currentTime > 0.3")
    assert browser.complaints == []


def test_what_a_task_scores_for_the_originals_is_a_dashed_line(browser, tmp_path):
    jpeg = curve_of("jpeg")
    points = tuple(
        dataclasses.replace(p, metrics=p.metrics | {"accuracy": 70.0 + i}) for i, p in enumerate(jpeg.points)
    )
    found = evaluation_of(dataclasses.replace(jpeg, points=points), metrics=("psnr", "accuracy"))
    evaluation = dataclasses.replace(found, originals={"accuracy": 87.5})
    write_report(evaluation, [], tmp_path / "report.html")
    browser.complaints.clear()
    browser.window(1280, 900)
    browser.open(tmp_path / "report.html")
    lines = "document.querySelectorAll('#rd-chart line.level').length"
    assert browser.js(lines) == 0
    browser.choose("#rd [data-control=metric]", "accuracy (%)")
    assert browser.js(lines) == 1
    assert texts(browser, "#rd-chart text.level") == ["originals 87.5 %"]
    line, mark = (browser.js(f"document.querySelector('#rd-chart {name}').getBoundingClientRect().top") for name in
                  ("line.level", "g[data-curve=jpeg] .mark"))  # fmt: skip
    assert 0 < line < mark  # within the chart, although no curve comes so high
    assert browser.complaints == []
