"""Running an evaluation: which rows are wanted, which exist already, and who measures the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from codec.errors import CodecError, ExistsError
from codec.evaluation import rows as storage
from codec.evaluation.codecs import find_family
from codec.evaluation.measure import How, Job, measure
from codec.evaluation.results import Row
from codec.evaluation.sources import SourceFile
from codec.evaluation.spec import CurveSpec
from codec.workers import spawned

RESULTS = "results.jsonl"
CODED = "coded"  # folder of coded files, where they are kept


@dataclass(frozen=True)
class Prepared:
    """A curve whose codec is known to work here.

    Attributes:
        kind: `model`, `anchor` or `peer`.
        version: of its codec.
        description: version and every option the encoder is given; those that vary with all their values.
        predicts: its files serve a task, see `Codec`.
    """

    spec: CurveSpec
    kind: str
    version: str
    description: str
    predicts: bool = False


def prepare(curve: CurveSpec) -> Prepared:
    """Make the codecs of a curve, to find out before measuring that they can be made, and describe them.

    Raises:
        CodecError, ValueError: see `Family.make`.
    """
    made = [curve.codec(setting) for setting in curve.settings]
    versions = list(dict.fromkeys(codec.version for codec in made))
    options = []
    for key in made[0].options:
        values = list(dict.fromkeys(str(codec.options.get(key)) for codec in made))
        options.append(f"{key}={','.join(values)}")
    description = "; ".join(["; ".join(versions), *([" ".join(options)] if options else [])])
    return Prepared(curve, find_family(curve.family).kind, made[0].version, description, made[0].predicts)


def plan(files: Sequence[SourceFile], curves: Sequence[CurveSpec]) -> list[Job]:
    """Return all jobs in the order of the results: by file, then curve, then setting.

    All codecs see a file within a short time of each other, so that a machine that slows down slows all of them.
    """
    return [
        Job(file, digest, curve, setting)
        for file, digest in ((file, file.digest()) for file in files)
        for curve in curves
        for setting in curve.settings
    ]


def collect(
    jobs: Sequence[Job], how: How, folder: Path, *, workers: int, resume: bool, report: Callable[[Row, bool], None]
) -> list[Row]:
    """Measure what is missing, keep it in `results.jsonl`, and return the rows of all jobs in their order.

    An interrupted run and its continuation leave the same file as one run, except for seconds and peaks. Rows in the
    file that are none of these jobs stay in it, behind the others.

    Args:
        folder: where the file is; it is made.
        workers: processes; 1 measures in this one.
        resume: keep rows that exist and fit; failed ones are measured again.
        report: called with each row, and whether it was there already.

    Raises:
        ExistsError: there are results and `resume` is false.
        CorruptError: the results that exist cannot be read.
        CodecError: a worker died.
    """
    path = folder / RESULTS
    if path.exists() and not resume:
        raise ExistsError(f"{path} exists; add --resume to go on with it, or choose another -o")
    folder.mkdir(parents=True, exist_ok=True)
    known = {(row.file, row.curve, row.setting): row for row in storage.load_rows(path)}
    done = {job.key: known[job.key] for job in jobs if job.key in known and _fits(known[job.key], job, how)}
    wanted = {job.key for job in jobs}
    others = [row for key, row in known.items() if key not in wanted]
    storage.save_rows(path, [*done.values(), *others])  # without failures, stale rows and a torn last line
    for row in done.values():
        report(row, True)
    with storage.appending(path) as append:
        for job, row in _measured([job for job in jobs if job.key not in done], how, workers):
            append(row)
            done[job.key] = row
            report(row, False)
    ordered = [done[job.key] for job in jobs]
    storage.save_rows(path, [*ordered, *others])
    _tidy(folder / CODED, {row.coded for row in (*ordered, *others)})
    return ordered


def _tidy(folder: Path, named: set[str]) -> None:
    """Remove coded files that no row names any more."""
    for file in folder.glob("*"):
        if file.name not in named:
            file.unlink()


def _fits(row: Row, job: Job, how: How) -> bool:
    """Say whether a row is what measuring the job would give, but for times."""
    codec = job.curve.codec(job.setting)
    return (
        row.error is None
        and row.source == job.source
        and (row.version, row.options) == (codec.version, dict(codec.options))
        and (codec.predicts or set(how.metrics) <= set(row.metrics))
        and (how.task is None or row.task == how.task.digest)
    )


def _measured(jobs: Sequence[Job], how: How, workers: int) -> Iterator[tuple[Job, Row]]:
    """Yield each job with its row as soon as it is measured."""
    if workers == 1:
        yield from ((job, measure(job, how)) for job in jobs)
        return
    import torch

    try:
        with spawned(workers, torch.get_num_threads()) as pool:
            futures = {pool.submit(measure, job, how): job for job in jobs}
            yield from ((futures[future], future.result()) for future in as_completed(futures))
    except BrokenProcessPool as exc:
        raise CodecError("a process died, perhaps for lack of memory; add --resume and use a smaller -j") from exc
