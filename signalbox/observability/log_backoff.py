"""What recurs is logged with growing distance. Pure: the caller has the clock."""

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class _Seen:
    last: float
    """When it happened last."""
    due: float
    """From when on it is said again."""
    distance: float


class LogBackoff:
    """Of what happens about every `interval` seconds: said at once, then after 2, 4, 8 … intervals, at most
    `most` seconds apart. What did not happen for 10 intervals has ended, and is said at once the next time.
    """

    def __init__(self, interval: float, most: float) -> None:
        self._interval = interval
        self._most = most
        self._seen: dict[Hashable, _Seen] = {}

    def is_due(self, key: Hashable, now: float) -> bool:
        """Notes that `key` happens `now` (seconds); whether it is to be said."""
        ended = now - 10 * self._interval
        self._seen = {known: seen for known, seen in self._seen.items() if seen.last > ended}
        seen = self._seen.setdefault(key, _Seen(now, now, self._interval))
        seen.last = now
        if now < seen.due:
            return False
        seen.distance = min(seen.distance * 2, self._most)
        seen.due = now + seen.distance
        return True
