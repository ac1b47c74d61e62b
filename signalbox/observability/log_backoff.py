"""Logs a recurring condition at growing intervals. Pure: the caller has the clock."""

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class _Seen:
    last: float
    """The time of its last occurrence."""
    due: float
    """The time from which on it is logged again."""
    distance: float


class LogBackoff:
    """For a condition that occurs about every `interval` seconds: logged at once, then after 2, 4, 8 …
    intervals, at most `most` seconds apart. After 10 intervals without it, it is logged at once again.
    """

    def __init__(self, interval: float, most: float) -> None:
        self._interval = interval
        self._most = most
        self._seen: dict[Hashable, _Seen] = {}

    def is_due(self, key: Hashable, now: float) -> bool:
        """Records that `key` occurs `now` (seconds); returns whether to log it."""
        ended = now - 10 * self._interval
        self._seen = {known: seen for known, seen in self._seen.items() if seen.last > ended}
        seen = self._seen.setdefault(key, _Seen(now, now, self._interval))
        seen.last = now
        if now < seen.due:
            return False
        seen.distance = min(seen.distance * 2, self._most)
        seen.due = now + seen.distance
        return True
