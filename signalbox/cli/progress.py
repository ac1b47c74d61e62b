"""Progress of long work: to standard error, and only on a terminal."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING

import click

from signalbox.cli.output import on_terminal

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LONG = 20
"""The number of steps from which on there is a progress bar."""


class Progress:
    def __init__(self, label: str, total: int) -> None:
        self._bar: Bar | None = _bar(label, total) if total >= LONG and on_terminal() else None

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, steps: int) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=steps)

    def echo(self, text: str, err: bool = False) -> None:
        """Prints a line of the result, above the bar on the same terminal."""
        if self._bar is not None and (err or sys.stdout.isatty()):
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(text, err=err)


def _bar(label: str, total: int) -> "Bar":
    from rich.console import Console
    from rich.progress import Progress as Bar

    bar = Bar(console=Console(stderr=True), transient=True)
    bar.add_task(label, total=total)
    return bar
