"""A command port that is notified of outcomes on the log, whichever process decides the commands."""

import logging
from collections.abc import Sequence

from pydantic import ValidationError

from schemas.outcome import Outcome
from streams.log import Log, Record
from streams.retry import Retry
from streams.submission.command_port import CommandPort
from streams.subscription import Subscription, end_of

REUSED = "command-id-reused"
"""The rule of a rejection beside which the first outcome of the same id stands."""

logger = logging.getLogger("signalbox.outcomes")


async def open_command_port(log: Log) -> tuple[CommandPort, Subscription]:
    """A command port, and the consumer that notifies it of outcomes and is to be run. One attempt.

    The consumer starts at the end of the topic and misses nothing: the port, and so its first waiter, exists
    only after the consumer is open. Outcomes from before are found by the port's search of the log. Raises
    LogUnavailable.
    """
    port = CommandPort(log)

    async def handle(records: Sequence[Record]) -> None:
        port.decided([outcome for outcome in map(_outcome, records) if outcome is not None])

    subscription = Subscription(
        log,
        "outcomes",
        handle,
        start=end_of(log, "outcomes"),
        retry=Retry("outcomes are not received", logger),
        batch=1000,
    )
    await subscription.open()
    return port, subscription


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
