"""Producers as Signalbox uses them: every message durable on all in-sync replicas, none twice."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.producer import sender

from streams.command_port import APPEND_SECONDS
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable, MessageTooLarge

TRANSACTION_SECONDS = 15
"""How long a transaction of a process that died holds up readers when nobody takes its place."""
REQUEST_SECONDS = 10
PRODUCE_SECONDS = 0.75 * APPEND_SECONDS
"""How long the broker may take to acknowledge messages. Before whoever hands them in gives up, or a producer
that is stuck would never be known as such and replaced."""
STOP_SECONDS = 1.0
ROOM = 8
"""Events, snapshots and configuration may be so many times as large as the largest command."""

TRANSACTION_BACKOFF_MS = 10
"""Before a transaction's write that was refused is tried again. A broker that verifies a transaction's
partitions, Kafka's default, refuses one now and then while it finishes the transaction before (as
NotEnoughReplicas): that takes it a millisecond or two, and aiokafka would wait 100."""
REPEATED_SECONDS = 10.0
"""How long a warning of the same partition is not repeated."""

# aiokafka waits 20 ms when the broker still finishes the transaction before; it takes the broker one or two.
sender.BACKOFF_OVERRIDE = 0.002


class Unrepeated(logging.Filter):
    """Of warnings that differ in nothing, lets one pass in `REPEATED_SECONDS`: attempts follow each other
    closely, and brokers that lack replicas would fill the log."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        message, now = record.getMessage(), self._clock()
        if now - self._last.get(message, -REPEATED_SECONDS) < REPEATED_SECONDS:
            return False
        self._last = {said: at for said, at in self._last.items() if now - at < REPEATED_SECONDS}
        self._last[message] = now
        return True


logging.getLogger(sender.__name__).addFilter(Unrepeated())


async def started_producer(settings: KafkaSettings, transactional_id: str | None = None) -> AIOKafkaProducer:
    """A producer that is ready. With a transactional id, whoever had it before is fenced, and what that one
    had not committed is gone.

    Transactions write to topics that take `ROOM` times `max_message` per batch. A producer without
    transactions also writes to topics that take `max_message`, so its batches grow no larger; one larger
    message is a batch of its own.

    Raises LogUnavailable.
    """
    # aiokafka does not split a batch that the broker refuses: every message in it fails.
    batch = settings.max_message * (ROOM if transactional_id is not None else 1)
    options: dict[str, Any] = {
        **settings.client(),
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": 0,
        "request_timeout_ms": REQUEST_SECONDS * 1000,
        "max_batch_size": batch,
        "max_request_size": settings.max_message * ROOM,
    }
    if transactional_id is not None:
        options |= {
            "transactional_id": transactional_id,
            "transaction_timeout_ms": TRANSACTION_SECONDS * 1000,
            "retry_backoff_ms": TRANSACTION_BACKOFF_MS,
        }
    producer = AIOKafkaProducer(**options)
    try:
        await producer.start()
    except (KafkaError, OSError) as error:
        await stopped(producer)
        raise unavailable(settings, error) from error
    except BaseException:
        await stopped(producer)
        raise
    return producer


async def stopped(producer: AIOKafkaProducer) -> None:
    """Stops a producer, whatever state it is in; one that cannot be stopped at once ends by itself."""
    stopping = asyncio.create_task(producer.stop())
    _stopping.add(stopping)
    stopping.add_done_callback(_stopped)
    await asyncio.wait([stopping], timeout=STOP_SECONDS)


_stopping: set[asyncio.Task[None]] = set()


def _stopped(stopping: asyncio.Task[None]) -> None:
    _stopping.discard(stopping)
    if not stopping.cancelled() and (error := stopping.exception()) is not None:
        logging.getLogger("signalbox.kafka").debug("a producer that is given up: %r", error)


def retrieved(done: asyncio.Future[Any]) -> None:
    """Takes the error of a future that nobody awaits any more: another one has told it."""
    if not done.cancelled():
        done.exception()


REFUSED_SIZES = (MessageSizeTooLargeError, RecordListTooLargeError)
"""A broker that refuses what we allow: the topic's limit was lowered since it was checked at the start."""


class TopicTooSmall(KafkaError):
    """A topic refuses a message that Signalbox allows."""

    def __init__(self, topic: str, needed: int) -> None:
        super().__init__(
            f"the topic {topic} refuses a message for its size: kafka-configs.sh --alter --topic {topic} "
            f"--add-config max.message.bytes={needed}"
        )


def unavailable(settings: KafkaSettings, error: BaseException) -> LogUnavailable:
    if isinstance(error, TopicTooSmall):
        return LogUnavailable(
            f"Kafka at {settings.bootstrap}: {error.args[0]}", "Kafka refuses a message for its size"
        )
    message = f"Kafka at {settings.bootstrap} does not answer: {error or type(error).__name__}"
    return LogUnavailable(message, "Kafka does not answer")


def not_written(
    settings: KafkaSettings, error: BaseException, topic: str, needed: int, messages: int
) -> LogUnavailable | MessageTooLarge:
    """What to raise when writing so many messages failed. One that a broker refuses for its size is too
    large; of several, others may be written."""
    if isinstance(error, REFUSED_SIZES):
        error = TopicTooSmall(topic, needed)
        if messages == 1:
            logging.getLogger("signalbox.kafka").error("Kafka at %s: %s", settings.bootstrap, error.args[0])
            return MessageTooLarge(f"The message is too large: the topic {topic} refuses it.")
    return unavailable(settings, error)


def require_size(topic: str, size: int, limit: int) -> None:
    """Raises MessageTooLarge before the broker has to. Sizes in bytes."""
    if size > limit:
        raise MessageTooLarge(
            f"A message of {size:,} bytes is too large for the topic {topic}, which takes {limit:,}."
        )
