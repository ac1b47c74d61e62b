"""Hears from the outcomes topic what became of commands, whichever process decided them."""

import logging
from collections.abc import Callable, Iterable, Sequence

from pydantic import ValidationError

from schemas.outcome import Outcome
from streams.following import Follower
from streams.log import Log, Record

REUSED = "command-id-reused"
"""The rule of a rejection beside which the first outcome of the same id stands."""

logger = logging.getLogger("signalbox.outcomes")


def outcomes_follower(log: Log, decided: Callable[[Iterable[Outcome]], None]) -> Follower:
    """Tells `decided` of every outcome, of all partitions."""

    def told(records: Sequence[Record]) -> None:
        decided([outcome for outcome in map(_outcome, records) if outcome is not None])

    return Follower(log, "outcomes", told)


def _outcome(record: Record) -> Outcome | None:
    """None for what is no answer to the command that had the id first."""
    if record.fault is not None or record.envelope.type != Outcome.type():
        return None
    try:
        outcome = Outcome.of(record.envelope.data)
    except ValidationError:
        logger.warning("outcomes/%d, position %d is no outcome", record.partition, record.position)
        return None
    return None if outcome.rule == REUSED else outcome
