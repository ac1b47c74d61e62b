"""A test that hangs fails, with what its main thread and its tasks are waiting for; the run continues.

Time limits in tests are for this only. No test may depend on how fast the machine is.
"""

import asyncio
import io
import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import pytest

from tests.support import connection

HANG_SECONDS = connection.HANG_SECONDS

PHASE_SECONDS = 900.0
"""The setup, the call or the teardown of a test that takes longer is a hang."""

AGAIN_SECONDS = 15.0
"""The interruption may end only the current step; so it is repeated."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--hang-seconds",
        type=float,
        default=PHASE_SECONDS,
        help="fail a test whose setup, call or teardown takes longer than this",
    )


@contextmanager
def _guarded(item: pytest.Item) -> Generator[None]:
    seconds = float(item.config.getoption("--hang-seconds") or PHASE_SECONDS)

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        pytest.fail(f"hangs: not done after {seconds:g} s{_tasks()}")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _tasks() -> str:
    """The stacks of the tasks of the loop that runs, if one does."""
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:
        return ""
    written = io.StringIO()
    for task in tasks:
        task.print_stack(file=written)
    return f"\n{written.getvalue()}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    with _guarded(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    with _guarded(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    with _guarded(item):
        return (yield)
