"""Waiting for what another process does."""

import time
from collections.abc import Callable

from tests.support.hang_guard import HANG_SECONDS


def eventually(holds: Callable[[], bool]) -> None:
    """Returns once it holds; fails when it hangs."""
    until = time.monotonic() + HANG_SECONDS
    while not holds():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.01)
