"""Tokens of codebook models, from the file, from the command line, and back."""

import numpy as np
import pytest
from click.testing import CliRunner

import codec
from codec.cli.main import main

from support import sound_of

MODEL = "rvq-conformance"


@pytest.fixture(scope="module")
def speech() -> codec.Audio:
    return sound_of(20_000, channels=1, rate=16_000)


@pytest.fixture(scope="module")
def data(speech) -> bytes:
    return codec.encode(speech, model=MODEL, quality=100)


def test_tokens_are_books_by_frames(data):
    tokens = codec.open(data).tokens()
    assert tokens.shape == (4, -(-20_000 // 320) + 1)
    assert tokens.dtype == np.int32
    assert tokens.min() >= 0
    assert tokens.max() < 128
    assert len(np.unique(tokens)) > 20


def test_lower_quality_has_the_first_books(data, speech):
    fewer = codec.open(codec.encode(speech, model=MODEL, quality=33)).tokens()
    assert np.array_equal(fewer, codec.open(data).tokens()[:2])


def test_tokens_become_the_sound_of_the_file(data):
    tokens = codec.open(data).tokens()
    sound = codec.from_tokens(tokens, MODEL, length=20_000)
    np.testing.assert_allclose(sound.samples, codec.decode(data).samples, atol=2e-3)


def test_channels_have_their_own(speech):
    pair = codec.Audio(np.concatenate([speech.samples, -speech.samples[:, ::-1]]), 16_000)
    tokens = codec.open(codec.encode(pair, model=MODEL)).tokens()
    assert tokens.shape[0] == 2
    assert codec.from_tokens(tokens, MODEL).channels == 2


@pytest.mark.parametrize(
    "tokens", [np.zeros((5, 3), int), np.full((2, 3), 128), np.full((2, 3), -1), np.zeros((4, 3)), np.zeros(3, int)]
)
def test_what_is_no_token_is_refused(tokens):
    with pytest.raises(ValueError, match="token"):
        codec.from_tokens(tokens, MODEL)


def test_models_without_codebooks_say_so():
    with pytest.raises(ValueError, match="no codebooks"):
        codec.from_tokens(np.zeros((1, 2), int), "walloc-audio-conformance")
    with pytest.raises(ValueError, match="no codebooks"):
        codec.open(codec.encode(sound_of(500), model="walloc-audio-conformance")).tokens()


def test_command_line_there_and_back(tmp_path, speech, data):
    wav, npz, again = tmp_path / "s.wav", tmp_path / "s.npz", tmp_path / "again.wav"
    with wav.open("wb") as file:
        codec.write(speech, file, "wav")
    run = lambda *words: CliRunner().invoke(main, ["tokens", *map(str, words)], catch_exceptions=False)
    assert run(wav, "-o", npz, "-m", MODEL).exit_code == 0
    with np.load(npz, allow_pickle=False) as archive:
        assert np.array_equal(archive["tokens"], codec.open(data).tokens())
    assert run(npz, "-o", again).exit_code == 0
    decoded = codec.read(again)
    assert (decoded.length, decoded.rate) == (20_000, 16_000)
    np.testing.assert_allclose(decoded.samples, codec.decode(data).samples, atol=3e-3)
    (tmp_path / "s.lcb").write_bytes(data)
    assert run(tmp_path / "s.lcb", "-o", tmp_path / "l.npz", "--json").exit_code == 0


def test_command_line_refuses_what_is_no_archive(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"nonsense")
    with pytest.raises(codec.errors.CorruptError, match="archive"):
        CliRunner().invoke(
            main, ["tokens", str(tmp_path / "bad.npz"), "-o", str(tmp_path / "x.wav")], catch_exceptions=False
        )
