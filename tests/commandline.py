"""The command line, in a process of its own or in this one."""

from __future__ import annotations

import subprocess
import sys

from click.testing import CliRunner

from codec.cli import exits
from codec.cli.main import main


def run(*args, stdin: bytes | None = None, **options) -> subprocess.CompletedProcess:
    """Run as a user does, in a process of its own."""
    command = [sys.executable, "-c", "from codec.cli.main import run; run()", *map(str, args)]
    return subprocess.run(command, input=stdin, capture_output=True, **options)


def invoke(*args) -> tuple[int, str, str]:
    """Run in this process, which is much faster; return (exit code, stdout, stderr)."""
    result = CliRunner().invoke(main, [str(a) for a in args], standalone_mode=False)
    error = result.exception
    if error is None:
        return result.return_value or 0, result.stdout, result.stderr
    code = getattr(error, "exit_code", None)
    message = error.format_message() if hasattr(error, "format_message") else exits.message_of(error)
    return exits.code_of(error) if code is None else code, result.stdout, result.stderr + message
