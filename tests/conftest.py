"""Fixtures: the small network kept for ever beside the conformance streams, and a few pictures."""

from __future__ import annotations

import os

import pytest

from support import DATA, ROOT, SMALL

os.environ["CODEC_MODELS"] = str(ROOT / "bitstreams" / "models")  # also for the processes that tests start


@pytest.fixture(scope="session")
def small_system():
    from codec import checkpoint

    return checkpoint.load(checkpoint.find_model(SMALL), "cpu")


@pytest.fixture(scope="session")
def photo():
    """A real photograph as [151, 203, 3] uint8."""
    import codec

    return codec.read(DATA / "parrots.png").samples


@pytest.fixture(scope="session")
def small_stream(photo) -> bytes:
    import codec

    return codec.encode(photo[:40, :56], model=SMALL, quality=40)
