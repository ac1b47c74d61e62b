"""Waiting for what another process does."""

import time
from collections.abc import Callable

WITHIN = 10.0


def eventually(holds: Callable[[], bool]) -> None:
    """Returns once it holds; fails when it does not within seconds."""
    until = time.monotonic() + WITHIN
    while not holds():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.01)
