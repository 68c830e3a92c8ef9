"""What encode and decode share: which files, where to, how many at a time, and what is reported."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from codec.atomic import atomic_path
from codec.cli import exits
from codec.cli.progress import Bar, bar
from codec.errors import CodecError, ExistsError
from codec.limits import MAX_PIXELS

STDIO = "-"


@dataclass(frozen=True)
class Job:
    """One input and its output; `-` is stdin or stdout."""

    source: str
    target: str


@dataclass(frozen=True)
class Options:
    """How a batch runs."""

    jobs: int
    force: bool
    skip_existing: bool
    as_json: bool


def plan(
    inputs: Sequence[str],
    out: str | None,
    suffix: Callable[[str], str],
    accepts: Callable[[Path], bool],
    *,
    recursive: bool,
) -> list[Job]:
    """Return the jobs for some inputs.

    Args:
        out: None (beside the input), `-`, a file (one input), or a folder (several inputs, or it exists, or it
            ends in a slash).
        suffix: of the output for an input, with the dot.
        accepts: which files of a folder to take.

    Raises:
        click.UsageError: the request is contradictory; nothing has been touched.
    """
    sources = [found for name in inputs for found in _expand(name, accepts, recursive=recursive)]
    if not sources:
        raise click.UsageError("no files to work on in " + ", ".join(inputs))
    folder = out is not None and out != STDIO and (len(sources) > 1 or Path(out).is_dir() or out.endswith(os.sep)
                                                   or any(Path(i).is_dir() for i in inputs))  # fmt: skip
    if folder and Path(out).is_file():
        raise click.UsageError(f"-o {out} is a file, but there are several inputs; give a folder")
    if out == STDIO and len(sources) > 1:
        raise click.UsageError("stdout holds one file; use -o FOLDER for several inputs")
    jobs, taken = [], {}
    for source, relative in sources:
        if source == STDIO:
            target = out or STDIO
            if folder:
                raise click.UsageError("the input from stdin has no name; use -o FILE")
        elif out is None:
            target = str(Path(source).with_suffix(suffix(source)))
        else:
            target = str(Path(out) / relative.with_suffix(suffix(source))) if folder else out
        if target != STDIO and target in taken:
            raise click.UsageError(f"{taken[target]} and {source} would both become {target}; use -o for one of them")
        taken[target] = source
        jobs.append(Job(source, target))
    return jobs


def _expand(name: str, accepts: Callable[[Path], bool], *, recursive: bool) -> Iterator[tuple[str, Path]]:
    path = Path(name)
    if name == STDIO or not path.is_dir():
        yield name, Path(path.name)
    elif not recursive:
        raise click.UsageError(f"{name} is a folder; add -r to take what is in it")
    else:
        for found in sorted(path.rglob("*")):
            if found.is_file() and accepts(found):
                yield str(found), found.relative_to(path)


class Report:
    """What a job calls with the fraction done; it raises to interrupt.

    Args:
        bar: where progress is shown.
        stop: set to interrupt.
    """

    def __init__(self, bar: Bar, stop: threading.Event) -> None:
        self._bar, self._stop, self._last = bar, stop, 0.0

    def __call__(self, fraction: float) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
        self._bar.advance(max(fraction - self._last, 0))
        self._last = max(fraction, self._last)

    def tell(self, text: str) -> None:
        """Show a few words on how it goes."""
        self._bar.tell(text)


def run(jobs: list[Job], options: Options, work: Callable[[Job, Report], dict[str, Any]]) -> int:
    """Do the jobs, report each, and return the exit code. A file that fails does not stop the others.

    Args:
        work: does one job and returns its report.
    """
    if options.as_json and any(job.target == STDIO for job in jobs):
        raise click.UsageError("--json and the output both want stdout; use -o FILE")
    pending = []
    for job in jobs:
        if options.skip_existing and job.target != STDIO and Path(job.target).exists():
            click.echo(f"{job.target} exists, skipped", err=True)
        else:
            pending.append(job)
    stop = threading.Event()
    failures: list[int] = []
    with bar(len(pending)) as shown:

        def attempt(job: Job) -> None:
            report = Report(shown, stop)
            try:
                report(0.0)
                result = work(job, report)
            except (CodecError, OSError, MemoryError, ValueError) as exc:
                failures.append(exits.code_of(exc))
                text = exits.message_of(exc)
                shown.echo(f"codec: {text if text.startswith(job.source) else f'{job.source}: {text}'}")
                return
            report(1.0)
            if options.as_json:
                click.echo(json.dumps(result))
            elif job.target != STDIO:
                shown.echo(_summary(result))

        if options.jobs == 1 or len(pending) <= 1:
            for job in pending:
                attempt(job)
        else:
            _in_parallel(attempt, pending, options.jobs, stop)
    if failures and len(jobs) > 1:
        click.echo(f"codec: {len(failures)} of {len(jobs)} files failed", err=True)
        return exits.PARTIAL
    return failures[0] if failures else 0


def _in_parallel(attempt: Callable[[Job], None], jobs: list[Job], count: int, stop: threading.Event) -> None:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(max(threads // count, 1))
    with ThreadPoolExecutor(count) as pool:
        try:
            for done in as_completed([pool.submit(attempt, job) for job in jobs]):
                done.result()
        except BaseException:
            stop.set()  # running jobs end at their next progress report
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            torch.set_num_threads(threads)


def _summary(result: dict[str, Any]) -> str:
    size = f"{result['width']}x{result['height']}" if "width" in result else f"{result['duration']:.2f} s"
    size += f", {result['frames']} frames" if "frames" in result else ""
    parts = [f"{result['input']} -> {result['output']}", size, f"{result['bytes']:,} bytes"]
    parts += [
        f"{result[name]:{form}} {unit}"
        for name, form, unit in (("bpp", ".3f", "bpp"), ("kbps", ".1f", "kbit/s"), ("psnr", ".2f", "dB"))
        if result.get(name) is not None
    ]
    return "  ".join([*parts, f"{result['seconds']:.2f} s"])


def read_input(source: str) -> bytes:
    """Read a file, or stdin for `-`."""
    if source != STDIO:
        return Path(source).read_bytes()
    return click.get_binary_stream("stdin").read()


def write_output(target: str, data: bytes, *, force: bool) -> None:
    """Write a file atomically, or stdout for `-`."""
    if target == STDIO:
        stream = click.get_binary_stream("stdout")
        if stream.isatty():
            raise click.UsageError("will not write binary data to a terminal; use -o FILE or redirect")
        stream.write(data)
        stream.flush()
        return
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, overwrite=force) as temporary:
        temporary.write_bytes(data)


def check_target(target: str, *, force: bool) -> None:
    """Refuse early, before the work, what `write_output` would refuse after it."""
    path = Path(target)
    if target == STDIO:
        return
    if path.is_dir():
        raise ExistsError(f"{path} is a folder; use -o FILE")
    if not force and path.exists():
        raise ExistsError(f"{path} exists; use -f to overwrite or --skip-existing")


def shared_options(command: Callable) -> Callable:
    """Options that encode and decode have in common."""
    for option in reversed(
        (
            click.option("-o", "--output", metavar="OUT", help="File, folder or - for stdout."),
            click.option("-r", "--recursive", is_flag=True, help="Take the files in folders, keeping the subtree."),
            click.option("-j", "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Files at a time."),
            click.option("-f", "--force", is_flag=True, help="Overwrite existing outputs."),
            click.option("--skip-existing", is_flag=True, help="Leave inputs alone whose output exists."),
            click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
            click.option(
                "--max-pixels",
                type=click.IntRange(1),
                default=MAX_PIXELS,
                show_default=True,
                help="Refuse larger images.",
            ),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file on stdout."),
        )
    ):
        command = option(command)
    return command
