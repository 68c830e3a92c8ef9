import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
import torch

import codec
from codec import checkpoint
from codec.coding.coder import RateMeter
from codec.errors import ModelError, NoSignalError
from codec.learning.networks import Classifier, Shape, fold
from codec.media.image import Image
from codec.models.student import Student, _divergence, varied
from codec.params import image_params

from support import DATA, picture_of

CONFIG = {
    "classes": ["cat", "dog", "owl"], "side": 48, "latents": 8, "width": 16, "deep": 24, "analysis": [1, 1],
    "restore": [1, 1], "groups": [3, 5], "hidden": 16, "lambda_range": [0.01, 1.0], "stem": [8, 8],
    "stages": [8, 12, 16],
}  # fmt: skip


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(0)
    network = Classifier(Shape(3, 3, stem=(8, 8), widths=(8, 12, 16))).train()
    for _ in range(4):
        network(torch.rand(8, 3, 48, 48) - 0.5)
    network.head.weight.data.mul_(20)  # an opinionated one
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    safetensors.torch.save_file(fold(network).state_dict(), path)
    return path


def student(teacher) -> Student:
    torch.manual_seed(1)
    system = Student.from_config(CONFIG | {"teacher": str(teacher)})
    system.initialize([torch.rand(4, 3, 48, 48) - 0.5 for _ in range(3)])
    return system


@pytest.fixture(scope="module")
def model(teacher, tmp_path_factory):
    """Name of an installed student, hardly trained."""
    folder = tmp_path_factory.mktemp("models")
    checkpoint.save(student(teacher), folder / "pupil", config=CONFIG | {"teacher": str(teacher)}, facts={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(checkpoint.PATH_VARIABLE, str(folder))
        yield "pupil"


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2), (48, 48), (131, 70), (50, 60)])
def test_any_size_is_predicted(model, size):
    data = codec.encode(picture_of((*size, 3)), model=model)
    stream = codec.open(data)
    assert (stream.info.height, stream.info.width) == size
    prediction = stream.predict()
    assert sorted(prediction.probabilities) == ["cat", "dog", "owl"]
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    rows, cols, channels = stream.symbols()["y"].shape
    assert stream.latents().shape == (channels, rows, cols)
    assert min(rows, cols) == 3
    assert max(rows, cols) <= 12


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_sample_types_say_the_same(model, dtype, channels):
    samples = picture_of((60, 52, channels))
    deep = samples if dtype == np.uint8 else samples.astype(np.uint16) * 257
    expected = codec.open(codec.encode(Image(samples), model=model)).predict()
    assert codec.open(codec.encode(Image(deep), model=model)).predict() == expected


def test_there_is_no_picture(model):
    with pytest.raises(NoSignalError, match="codec predict"):
        codec.decode(codec.encode(picture_of((40, 40, 3)), model=model))


def test_another_process_reads_the_same(model, tmp_path):
    data = codec.encode(DATA / "parrots.png", model=model)
    (tmp_path / "a.lcb").write_bytes(data)
    script = "import codec, sys; s = codec.open(sys.argv[1]); print(s.symbols_digest(), s.predict())"
    result = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.lcb"], capture_output=True, text=True, check=True
    )
    stream = codec.open(data)
    assert result.stdout.split() == [stream.symbols_digest(), stream.predict().label]


def test_quality_buys_bytes_and_agreement(model):
    sizes = [len(codec.encode(DATA / "parrots.png", model=model, quality=q)) for q in (0, 50, 100)]
    assert sizes == sorted(set(sizes))


def test_estimated_and_real_bits_agree(model):
    stream = codec.open(codec.encode(DATA / "parrots.png", model=model, quality=100))
    estimate = stream.estimated_bits() / 8
    assert abs(stream.info.payload_bytes - estimate) <= 0.01 * estimate + 8


def test_effort_lowers_what_training_minimises(model):
    system = checkpoint.load(checkpoint.find_model(model))
    picture = codec.read(DATA / "parrots.png")
    x = system._reduced(picture.samples)

    def cost(effort: int) -> float:
        symbols, params = system.analyze(picture, quality=0.3, effort=effort, progress=lambda done: None)
        twin, t = system._differentiable(), system._t(params).float()
        meter = RateMeter(twin.shape, noise=False)
        y = symbols["y"][None].float()
        with torch.no_grad():
            twin.code(meter, {"grid": (1, *y.shape[1:3]), "t": t}, {"y": y})
            divergence = _divergence(twin.taught(x)[1], system.predict(symbols, params)[None])
        return float(meter.bits.sum() + system.lambda_of(0.3) * x.shape[-1] * x.shape[-2] * divergence)

    assert cost(5) < cost(1)


def test_training_leaves_the_teacher_alone_and_learns(teacher):
    system = student(teacher)
    before = {name: value.clone() for name, value in system.teacher.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in system.parameters() if p.requires_grad], 3e-3)
    batch, t = torch.rand(16, 3, 48, 48) - 0.5, torch.full((16,), 0.5)
    torch.manual_seed(0)
    first = system.loss(batch, t)
    for _ in range(25):
        losses = system.loss(batch, t)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert losses["loss"] < 0.9 * first["loss"]
    assert all(torch.equal(value, before[name]) for name, value in system.teacher.state_dict().items())


def test_it_begins_with_the_teachers_last_stage(teacher):
    system = student(teacher)
    x = torch.rand(2, 3, 48, 64) - 0.5
    features, logits = system.taught(x)
    torch.testing.assert_close(system.logits_of(features), logits)
    latents = system.latents_of(torch.rand(32, 3, 48, 48) - 0.5, torch.full((32,), 0.5))
    assert 0.5 < float(latents.detach().std()) < 2


@pytest.mark.parametrize("content", [None, b"nonsense"])
def test_a_missing_teacher_is_said(content, tmp_path):
    path = tmp_path / "teacher.safetensors"
    if content:
        path.write_bytes(content)
    system = Student.from_config(CONFIG | {"teacher": str(path)})
    with pytest.raises(ModelError, match="experiments teacher"):
        system.initialize([torch.zeros(1, 3, 48, 48)])


def test_variation_keeps_the_range():
    torch.manual_seed(0)
    x = torch.rand(8, 3, 32, 40) - 0.5
    other = varied(x)
    assert other.shape == x.shape
    assert other.abs().max() <= 0.5
    assert not torch.equal(other, x)


def test_long_pictures_are_squeezed(teacher):
    system = student(teacher)
    shape = lambda height, width: system.shapes(image_params(np.zeros((height, width, 1), np.uint8), 0))["y"]
    assert shape(1, 1) == (3, 3, 8)
    assert shape(10, 1000) == (3, 12, 8)
    assert shape(400, 300) == (4, 3, 8)
