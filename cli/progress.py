"""Progress on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import click


def on_terminal() -> bool:
    """Say whether people see stderr as it is written."""
    return sys.stderr.isatty()


class Bar(NamedTuple):
    """What is shown on stderr.

    Attributes:
        advance: by a fraction of one of the things to do.
        echo: a line that stays.
        tell: words that are replaced by the next; on a terminal only.
    """

    advance: Callable[[float], None]
    echo: Callable[[str], None]
    tell: Callable[[str], None]


@contextmanager
def progress(total: int) -> Iterator[tuple[Callable[[float], None], Callable[[str], None]]]:
    """Yield (advance, echo) of a `bar`."""
    with bar(total) as shown:
        yield shown.advance, shown.echo


@contextmanager
def bar(total: int) -> Iterator[Bar]:
    """Yield a bar on stderr if that is a terminal, otherwise nothing and plain lines."""
    if not on_terminal():
        yield Bar((lambda _: None), (lambda text: click.echo(text, err=True)), (lambda _: None))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("", total=total)
        yield Bar(
            lambda amount: shown.advance(task, amount),
            lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True),
            lambda text: shown.update(task, description=escape(text)),
        )
