"""From a checkpoint to files and curves through the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import codec

from support import DATA

ARCH = "mbt2018-mean"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, checkpoint_of) -> Path:
    made = tmp_path_factory.mktemp("cli")
    (made / "models").mkdir()
    run(made, "import", "compressai", checkpoint_of(ARCH), "--arch", ARCH, "-o", "models/mine")
    return made


def run(folder: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess:
    environment = os.environ | {"CODEC_MODELS": str(folder / "models")}
    command = [sys.executable, "-c", "from codec.cli.main import run; run()", *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == code, result.stderr
    return result


def test_encode_inspect_decode(folder):
    done = run(folder, "encode", DATA / "parrots.png", "-m", "models/mine/", "-o", "a.lcb", "--verify", "--json")
    report = json.loads(done.stdout)
    assert report["bytes"] == (folder / "a.lcb").stat().st_size
    inspected = json.loads(run(folder, "inspect", "a.lcb", "--check", "--json").stdout)
    assert inspected["system"] == "compressai"
    assert inspected["model"] == "mine"
    assert inspected["single_rate"]
    assert inspected["problems"] == []
    assert "single rate" in run(folder, "inspect", "a.lcb").stdout
    run(folder, "decode", "a.lcb", "-o", "a.png")
    paths = (folder / "a.png", DATA / "parrots.png")
    decoded, original = (np.asarray(PIL.Image.open(path).convert("RGB")) for path in paths)
    assert decoded.shape == original.shape
    assert codec.psnr_of(codec.Image(decoded), codec.Image(original)) == pytest.approx(report["psnr"], abs=0.05)


def test_targets_and_damage(folder):
    run(folder, "encode", DATA / "parrots.png", "-m", "mine", "-o", "b.lcb")
    assert "single rate" in run(folder, "encode", DATA / "parrots.png", "-m", "mine", "--bpp", 0.01, code=5).stderr
    data = (folder / "b.lcb").read_bytes()
    (folder / "cut.lcb").write_bytes(data[: len(data) // 2])
    run(folder, "decode", "cut.lcb", code=3)
    environment = os.environ | {"CODEC_MODELS": ""}
    command = [sys.executable, "-c", "from codec.cli.main import run; run()", "decode", "b.lcb"]
    lost = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert lost.returncode == 4
    assert "CODEC_MODELS" in lost.stderr


def test_import_refusals(folder, checkpoint_of):
    checkpoint = checkpoint_of(ARCH)
    assert "-f" in run(folder, "import", "compressai", checkpoint, "--arch", ARCH, "-o", "models/mine", code=1).stderr
    assert "cheng2020-attn" in run(folder, "import", "compressai", checkpoint, "--arch", "x", "-o", "n", code=4).stderr
    run(folder, "import", "compressai", checkpoint, "--arch", "mbt2018", "-o", "n", code=4)
    assert not (folder / "n").exists()
    done = run(folder, "import", "compressai", checkpoint, "--arch", ARCH, "-o", "models/mine", "-f", "--json")
    assert json.loads(done.stdout)["arch"] == ARCH


def test_evaluation(folder, checkpoint_of):
    """Both SPECs through `codec eval`; CompressAI's own plot script reads the curves."""
    spec = f"arch={ARCH},checkpoint={checkpoint_of(ARCH)}"
    codecs = ["--codec", f"compressai:{spec}", "--codec", f"compressai-peer:{spec}", "--codec", "jpeg:q=10,30,60,90"]
    run(folder, "eval", DATA / "parrots.png", DATA / "gray.png", *codecs, "--metric", "psnr", "-o", "out")
    rows = [json.loads(line) for line in (folder / "out" / "results.jsonl").read_text().splitlines()]
    ours, theirs = ([row for row in rows if row["curve"].startswith(f"compressai{end}:")] for end in ("", "-peer"))
    assert len(ours) == len(theirs) == 2
    for a, b in zip(ours, theirs, strict=True):
        assert a["error"] is None
        assert b["error"] is None
        assert a["file"] == b["file"]
        assert a["estimated_bytes"] + 36 == pytest.approx(a["bytes"], rel=0.01, abs=8)
        assert a["bytes"] == pytest.approx(b["bytes"], rel=0.15)  # padding differs: edges here, zeros there
    from compressai.utils.plot.__main__ import parse_json_file

    parsed = [parse_json_file(path, "psnr") for path in sorted((folder / "out" / "summary").glob("*.json"))]
    assert sum(len(curve["xs"]) for curve in parsed) == 6
