"""Progress of a download: to standard error, and only on a terminal."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Steps:
    advance: Callable[[], None]


@contextmanager
def steps(label: str, total: int) -> Generator[Steps]:
    """A bar of `total` steps."""
    if not sys.stderr.isatty():
        yield Steps(lambda: None)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield Steps(lambda: bar.advance(task))
