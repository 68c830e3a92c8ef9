import json
import math
from dataclasses import replace

import pytest

from codec.errors import CodecError
from codec.evaluation import outputs
from codec.evaluation.pictures import PICTURES
from codec.evaluation.published import load_published
from codec.evaluation.results import Curve, Evaluation, Row
from codec.evaluation.rows import appending, load_rows, save_rows
from codec.evaluation.summary import average, point_metrics, select

from support import DATA


def row(file="a.png", curve="jpeg", setting="q=1", psnr=30.0, ssim=0.9, error=None, **values) -> Row:
    mse = 0.0 if psnr is None else 255**2 / 10 ** (psnr / 10)
    measured = {} if error else {"psnr": psnr, "mse": mse, "ms-ssim": ssim}
    size = {"size": {"width": 20, "height": 10}, "bytes": 100} if error is None else {}
    return Row(file, "00", curve, setting, "1", metrics=measured, error=error, **{**size, **values})


def test_means():
    rows = [row(psnr=30.0, ssim=0.9, encode_peak=5), row(psnr=40.0, ssim=0.99, bytes=300, encode_peak=7)]
    point = average("q=1", rows, PICTURES)
    assert point.rate == pytest.approx((8 * 100 / 200 + 8 * 300 / 200) / 2)
    assert point.metrics["psnr"] == pytest.approx(35)
    assert point.metrics["psnr-of-mean-mse"] == pytest.approx(10 * math.log10(2 / (1e-3 + 1e-4)))
    assert point.metrics["ms-ssim"] == pytest.approx(0.945)
    assert point.metrics["ms-ssim-db"] == pytest.approx(-10 * math.log10(0.055))
    assert (point.encode_peak, point.decode_peak, point.files) == (7, None, 2)
    assert list(point.metrics) == [name for name in PICTURES.columns if name in point.metrics]


def test_one_lossless_file_makes_the_mean_psnr_infinite_but_not_that_of_the_mean_mse():
    point = average("", [row(psnr=None, ssim=1.0), row(psnr=30.0, ssim=None)], PICTURES)
    assert point.metrics["psnr"] is None
    assert point.metrics["psnr-of-mean-mse"] == pytest.approx(10 * math.log10(2 / 1e-3))
    assert point.metrics["ms-ssim"] == 1
    assert point.metrics["ms-ssim-db"] is None


def test_all_means_are_over_the_same_files():
    rows = [
        row("a"), row("b"), row("c", error="broken"),
        row("a", setting="q=2"), row("b", setting="q=2", error="too deep"), row("c", setting="q=2", error="broken"),
        row("a", "jxl", error="no"), row("b", "jxl", error="no"), row("c", "jxl", error="broken"),
    ]  # fmt: skip
    selection = select(rows)
    assert selection.files == ["a"]
    assert {key: [r.file for r in kept] for key, kept in selection.rows.items()} == {
        ("jpeg", "q=1"): ["a"],
        ("jpeg", "q=2"): ["a"],
    }
    assert list(selection.left_out) == ["c", "b"]
    assert selection.left_out["b"] == "jpeg q=2: too deep"
    assert selection.failed == {("jxl", "q=1"): "no"}


def test_nothing_left():
    with pytest.raises(CodecError, match="broken"):
        select([row(error="broken")])
    with pytest.raises(CodecError, match="one by one"):
        select([row("a"), row("b", error="x"), row("a", "webp", error="y"), row("b", "webp")])


def test_rows_on_disk(tmp_path):
    path = tmp_path / "results.jsonl"
    rows = [row(), row(psnr=None), row(error="it broke\nbadly")]
    with appending(path) as append:
        for each in rows:
            append(each)
    assert load_rows(path) == rows
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1]), 40):  # killed while writing
        path.write_bytes(whole[:-cut])
        assert load_rows(path) == rows[:2]
    path.write_bytes(b'{"file": 1}\n' + whole)
    with pytest.raises(CodecError, match="line 1"):
        load_rows(path)
    save_rows(path, rows)
    assert path.read_bytes() == whole
    assert load_rows(tmp_path / "absent") == []


@pytest.fixture
def evaluation() -> Evaluation:
    names = ["vtm", "paper-mlicplusplus_mse"]
    anchor, curve = load_published(str(DATA / "published.json"), names, PICTURES)
    rate_only = Curve("few", "anchor", "", curve.points[:3])
    run = replace(anchor, kind="anchor")
    curves = (curve, run, rate_only)
    return Evaluation(curves, point_metrics(curves, PICTURES), {"Rate": "bits"}, "codec eval", {"files": 24})


def test_the_summary_in_compressais_schema(tmp_path, evaluation):
    (tmp_path / "summary").mkdir()
    (tmp_path / "summary" / "old.json").write_text("{}")
    document = outputs.write_outputs(tmp_path, evaluation, [row()], "vtm")
    assert document == json.loads((tmp_path / "summary.json").read_text())
    assert sorted(path.name for path in (tmp_path / "summary").iterdir()) == [
        "few.json", "paper-mlicplusplus_mse.json", "vtm.json",
    ]  # fmt: skip
    vtm = json.loads((tmp_path / "summary" / "vtm.json").read_text())
    assert set(vtm) == {"name", "description", "results"}
    assert list(vtm["results"]) == [
        "bpp", "psnr-rgb", "ms-ssim-rgb", "ms-ssim-db", "encoding_time", "decoding_time",
    ]  # fmt: skip
    assert {len(values) for values in vtm["results"].values()} == {8}
    assert vtm["results"]["psnr-rgb"] == sorted(vtm["results"]["psnr-rgb"])


def test_bd_table(evaluation):
    found = {(d["curve"], d["metric"]): d for d in outputs.summarize(evaluation, "vtm")["bd"]}
    assert found["paper-mlicplusplus_mse", "psnr"]["rate"] == pytest.approx(-15.0, abs=0.05)
    assert 0.3 < found["paper-mlicplusplus_mse", "psnr"]["rate_overlap"] < 0.5
    assert found["few", "psnr"]["rate"] is None
    assert outputs.default_anchor(evaluation) == "vtm"
    text = outputs.table(evaluation, "vtm")
    assert "-15.0 % +0.70 dB [40 %]" in text
    assert "n/a (1)" in text
    assert "has 3 points; a curve needs" in text
    assert outputs.table(evaluation, None).startswith("curve")


def test_csv(tmp_path, evaluation):
    outputs.write_outputs(tmp_path, evaluation, [row(), row(error="broken")], "vtm")
    head, good, bad = (tmp_path / "results.csv").read_text().splitlines()
    good, bad = (dict(zip(head.split(","), line.split(","), strict=True)) for line in (good, bad))
    assert (good["bpp"], good["psnr"], good["error"]) == ("4.0", "30.0", "")
    assert (bad["bpp"], bad["psnr"], bad["error"]) == ("", "", "broken")
    assert len((tmp_path / "curves.csv").read_text().splitlines()) == 1 + 6 + 8 + 3
