import io
import json

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

from codec.errors import MediaError
from codec.learning.experiments import classify, colorize, pictures, teacher
from codec.learning.experiments.__main__ import main, table
from codec.learning.experiments.fitting import Plan, fit, rate
from codec.learning.experiments.work import megamacs
from codec.learning.networks import Classifier, Shape


def stripes(kind: int, seed: int, size: tuple[int, int] = (128, 144)) -> np.ndarray:
    """A picture of one of three classes: stripes this way, that way, or none."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[: size[0], : size[1]]
    wave = [np.sin(rows / 4), np.sin(cols / 4), np.zeros(size)][kind] * 60
    colour = rng.uniform(60, 190, 3)
    return (colour + wave[..., None] + rng.normal(0, 6, (*size, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for part, count in (("train", 12), ("validation", 3), ("test", 3)):
        for kind, name in enumerate(("across", "down", "flat")):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                picture = PIL.Image.fromarray(stripes(kind, 1000 * len(part) + 100 * kind + i))
                picture.save(folder / part / name / f"{i}.png")
    return folder


def quiet(text: str) -> None:
    pass


def test_classes_are_learned_from_latents_and_pixels(data, tmp_path, monkeypatch):
    monkeypatch.setitem(classify._WIDTHS, 8, (32, 64))
    plan = Plan(epochs=8, batch=12, lr=3e-3, mixup=0.0)
    rows = classify.run(data, tmp_path, models=[("walloc-12", 95.0)], seeds=1, plan=plan, tell=quiet)
    assert rows == [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    ours, *others = rows
    assert ours["accuracy"] > 60  # chance is 33
    for row in others[:2]:
        assert 0.8 * ours["bytes"] < row["bytes"] <= 1.1 * ours["bytes"]
    work = [row["mmac"] for row in rows]
    assert max(work) < 1.15 * min(work)
    assert others[2]["numbers"] == pytest.approx(ours["numbers"], rel=0.1)


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
@pytest.mark.parametrize("target", [900, 4000])
def test_a_foreign_codec_gets_the_quality_that_fits(format, target):
    probe = [stripes(0, i) for i in range(3)]
    scale, quality = classify.at_size(format, probe, target)
    mean = lambda q: np.mean([len(classify._write(format, scale, q, x)) for x in probe])
    assert mean(quality) <= target
    assert quality == 95 or mean(quality + 1) > target


def test_pixels_are_folded_and_enlarged():
    file = io.BytesIO()
    PIL.Image.fromarray(stripes(1, 0, (64, 72))).save(file, "PNG")
    assert [x.shape for x in classify._pixels([file.getvalue()] * 2)] == [(192, 16, 18)] * 2
    assert classify._pixels([file.getvalue()], fold=4)[0].shape == (12, 16, 18)


def test_colours_are_learned_from_latents(tmp_path, monkeypatch):
    monkeypatch.setattr(colorize, "_WIDTH", 16)
    monkeypatch.setattr(colorize, "_BLOCKS", 1)
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(22):  # what is bright is red
        samples = stripes(i % 3, i, (192, 192)).astype(float)
        tinted = samples.mean(-1, keepdims=True) + np.array([40, -20, -20]) * (samples.mean() / 128)
        PIL.Image.fromarray(tinted.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    plan = Plan(epochs=20, batch=4, lr=1e-2, mixup=0.0)
    gray, ours, *_ = colorize.run(folder, tmp_path / "out", plan=plan, tell=quiet)
    assert gray["input"] == "gray"
    assert ours["chroma_psnr"] > gray["chroma_psnr"]
    with pytest.raises(MediaError, match="at least 20"):
        colorize.read(tmp_path / "out", 10)


def test_no_colour_leaves_the_luma():
    samples = stripes(0, 1)
    blank = colorize._gray(samples)
    assert np.abs(colorize._ycc(samples)[0] - colorize._ycc(blank)[0]).max() < 1
    assert colorize.chroma_psnr(samples, samples) == pytest.approx(108.1, abs=0.1)


def test_the_teacher_is_written_folded(data, tmp_path):
    import safetensors.torch

    (row,) = teacher.run(data, tmp_path, plan=Plan(epochs=1, batch=16), tell=quiet)
    weights = safetensors.torch.load_file(tmp_path / "teacher.safetensors")
    network = teacher.network_for(3)
    network.load_state_dict(weights)
    assert set(row) == {"input", "epochs", "epoch_seconds", "mmac", "validation", "test"}


def test_training_repeats_itself_and_learns():
    x = torch.randn(64, 4, 3, 3)
    labels = (x.mean((1, 2, 3)) > 0).long()
    draw = lambda chosen, rng: (x[chosen], labels[chosen])
    plan = Plan(epochs=8, batch=16, mixup=0.0, lr=1e-2)
    make = lambda: Classifier(Shape(4, 2, widths=(8,), blocks=1))
    first, second = (fit(make, draw, 64, plan, quiet)[0] for _ in range(2))
    assert torch.equal(first(x), second(x))
    assert (first(x).argmax(1) == labels).float().mean() > 0.8


def test_the_rate_rises_and_falls():
    rates = [rate(i / 100) for i in range(101)]
    assert rates[0] < 0.02
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) == 10
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)


def test_work_is_counted():
    assert megamacs(torch.nn.Conv2d(4, 8, 3, padding=1), torch.zeros(1, 4, 10, 10)) == 100 * 8 * 4 * 9 / 1e6


def test_pictures_are_read_in_one_size(data, tmp_path):
    (tmp_path / "a").mkdir()
    PIL.Image.fromarray(stripes(0, 0, (300, 256))).save(tmp_path / "a" / "large.png")
    read = pictures.read(tmp_path)
    assert read.pixels[0].shape == (3, 150, 128)
    with pytest.raises(MediaError, match="folders of photographs"):
        pictures.read(tmp_path / "a")


def test_the_command_prints_a_table_and_one_line_errors(data, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher, "PLAN", Plan(epochs=1))
    assert table([{"a": 1, "b": "x"}, {"a": 2}]) == "| a | b |\n| --- | --- |\n| 1 | x |\n| 2 |  |"
    result = CliRunner().invoke(main, ["classify", str(tmp_path), "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
