"""The clock of events."""

import logging
from dataclasses import dataclass

from streams.decider.head import ChainHead

logger = logging.getLogger("signalbox.decider")


@dataclass(slots=True)
class EventClock:
    """The time of events, never before that of the last event: queries as of a time in the past must not
    change when the clock is set back."""

    partition: int
    _behind: bool = False

    def after(self, head: ChainHead, now: str) -> str:
        """The time of the next event."""
        if now >= head.time:
            self._behind = False
            return now
        if not self._behind:
            self._behind = True
            logger.warning(
                "the clock is at %s, and the last event of partition %d is from %s: events have that time "
                "until the clock is past it",
                now,
                self.partition,
                head.time,
            )
        return head.time
