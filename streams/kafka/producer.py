"""Producers of Signalbox: every message is durable on all in-sync replicas, without duplicates."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerFenced, RecordListTooLargeError
from aiokafka.producer import sender

from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable, MessageTooLarge
from streams.submission.command_port import APPEND_SECONDS

TRANSACTION_SECONDS = 15
"""The time after which an open transaction of a crashed process no longer blocks readers."""
REQUEST_SECONDS = 10
PRODUCE_SECONDS = 0.75 * APPEND_SECONDS
"""The time limit of the broker's acknowledgement. It is shorter than that of callers, so that a stuck
producer is detected and replaced."""
STOP_SECONDS = 1.0
BATCH_FACTOR = 8
"""Events, snapshots and config resources may be larger than the largest command by this factor."""

TRANSACTION_BACKOFF_MS = 10
"""Milliseconds before a refused write of a transaction is tried again. A broker that verifies a
transaction's partitions (Kafka's default) sometimes refuses one while it finishes the previous transaction
(as NotEnoughReplicas): this takes a millisecond or two, and aiokafka would wait 100."""
REPEATED_SECONDS = 10.0
"""Seconds in which a warning about the same partition is not repeated."""

# aiokafka waits 20 ms while the broker finishes the previous transaction; the broker needs one or two.
sender.BACKOFF_OVERRIDE = 0.002


class Unrepeated(logging.Filter):
    """Passes one of equal warnings in `REPEATED_SECONDS`: retries are frequent, and brokers that lack
    replicas would fill the log."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        message, now = record.getMessage(), self._clock()
        if now - self._last.get(message, -REPEATED_SECONDS) < REPEATED_SECONDS:
            return False
        self._last = {message: at for message, at in self._last.items() if now - at < REPEATED_SECONDS}
        self._last[message] = now
        return True


logging.getLogger(sender.__name__).addFilter(Unrepeated())


def not_raised_already(record: logging.LogRecord) -> bool:
    """Leaves out errors of fenced producers in futures that aiokafka never awaits: each is raised, too."""
    return record.exc_info is None or not isinstance(record.exc_info[1], ProducerFenced)


logging.getLogger("asyncio").addFilter(not_raised_already)


async def started_producer(settings: KafkaSettings, transactional_id: str | None = None) -> AIOKafkaProducer:
    """A started producer. With a transactional id, the previous producer is fenced, and its open
    transaction aborted.

    Transactions write to topics with a limit of `BATCH_FACTOR` times `max_message` per batch. A producer
    without transactions also writes to topics with the limit `max_message`, so its batches are no larger; a
    larger message gets its own batch.

    Raises LogUnavailable.
    """
    # aiokafka does not split a batch that the broker refuses: all its messages fail.
    batch = settings.max_message * (BATCH_FACTOR if transactional_id is not None else 1)
    options: dict[str, Any] = {
        **settings.client(),
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": 0,
        "request_timeout_ms": REQUEST_SECONDS * 1000,
        "max_batch_size": batch,
        "max_request_size": settings.max_message * BATCH_FACTOR,
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
    """Stops a producer in any state; if it cannot be stopped at once, it is left to end by itself."""
    stopping = asyncio.create_task(producer.stop())
    _stopping.add(stopping)
    stopping.add_done_callback(_stopped)
    await asyncio.wait([stopping], timeout=STOP_SECONDS)


_stopping: set[asyncio.Task[None]] = set()


def _stopped(stopping: asyncio.Task[None]) -> None:
    _stopping.discard(stopping)
    if not stopping.cancelled() and (error := stopping.exception()) is not None:
        logging.getLogger("signalbox.kafka").debug("error of a discarded producer: %r", error)


def retrieved(done: asyncio.Future[Any]) -> None:
    """Retrieves the error of a future that is no longer awaited: another one has reported it."""
    if not done.cancelled():
        done.exception()


REFUSED_SIZES = (MessageSizeTooLargeError, RecordListTooLargeError)
"""The broker refuses an allowed message: the topic's limit was lowered since the check at the start."""


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
    """The error to raise after a failed write of so many messages. A single message that the broker refuses
    for its size is too large; of several, the others may be writable."""
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
