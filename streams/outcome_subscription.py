"""Notifies this process of outcomes on the log, whichever process decided the commands."""

import logging
from collections.abc import Callable, Iterable, Sequence

from pydantic import ValidationError

from schemas.outcome import Outcome
from streams.log import Log, Record
from streams.retry import Retry
from streams.subscription import Subscription, end_of

REUSED = "command-id-reused"
"""The rule of a rejection beside which the first outcome of the same id stands."""

logger = logging.getLogger("signalbox.outcomes")


def outcome_subscription(log: Log, decided: Callable[[Iterable[Outcome]], None]) -> Subscription:
    """Calls `decided` with every outcome from its `open` on, of all partitions.

    It begins at the end: who waits in this process submitted later, or looks on the log for earlier outcomes.
    """

    async def handle(records: Sequence[Record]) -> None:
        decided([outcome for outcome in map(_outcome, records) if outcome is not None])

    retry = Retry("outcomes are not received", logger)
    return Subscription(log, "outcomes", handle, start=end_of(log, "outcomes"), retry=retry, batch=1000)


def _outcome(record: Record) -> Outcome | None:
    """None for a record that is no answer to the command that had the id first."""
    if record.fault is not None or record.envelope.type != Outcome.type():
        return None
    try:
        outcome = Outcome.of(record.envelope.data)
    except ValidationError:
        logger.warning("outcomes/%d, position %d is no outcome", record.partition, record.position)
        return None
    return None if outcome.rule == REUSED else outcome
