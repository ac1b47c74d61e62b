"""Caches the newest records of each partition: consumers that keep up read without a query.

Each record is decoded once, from the written row, so that all reads return the same.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from operator import itemgetter

from streams.log import Record, Topic
from streams.sqlite.rows import Row, decode

MOST_RECORDS = 256
MOST_BYTES = 1 << 20
"""Limits on encoded rows, per partition of a topic. Up to twice as many are kept, so that trimming costs
little."""

_rest = itemgetter(4)


class RecentRecords:
    """The newest records of one partition of a topic. For the event loop's thread only."""

    def __init__(self, topic: Topic) -> None:
        self._topic: Topic = topic
        self._end = 0
        self._bytes = 0
        self._kept: list[Row | Record] = []
        self._sizes: list[int] = []

    def add(self, rows: Sequence[Row], end: int) -> None:
        """Adds committed rows, the last of which has position `end`."""
        if self._end != end - len(rows) or len(rows) > MOST_RECORDS:
            self._keep(0)  # what is kept has no gap: positions are counted back from the end
        self._end = end
        newest = rows[-MOST_RECORDS:]
        sizes = list(map(len, map(_rest, newest)))
        self._kept += newest
        self._sizes += sizes
        self._bytes += sum(sizes)
        if len(self._kept) > 2 * MOST_RECORDS or self._bytes > 2 * MOST_BYTES:
            self._trim()

    def read(self, after: int, last: int) -> list[Record] | None:
        """The records above `after` up to `last`; None when not all of them are in memory."""
        first = self._end - len(self._kept)
        if after < first or last > self._end:
            return None
        found: list[Record] = []
        for at in range(after - first, last - first):
            kept = self._kept[at]
            if isinstance(kept, tuple):
                kept = self._kept[at] = decode(self._topic, kept)
            found.append(kept)
        return found

    def _trim(self) -> None:
        newest_first = self._sizes[: -MOST_RECORDS - 1 : -1]
        self._keep(bisect_right(list(accumulate(newest_first)), MOST_BYTES))

    def _keep(self, count: int) -> None:
        gone = len(self._kept) - count
        del self._kept[:gone], self._sizes[:gone]
        self._bytes = sum(self._sizes)
