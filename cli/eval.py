"""`codec eval`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codec.cli import exits
from codec.cli.options import named_files, names
from codec.cli.progress import on_terminal, progress
from codec.errors import CodecError

if TYPE_CHECKING:
    from codec.evaluation.measure import How, Job
    from codec.evaluation.medium import Medium
    from codec.evaluation.results import Curve, Evaluation, Row
    from codec.evaluation.runner import Prepared
    from codec.evaluation.sources import SourceFile
    from codec.evaluation.spec import CurveSpec
    from codec.evaluation.summary import Selection

SHOWN = 2  # files in the report when none are named
NOTHING = "none"


@click.command("eval")
@click.argument("data", nargs=-1, required=True, metavar="DATA...", type=click.Path(exists=True))
@click.option(
    "-c", "--codec", "specs", metavar="SPEC", multiple=True, required=True, help="What to measure; see below."
)
@click.option("--metric", "metrics", metavar="NAME,...", multiple=True, help="[default: all installed ones that fit]")
@click.option("--anchor", metavar="NAME", help="The curve BD-rates are against. [default: an anchor that fits most]")
@click.option("--published", metavar="FILE:NAME,...", multiple=True, help="Lay curves over ours that others published.")
@click.option("-o", "--output", metavar="DIR", default="eval", show_default=True, help="Folder of the results.")
@click.option(
    "-j", "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes; 1 to compare times."
)
@click.option("--resume", is_flag=True, help="Go on with the results in DIR.")
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="Timed runs, of which the median.")
@click.option("--weights", metavar="NAME=FILE", multiple=True, help="Network of lpips or dists; see below.")
@click.option(
    "--task",
    metavar="MODEL.py",
    type=click.Path(exists=True, dir_okay=False),
    help="Execute it; judge what it predicts.",
)
@click.option(
    "--show", "--picture", "shown", metavar="NAME", multiple=True, help="File in the report. [default: two; or none]"
)
@click.option("--record", is_flag=True, help="Keep the results of our models in their model.json, for codec list.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json on stdout instead of the table.")
def command(as_json: bool, resume: bool, record: bool, **given: Any) -> int:
    """Measure rate and distortion of codecs on files, with anchors, and write a report.

    \b
    SPEC is NAME[:key=value,...], for instance
      walloc-12            a model (see `codec list models`) at six qualities
      walloc-12:q=10..90/20,e=4     qualities 10, 30, ... 90 at effort 4
      jpeg:q=10,25,50,75,90         values are separated by commas, too
      avif:speed=6,4                one curve for each value of a key that is not the quality
    Pictures: jpeg, webp, avif, jpeg2000, jxl; lossless png, webp-lossless, jxl-lossless;
      compressai-peer; compressai puts a CompressAI checkpoint into our files;
      webp:scale=2 and avif:scale=2 code a picture of half the size, for rates below their lowest quality.
    Video: x264, x265, av1 (SVT-AV1), vp9 (x264:crf=18..42/4,preset=slow); models are stem and hnerv (hnerv:e=2).
    Sound: opus, aac, mp3 (opus:kbps=6..64,application=voip);
      lyra for speech at 16 kHz, its weights in the folder CODEC_LYRA.

    DATA are pictures, sounds or videos, and folders of them. DIR gets report.html, results.jsonl (appended while
    measuring; --resume goes on after an interruption), results.csv, curves.csv, summary.json and, for other people's
    plot scripts, summary/.

    Of video the coded files are kept, too, in coded/ under the names that results.jsonl gives them.

    Metrics of speech (pesq, stoi, visqol-speech, dnsmos) are measured where all sounds have one channel at up to
    24 kHz, and elsewhere when --metric names them.

    LPIPS and DISTS need networks that cannot be shipped: --weights lpips=FILE takes a TorchScript module of two
    pictures [1, 3, H, W], in -1..1 for lpips (torch.jit.trace(lpips.LPIPS(), (x, x)).save(FILE)), in 0..1 for dists.

    \b
    --task executes MODEL.py, a Python file of yours, which says what it predicts from a decoded signal:
      def predict(signal): ...             of a codec.Image, codec.Audio or codec.Video; returns anything
      def score(prediction, path): ...     0..1; left out: 1 where str(prediction) is the name of the file's folder
      NAME = "accuracy"                    what the mean score is called
    It becomes one more metric, in percent, beside that of the originals; DATA then is a folder with a folder for each
    class. Models that serve a task themselves (see `codec predict`) are scored by their own predictions. --resume
    measures again when MODEL.py has changed, but does not look at files that it reads.
    """
    import torch

    from codec.workers import limited_threads

    threads = max(torch.get_num_threads() // given["jobs"], 1)
    with limited_threads(threads):
        request = _prepare(threads, **given)
        rows = _collect(request, resume)
        return _finish(request, rows, as_json, record)


@dataclass(frozen=True)
class _Request:
    """A request that has been checked and can be carried out."""

    medium: Medium
    files: list[SourceFile]
    jobs: list[Job]
    prepared: list[Prepared]
    published: list[Curve]
    how: How
    anchor: str | None
    shown: list[str] | None
    data: tuple[str, ...]
    output: Path
    workers: int
    threads: int
    command: str


def _prepare(threads: int, **given: Any) -> _Request:
    """Check everything that can be checked before measuring, which may take hours."""
    from codec.evaluation import metrics, published, runner, sources, spec, tasks
    from codec.evaluation.measure import How

    with _usage():
        weights = named_files(given["weights"])
        curves = spec.parse_specs(given["specs"])
        medium, files = sources.find_files(given["data"])
        _check_kind(curves, medium, files[0])
        paths = [file.path for file in files]
        measured, left_out = metrics.choose(names(given["metrics"]), weights, medium, paths)
        for problem in left_out:
            click.echo(f"codec: left out: {problem}", err=True)
        shown = _shown(given["shown"], files)
        task = tasks.load_task(given["task"]) if given["task"] else None
        overlaid = [
            curve
            for text in given["published"]
            for curve in published.load_published(*published.parse_published(text), medium)
        ]
        prepared = [runner.prepare(curve) for curve in curves]
        if unseen := [each.spec.family for each in prepared if each.predicts and not task]:
            raise ValueError(f"{unseen[0]} serves a task, and no {medium.name} comes back; add --task MODEL.py")
        known = [curve.name for curve in curves] + [curve.name for curve in overlaid]
        if len(set(known)) < len(known):
            raise ValueError(f"two curves are called {next(name for name in known if known.count(name) > 1)}")
        if given["anchor"] and given["anchor"] not in known:
            raise ValueError(f"--anchor {given['anchor']} is none of the curves {', '.join(known)}")
    output = Path(given["output"])
    keep = str(output / runner.CODED) if medium.keeps else ""
    how = How(medium.name, measured, weights, given["repeat"], keep, task)
    return _Request(
        medium.with_column(task.name) if task else medium, files, runner.plan(files, curves), prepared, overlaid, how,
        given["anchor"], shown, given["data"],
        output, given["jobs"], threads, _command_line(given),
    )  # fmt: skip


@contextmanager
def _usage() -> Iterator[None]:
    """Report a wrong request as wrong usage."""
    try:
        yield
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


def _check_kind(curves: Sequence[CurveSpec], medium: Medium, file: SourceFile) -> None:
    """Refuse a codec that is for another kind of signal than the files are."""
    from codec.evaluation.codecs import families_for, find_family
    from codec.evaluation.medium import medium_called

    for curve in curves:
        other = medium_called(find_family(curve.family).media)
        if other is not medium:
            known = ", ".join(families_for(medium.name))
            raise ValueError(
                f"{curve.family} is for {other.things}, and {file.path} is {medium.thing}; for {medium.things} "
                f"choose from {known}"
            )


def _shown(asked: Sequence[str], files: Sequence[SourceFile]) -> list[str] | None:
    """Return the names of files to show; None to choose some."""
    if not asked:
        return None
    chosen = []
    for name in (name for name in asked if name != NOTHING):
        found = [file.name for file in files if name in (file.name, Path(file.name).stem)]
        if not found:
            raise ValueError(f"--show {name} is none of the files, {', '.join(f.name for f in files[:8])}, ...")
        chosen += found
    return chosen


def _command_line(given: dict[str, Any]) -> str:
    """Return the command that repeats this evaluation, however it was called."""
    words = ["codec", "eval", *given["data"]]
    for option, values in (
        ("--codec", given["specs"]),
        ("--metric", given["metrics"]),
        ("--anchor", [given["anchor"]] if given["anchor"] else []),
        ("--published", given["published"]),
        ("--weights", given["weights"]),
        ("--task", [given["task"]] if given["task"] else []),
        ("--show", given["shown"]),
    ):
        words += [word for value in values for word in (option, value)]
    return shlex.join([*words, "--repeat", str(given["repeat"]), "-j", str(given["jobs"]), "-o", given["output"]])


def _collect(request: _Request, resume: bool) -> list[Row]:
    from codec.evaluation import runner

    done, told = 0, set()
    with progress(len(request.jobs)) as (advance, echo):

        def report(row: Row, was_there: bool) -> None:
            nonlocal done
            done += 1
            advance(1.0)
            if row.error is not None:
                if (row.file, row.error) not in told:  # a broken file fails for every codec
                    echo(f"codec: {row.file}: {row.curve} {row.setting}: {row.error}")
                told.add((row.file, row.error))
            elif not was_there and not on_terminal():
                echo(_line(row, request))

        try:
            return runner.collect(
                request.jobs, request.how, request.output, workers=request.workers, resume=resume, report=report
            )
        except KeyboardInterrupt:
            where = request.output / runner.RESULTS
            echo(f"codec: {done} of {len(request.jobs)} results are in {where}; add --resume to go on")
            raise


def _line(row: Row, request: _Request) -> str:
    medium, task, qualities = request.medium, request.how.task, []
    if "psnr" in row.metrics:
        psnr = row.metrics["psnr"]
        qualities.append("lossless" if psnr is None else f"{psnr:.2f} dB")
    if task:
        qualities.append(f"{task.name} {row.metrics[task.name]:.0f} %")
    rate = f"{medium.rate_of(row.bytes, row.size):.{medium.rate.digits - 1}f} {medium.rate.unit}"
    seconds = f"{row.encode_seconds:.3f} s, {row.decode_seconds:.3f} s"
    return f"{row.file}  {row.curve} {row.setting}  {row.bytes:,} bytes  {rate}  {'  '.join(qualities)}  {seconds}"


def _finish(request: _Request, rows: list[Row], as_json: bool, record: bool) -> int:
    """Average, write everything and print the result."""
    from codec.evaluation import conventions, outputs, summary
    from codec.evaluation.report import write_report

    failures = sum(row.error is not None for row in rows)
    try:
        selection = summary.select(rows)
    except CodecError as exc:
        click.echo(f"codec: {exits.message_of(exc)}", err=True)
        return exits.PARTIAL
    evaluation = _evaluation(request, rows, selection)
    anchor = request.anchor or outputs.default_anchor(evaluation)
    if anchor not in [curve.name for curve in evaluation.curves]:
        anchor = None  # it was asked for, but nothing of it could be measured
    document = outputs.write_outputs(request.output, evaluation, rows, anchor)
    exhibits = _decode(request, rows, selection)
    write_report(evaluation, exhibits, request.output / "report.html", anchor=anchor)
    _plot(evaluation, request.output / "plots")
    click.echo(json.dumps(document) if as_json else outputs.table(evaluation, anchor))
    click.echo(
        f"{request.output / 'report.html'}: {len(selection.files)} of {len(request.files)} files averaged", err=True
    )
    for line in conventions.describe_failures(selection):
        click.echo(f"codec: {line}", err=True)
    if record:
        from codec.evaluation.record import record as keep

        click.echo(f"recorded for {', '.join(keep(evaluation)) or 'no model'}", err=True)
    return exits.PARTIAL if failures else 0


def _evaluation(request: _Request, rows: list[Row], selection: Selection) -> Evaluation:
    from codec.evaluation import conventions, summary
    from codec.evaluation.results import Evaluation

    curves = [*summary.curves_of(selection, request.prepared, request.medium), *request.published]
    processes = {"workers": request.workers, "threads": request.threads}
    return Evaluation(
        curves=tuple(curves),
        metrics=summary.point_metrics(curves, request.medium),
        conventions=conventions.conventions(request.how, curves, **processes),
        command=request.command,
        facts=conventions.facts(request.how, rows, selection, data=request.data, **processes),
        media=request.medium.name,
        originals=summary.originals_of(selection, request.how.task),
    )


def _decode(request: _Request, rows: list[Row], selection: Selection) -> list[Any]:
    from codec.evaluation import showcase

    files = selection.files[:SHOWN] if request.shown is None else request.shown
    chosen = showcase.choose(request.jobs, rows, files, request.medium)
    kept = {(row.file, row.curve, row.setting): Path(request.how.keep) / row.coded for row in rows if request.how.keep}
    with progress(sum(map(len, chosen.values()))) as (advance, _):
        return showcase.decode(chosen, request.medium, advance, kept)


def _plot(evaluation: Evaluation, folder: Path) -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        click.echo("codec: left out: plots need a package; pip install matplotlib", err=True)
        return
    from codec.evaluation.report import write_plots

    write_plots(evaluation, folder)
