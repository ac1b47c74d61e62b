"""The head of a partition's hash chain, which the next event is chained to."""

from typing import NamedTuple

from schemas.envelope import GENESIS, Envelope


class ChainHead(NamedTuple):
    """`position` on the log, `sequence` counted from 1, `hash` of the last event; `time` of the latest."""

    position: int = 0
    sequence: int = 0
    hash: str = GENESIS
    time: str = ""

    def chain(self, envelope: Envelope) -> Envelope:
        """`envelope` as the event after this head."""
        return envelope.chained(self.sequence + 1, self.hash)

    def after(self, chained: Envelope, position: int) -> "ChainHead":
        """The head after `chained` was written at `position`."""
        return ChainHead(position, int(chained.sequence), chained.hash(), max(self.time, chained.time))
