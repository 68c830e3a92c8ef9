"""Progress on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


def on_terminal() -> bool:
    """Say whether people see stderr as it is written."""
    return sys.stderr.isatty()


@contextmanager
def progress(total: int) -> Iterator[tuple[Callable[[float], None], Callable[[str], None]]]:
    """Yield (advance, echo): a bar on stderr if that is a terminal, otherwise nothing and plain lines."""
    if not on_terminal():
        yield (lambda _: None), (lambda text: click.echo(text, err=True))
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield (
            lambda amount: bar.advance(task, amount),
            lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True),
        )
