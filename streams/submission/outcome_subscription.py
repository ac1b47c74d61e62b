"""A command port that is notified of outcomes on the log, by any process."""

import logging
from collections.abc import Sequence

from pydantic import ValidationError

from schemas.outcome import Outcome
from streams.log import Log, Record
from streams.retry import Retry
from streams.submission.command_port import CommandPort
from streams.subscription import Subscription, end_of

REUSED = "command-id-reused"
"""The rule of a rejection that does not replace the first outcome of the same id."""

logger = logging.getLogger("signalbox.outcomes")


async def open_command_port(log: Log) -> tuple[CommandPort, Subscription]:
    """A command port, and the consumer that notifies it of outcomes and is to be run. One attempt.

    The consumer starts at the end of the topic and misses no outcome: the port, and so its first waiter,
    exists only after the consumer is open. Earlier outcomes are found by the port's search of the log. Raises
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
    """The outcome; None for a record that is not one of the first command with its id."""
    if record.fault is not None or record.envelope.type != Outcome.type():
        return None
    try:
        outcome = Outcome.of(record.envelope.data)
    except ValidationError:
        logger.warning("outcomes/%d, position %d is no outcome", record.partition, record.position)
        return None
    return None if outcome.rule == REUSED else outcome
