import json

import numpy as np
import pytest
import torch

import codec
from codec.errors import MediaError
from codec.learning.experiments import esc10, separate, sounds
from codec.learning.experiments.fitting import Plan

RATE = 24_000
LENGTH = RATE  # samples a clip


def quiet(text: str) -> None:
    pass


def clip(kind: int, seed: int) -> np.ndarray:
    """A sound of one of two classes: a hum, or clicks."""
    rng = np.random.default_rng(seed)
    time = np.arange(LENGTH) / RATE
    hum = 0.3 * np.sin(2 * np.pi * rng.uniform(150, 300) * time)
    clicks = 0.5 * rng.normal(size=LENGTH) * (time * 8 % 1 < 0.1)
    return (((hum, clicks)[kind] + 0.003 * rng.normal(size=LENGTH))[None]).astype(np.float32)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for kind, name in enumerate(("001 - Hum", "002 - Clicks")):
        (folder / name).mkdir()
        for fold in (1, 2):
            for number in range(4):
                sound = codec.Audio(clip(kind, 100 * fold + 10 * number + kind), RATE)
                codec.write(sound, folder / name / f"{fold}-{number}-{kind}.wav", "wav")
    return folder


@pytest.fixture(scope="module")
def stems(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stems")
    time = np.arange(6 * RATE) / RATE
    rng = np.random.default_rng(3)
    low = np.stack([0.3 * np.sin(2 * np.pi * 200 * time)] * 2) * (1 + 0.5 * np.sin(2 * np.pi * time))
    high = 0.2 * np.sin(2 * np.pi * 3000 * time + np.array([[0.0], [1.0]])) + 0.01 * rng.normal(size=(2, len(time)))
    for name, samples in (("low", low), ("high", high[:, : -RATE // 4])):
        codec.write(codec.Audio(samples.astype(np.float32), RATE), folder / f"{name}.flac", "flac")
    return folder


def test_sounds_are_classified_from_every_input(clips, tmp_path, monkeypatch):
    seen = []
    read = esc10.sources
    monkeypatch.setattr(esc10, "sources", lambda *args: seen.append(read(*args)) or seen[-1])
    plan = Plan(epochs=8, batch=4, lr=1e-2, mixup=0.0)
    rows = esc10.run(clips, tmp_path, width=16, plan=plan, tell=quiet)
    assert rows == [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    ours, tokens, opus, mel, samples = rows
    assert ours["accuracy"] >= 75  # chance is 50
    assert opus["bytes"] == pytest.approx(ours["bytes"], rel=0.1)
    assert samples["numbers"] == pytest.approx(4 * ours["numbers"], rel=0.1)  # four frames are one energy
    assert tokens["bytes"] < ours["bytes"] < mel["bytes"]
    work = [row["mmac"] for row in rows]
    assert max(work) < 1.15 * min(work)
    again = esc10.run(clips, tmp_path, width=16, plan=Plan(epochs=1, batch=4), tell=quiet)
    assert [row["bytes"] for row in again] == [row["bytes"] for row in rows]


def test_folds_do_not_mix(clips, monkeypatch):
    found = sounds.read(clips)
    drawn, tested = [], []

    def fit(make, draw, count, plan, tell):
        inputs, _ = draw(range(count), np.random.default_rng(0))
        drawn.append(inputs)
        return None, 1.0

    monkeypatch.setattr(esc10, "fit", fit)
    monkeypatch.setattr(esc10, "accuracy", lambda network, inputs, labels: tested.append(inputs) or 0.0)
    # Each clip is its own constant but for one channel that keeps deviations alike.
    marks = torch.arange(len(found.files)).float()
    inputs = [torch.stack([torch.full((1, 10), float(mark)), torch.randn(1, 10)]) for mark in marks]
    for fold in (1, 2):
        training, tests = esc10.split(found, fold)
        assert not set(training) & set(tests)
        assert {found.files[i].name[0] for i in tests} == {str(fold)}
        assert {found.files[i].name[0] for i in training} == {"12".replace(str(fold), "")}
        esc10._fold(inputs, found, fold, None, Plan())
        mean, deviation = esc10._moments([inputs[i] for i in training])
        back = (drawn[-1] * deviation + mean)[:, 0, 0, 0].round().int().tolist()
        assert sorted(back) == training
        assert [round(float((x * deviation + mean)[0, 0, 0])) for x in tested[-1]] == tests


def test_clips_need_classes_and_two_folds(clips, tmp_path):
    with pytest.raises(MediaError, match="holds no clips"):
        sounds.read(clips / "001 - Hum")
    (tmp_path / "a").mkdir()
    codec.write(codec.Audio(clip(0, 1), RATE), tmp_path / "a" / "1-1-A.wav", "wav")
    with pytest.raises(MediaError, match="in one fold"):
        esc10.run(tmp_path, tmp_path / "out", tell=quiet)


def test_files_are_made_once(tmp_path):
    path = tmp_path / "a" / "b.bin"
    assert sounds.kept(path, lambda: b"first") == b"first"
    assert sounds.kept(path, lambda: b"second") == b"first"


@pytest.mark.parametrize("length", [1, 127, 128, 1000])
def test_the_transform_comes_back(length):
    x = torch.randn(2, length)
    y = sounds.mdct(x, 64)
    assert y.shape == (128, -(-length // 64) + 1)
    torch.testing.assert_close(sounds.inverse_mdct(y, 64, length), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(y.square().sum(), x.square().sum())


def test_folding_keeps_the_order():
    x = torch.arange(12.0).reshape(2, 6)
    assert sounds.folded(x, 3).T.tolist() == [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]]


def test_energies_do_not_know_signs():
    x = torch.randn(3, 8)
    flipped = x * torch.tensor([1.0, -1.0] * 4)
    torch.testing.assert_close(sounds.energies(x, 4, 0.01), sounds.energies(flipped, 4, 0.01))
    assert sounds.energies(x, 4, 0.01).shape == (3, 2)


def test_a_stem_is_taken_out_of_the_mixture(stems, tmp_path):
    plan = Plan(epochs=30, batch=2, lr=5e-3, mixup=0.0)
    rows = separate.run(stems, tmp_path, stem="low", remixes=2, width=32, plan=plan, tell=quiet)
    assert rows == [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    floor, ours, spectra, opus, fewer, ceiling = rows
    assert floor["si_sdr"] + 3 < ours["si_sdr"] <= ceiling["si_sdr"] + 1
    assert spectra["si_sdr"] > floor["si_sdr"] + 3
    assert opus["bytes"] == pytest.approx(ours["bytes"], rel=0.1)
    assert fewer["numbers"] == pytest.approx(ours["numbers"], rel=0.1)
    work = [row["mmac"] for row in (ours, spectra, opus, fewer)]
    assert max(work) < 1.15 * min(work)


def test_the_song_is_cut_without_overlap():
    length = 1000
    marked = {name: np.full((2, length), k, np.float32) for k, name in enumerate(("a", "b"))}
    marked["a"][:] = np.arange(length)
    song = separate.split(marked, RATE, "a", 3, 0)
    assert song.stems[0].max() < song.test_stem.min()
    assert song.stems[0].shape == (2, 700)
    assert song.test_stem.shape == (2, 250)
    for mixture, stem in zip(song.mixtures[1:], song.stems[1:], strict=True):
        gain = 10 ** (6 / 20)
        assert stem.max() <= 699 * gain + 1
        assert np.ptp(mixture - stem) == pytest.approx(0, abs=1e-3)
    with pytest.raises(MediaError, match="no stem c; choose one of a, b"):
        separate.split(marked, RATE, "c", 1, 0)


def test_stems_must_fit_together(stems, tmp_path):
    found, rate = separate.read(stems)
    assert rate == RATE
    assert {x.shape for x in found.values()} == {(2, 6 * RATE)}
    with pytest.raises(MediaError, match="no stems in stereo"):
        separate.read(tmp_path)


@pytest.mark.parametrize(("layout", "length"), [("mono", 3000), ("stereo", 150_000), ("2.1", 5000), ("mono", 0)])
def test_latents_of_a_file_are_rendered_as_it_decodes(layout, length):
    channels = {"mono": 1, "stereo": 2, "2.1": 3}[layout]
    x = np.random.default_rng(0).normal(size=(channels, length)).astype(np.float32) * 0.1
    data = codec.encode(codec.Audio(x, 44_100, layout=layout), model="walloc-audio", quality=50)
    stream = codec.open(data)
    decoded, rendered = stream.decode(), stream.render(stream.latents())
    assert (rendered.rate, rendered.layout, rendered.samples.shape) == (44_100, layout, (channels, length))
    np.testing.assert_allclose(rendered.samples, decoded.samples, atol=2e-3)  # blocks differ, and work is in bfloat16
    with pytest.raises(ValueError, match="what `embed` returns"):
        stream.render(stream.latents()[:-1])
