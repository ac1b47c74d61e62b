"""Logs warnings about streams that the xDS server rejected, but not more than a few."""

import logging
import time
from collections.abc import Callable

SECONDS = 60.0
"""The same warning is not repeated within this time."""
MOST = 100
"""Maximum number of different warnings within that time."""

logger = logging.getLogger("signalbox.gateways")


class Denials:
    """Logs the reason of a rejected stream: each one once in SECONDS, with the number of repetitions."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._repeated: dict[str, int] = {}

    def __call__(self, why: str) -> None:
        now = self._clock()
        if self._until.get(why, now) > now:
            self._repeated[why] = self._repeated.get(why, 0) + 1
            return
        if why not in self._until and len(self._until) >= MOST:
            self._forget(now)
            if len(self._until) >= MOST:
                return
        self._until[why] = now + SECONDS
        times = self._repeated.pop(why, 0)
        logger.warning("%s%s", why, f" ({times:,} more times since it was logged last)" if times else "")

    def _forget(self, now: float) -> None:
        self._until = {why: until for why, until in self._until.items() if until > now}
        self._repeated = {why: times for why, times in self._repeated.items() if why in self._until}
