"""`codec pack --ray`: what a cluster writes, one of whose machines goes away, is what one process writes."""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import PIL.Image
import pytest

import codec
from codec.cli import exits
from codec.errors import ModelMismatchError
from codec.packing import cluster, pool
from codec.packing.encoding import Encoded, Settings
from codec.packing.run import Options, opened
from codec.packing.sources import Sample

from commandline import run
from support import picture_of

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")
from ray.cluster_utils import Cluster  # noqa: E402

# Ray leaves sockets and processes to the garbage collector, and warns of what is to change in it.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]
STORE = 80 * 2**20  # bytes of shared memory a machine, the least Ray takes
COUNT = 48
OPTIONS = Options(model="walloc-12", shard_size=16_000)
SETTINGS = Settings("walloc-12", codec.find_model("walloc-12").digest, 60.0)


@pytest.fixture(scope="module")
def machines():
    """A cluster of one processor, which this process is in, and to which machines can be added."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "object_store_memory": STORE,
            "include_dashboard": False,
            "_system_config": {"health_check_period_ms": 1000},  # a lost machine is noticed after five of them
        },
    )
    ray.init(made.address, log_to_driver=False, logging_level="ERROR")
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # which the machines cannot import
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for number in range(COUNT):
        path = root / ("ab"[number % 2]) / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(picture_of((32, 33 + number % 8, 3))).save(path)
    (root / "b" / "5.png").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory) -> dict[str, bytes]:
    """What one process writes."""
    return pack(folder, tmp_path_factory.mktemp("packed"), lambda *given: pool.encode_all(*given, workers=1))


def pack(folder: Path, out: Path, encode, report=lambda sample, encoded: None) -> dict[str, bytes]:
    with opened(folder, out, OPTIONS) as packing:
        packing.run(encode, report)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def encode_on(machines: Cluster):
    return lambda samples, settings: cluster.encode_all(samples, settings, address=machines.address)


def test_the_command_line_writes_the_same_and_keeps_stdout_clean(machines, folder, packed, tmp_path):
    result = run(
        "pack", folder, "-o", tmp_path, "-m", "walloc-12", "--shard-size", "16k", "--ray", machines.address, "--json"
    )
    assert result.returncode == exits.PARTIAL, result.stderr
    assert json.loads(result.stdout)["samples"] == COUNT - 1
    assert b"b/5.png: " in result.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == packed


class Killing:
    """Stand in for `Encoder`: what is called `killer` takes its process along."""

    def __init__(self, settings: Settings, models: str | None) -> None:
        self._settings, self._models = settings, models

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        return {"result": pickle.dumps(killing(os.fsdecode(row["path"]), self._settings, self._models))}


def killing(path: str, settings: Settings, models: str | None) -> Encoded:
    if "killer" in path:
        os._exit(1)
    return Encoded({"lcb": path.encode(), "models": str(models).encode()})


@pytest.mark.parametrize("fits", [False, True])
def test_a_file_that_kills_its_process_does_not_stop_the_others(machines, monkeypatch, fits):
    monkeypatch.setattr(cluster, "Encoder", Killing)
    monkeypatch.setattr(cluster, "_encode", killing)
    monkeypatch.setattr(cluster, "_fits", lambda settings: fits)
    monkeypatch.setattr(cluster, "RETRIES", 1)
    names = [f"/{number:02}" for number in range(10)]
    names[4:4] = ["/killer"]
    samples = [Sample(name, name, name, None) for name in names]
    results = list(encode_on(machines)(samples, SETTINGS))
    assert [sample for sample, _ in results] == samples
    models = os.environ["CODEC_MODELS"].encode()
    assert [encoded for _, encoded in results] == [
        Encoded(error=pool.DIED) if name == "/killer" else Encoded({"lcb": name.encode(), "models": models})
        for name in names
    ]


@pytest.mark.parametrize("fits", [False, True])
def test_a_wrong_model_is_no_fault_of_the_files(machines, monkeypatch, fits):
    monkeypatch.setattr(cluster, "_fits", lambda settings: fits)
    with pytest.raises(ModelMismatchError, match="install the same one"):
        list(encode_on(machines)([Sample("a", "/a", "a", None)], replace(SETTINGS, digest="0" * 64)))


def test_tasks_write_what_actors_write(machines, folder, packed, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_fits", lambda settings: True)
    assert pack(folder, tmp_path, encode_on(machines)) == packed


def test_only_models_that_fit_themselves_to_a_file_are_tasks():
    assert [name for name in ("walloc-12", "walloc-audio", "stem", "hnerv") if cluster._fits(settings_of(name))] == [
        "hnerv"
    ]


def settings_of(model: str) -> Settings:
    return replace(SETTINGS, model=model)


def test_a_cluster_that_is_not_there_is_told(folder, tmp_path):
    result = run("pack", folder, "-o", tmp_path, "-m", "walloc-12", "--ray", "nowhere")
    assert result.returncode == exits.FAILURE
    assert b"no Ray cluster at nowhere" in result.stderr
    assert result.stderr.count(b"\n") == 1


class Waiting(cluster.Encoder):
    """Stand in for `Encoder`: works once there are two of them, and takes its time."""

    meeting = Path()  # a folder both see

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        (self.meeting / ray.get_runtime_context().get_node_id()).touch()
        while len(list(self.meeting.iterdir())) < 2:
            time.sleep(0.02)
        time.sleep(0.1)
        return super().__call__(row)


def test_a_machine_that_goes_away_changes_nothing(machines, folder, packed, tmp_path, monkeypatch):
    second = machines.add_node(num_cpus=1, object_store_memory=STORE)
    machines.wait_for_nodes()
    assert ray.cluster_resources()["CPU"] == 2
    Waiting.meeting = tmp_path / "meeting"
    Waiting.meeting.mkdir()
    monkeypatch.setattr(cluster, "Encoder", Waiting)
    by_tasks, again, seen = cluster._by_tasks, [], []

    def watched(ray: object, samples: list[Sample], settings: Settings) -> Iterator[tuple[Sample, Encoded]]:
        again.extend(samples)
        return by_tasks(ray, samples, settings)

    def report(sample: Sample, encoded: Encoded) -> None:
        seen.append(sample.source)
        if len(seen) == 1:  # both are at work
            machines.remove_node(second, allow_graceful=False)

    monkeypatch.setattr(cluster, "_by_tasks", watched)
    found = pack(folder, tmp_path / "out", encode_on(machines), report)
    assert len(seen) == COUNT
    assert again  # something was lost
    assert found == packed
