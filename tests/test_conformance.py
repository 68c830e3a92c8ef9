import json
import subprocess
import sys

from support import ROOT

STREAMS = ROOT / "bitstreams"


def test_every_stream_is_judged():
    entries = json.loads((STREAMS / "conformance.json").read_text())
    assert {entry["stream"] for entry in entries} == {path.name for path in STREAMS.glob("*.lcb")}
    signals = [path for kind in ("png", "flac", "y4m", "json") for path in STREAMS.glob(f"*.{kind}")]
    signals.remove(STREAMS / "conformance.json")
    assert {entry["signal"] for entry in entries} == {path.name for path in signals}


def test_a_decoder_that_is_wrong_fails(tmp_path):
    """The judge must be able to say no: a decoder that always prints the same thing."""
    liar = tmp_path / "liar.py"
    liar.write_text('print("{\\"symbols\\": \\"0\\"}")\n')
    command = [sys.executable, STREAMS / "judge.py", "--decoder", f"{sys.executable} {liar}"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "0 of" in result.stdout
