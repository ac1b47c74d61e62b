"""The newest records of each partition in memory: consumers that keep up read without a query.

Each record is decoded once, from the row that was written, so that what is read is the same wherever it is
read from.
"""

from collections import deque
from collections.abc import Sequence
from itertools import islice

from streams.log import Record, Topic
from streams.sqlite.rows import Row, decode

MOST_RECORDS = 256
MOST_BYTES = 1 << 20
"""Of encoded rows, per partition of a topic."""


class RecentRecords:
    """Of one partition of a topic. Belongs to the event loop."""

    def __init__(self, topic: Topic) -> None:
        self._topic: Topic = topic
        self._end = 0
        self._bytes = 0
        self._kept: deque[Row | Record] = deque()
        self._sizes: deque[int] = deque()

    def add(self, rows: Sequence[Row], end: int) -> None:
        """Takes rows that were committed, the last of which has position `end`."""
        if self._end != end - len(rows):
            self._kept.clear()
            self._sizes.clear()
            self._bytes = 0
        self._end = end
        for row in rows[-MOST_RECORDS:]:
            self._kept.append(row)
            self._sizes.append(len(row[4]))
            self._bytes += len(row[4])
        while self._bytes > MOST_BYTES or len(self._kept) > MOST_RECORDS:
            self._kept.popleft()
            self._bytes -= self._sizes.popleft()

    def read(self, after: int, last: int) -> list[Record] | None:
        """The records above `after` up to `last`; None when not all of them are kept."""
        first = self._end - len(self._kept)
        if after < first or last > self._end:
            return None
        found: list[Record] = []
        for at, kept in enumerate(islice(self._kept, after - first, last - first), after - first):
            if isinstance(kept, tuple):
                kept = self._kept[at] = decode(self._topic, kept)
            found.append(kept)
        return found
