import json

import pytest

from codec.errors import MediaError
from codec.evaluation.bd import bd_rate
from codec.evaluation.medium import medium_called
from codec.evaluation.published import load_published, parse_published

from support import DATA

FILE = str(DATA / "published.json")


def load(file, names, media="image"):
    return load_published(file, names, medium_called(media))


def test_a_curve():
    [vtm] = load(FILE, ["vtm"])
    assert (vtm.name, vtm.kind, len(vtm.points)) == ("vtm", "published", 8)
    assert vtm.points[0].rate == pytest.approx(0.048245)
    assert vtm.points[0].metrics["ms-ssim-db"] == pytest.approx(8.56, abs=0.01)
    assert vtm.points[0].encode_seconds == pytest.approx(18.94, abs=0.01)
    assert "CompressAI" in vtm.description
    assert "not run" in vtm.description
    [coolchic] = load(FILE, ["coolchic-v5.0"])
    assert coolchic.points[0].metrics["psnr-of-mean-mse"] < coolchic.points[0].metrics["psnr"]


@pytest.mark.parametrize(
    ("name", "published"), [("paper-mlicplusplus_mse", -15.0), ("coolchic-v5.0", -6.6), ("paper-elic2022_mse", -7.0)]
)
def test_published_bd_rates(name, published):
    anchor, curve = load(FILE, ["vtm", name])
    columns = (
        [[p.rate for p in c.points] for c in (anchor, curve)],
        [[p.metrics["psnr"] for p in c.points] for c in (anchor, curve)],
    )
    delta = bd_rate(columns[0][0], columns[1][0], columns[0][1], columns[1][1])
    assert delta.value == pytest.approx(published, abs=0.05)


def test_selections(tmp_path):
    assert parse_published(f"{FILE}:vtm,elic") == (FILE, ["vtm", "elic"])
    assert parse_published(FILE) == (FILE, [])
    with_colon = tmp_path / "a:b.json"
    with_colon.write_text("{}")
    assert parse_published(f"{with_colon}:vtm") == (str(with_colon), ["vtm"])
    with pytest.raises(MediaError, match="no such file"):
        parse_published("absent.json:vtm")
    with pytest.raises(ValueError, match=r"vtm, paper-mlicplusplus_mse"):
        load(FILE, [])
    with pytest.raises(ValueError, match="perhaps paper-elic2022_mse"):
        load(FILE, ["elic"])


@pytest.mark.parametrize("content", ["", "[1]", '{"x": {"psnr_rgb": [1]}}', '{"x": {"bpp": [1, 2], "psnr_rgb": [1]}}'])
def test_other_files(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(MediaError):
        load(str(path), ["x"])


def test_what_is_not_known_is_none(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"x": {"bpp": [2, 1], "psnr_rgb": [30, None], "ms_ssim_rgb": None}}))
    [curve] = load(str(path), ["x"])
    assert [(p.rate, p.metrics, p.encode_seconds) for p in curve.points] == [
        (1, {"psnr": None}, None),
        (2, {"psnr": 30}, None),
    ]


def test_curves_of_sound(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"walloc": {"kbps": [66, 18.5], "psnr": [39.0, 33.3], "source": "the paper"}}))
    [curve] = load(str(path), ["walloc"], "audio")
    assert [(p.rate, p.metrics) for p in curve.points] == [(18.5, {"psnr": 33.3}), (66, {"psnr": 39.0})]
    with pytest.raises(MediaError, match="not curves of bpp and psnr_rgb"):
        load(str(path), ["walloc"])
