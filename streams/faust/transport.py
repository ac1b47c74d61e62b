"""Faust's transport to Kafka, with the features that Faust lacks.

It reads committed transactions only. It starts at the positions in the database, not at the group's offsets.
It passes on the messages of one fetch as one message, because a message costs Faust ten times as much as the
feed, and adds the position before it, so that messages lost by Faust are detected. It commits the positions
in the database: the group's offsets only show the lag to others.

Faust's own tracking of acknowledgements is switched off: a control record leaves a gap in the offsets, and
between small transactions Faust commits offsets of messages that were only read.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import aiokafka

from streams.faust.chunks import CHUNK, Chunk, Raw, TopicPartition
from streams.kafka.settings import KafkaSettings

_LOG = logging.getLogger(__name__)

# Faust's annotations are unfinished: only this module and `app` use it.
_DRIVER: Mapping[str, Any] = vars(import_module("faust.transport.drivers.aiokafka"))
_RANGE: Any = vars(import_module("aiokafka.coordinator.assignors.range"))["RangePartitionAssignor"]
_BaseConsumer: Any = _DRIVER["Consumer"]
_BaseThread: Any = _DRIVER["AIOKafkaConsumerThread"]
_BaseWorker: Any = vars(import_module("mode.threads"))["WorkerThread"]
_BaseProducer: Any = _DRIVER["Producer"]
_BaseTransport: Any = _DRIVER["Transport"]
_BaseSchema: Any = vars(import_module("faust.serializers.schemas"))["Schema"]

MOST_UNDER_WAY = 4 * CHUNK
CROWDED_SECONDS = 0.01
FETCH_WAIT_MS = 500
FETCH_BYTES = 4 * 1024 * 1024
LEAVE_SECONDS = 3.0
"""How long a consumer that stops waits for the broker. Without an answer, its session runs out."""
JOIN_SECONDS = 1.0

Starts = Callable[[frozenset[TopicPartition]], Awaitable[Mapping[TopicPartition, int] | None]]
"""Offsets to read partitions from; None when they are unknown at the moment."""


@dataclass(slots=True)
class Bookkeeping:
    """The state that is shared with a consumer. `durable` are the offsets in the database; the consumer
    commits them from time to time. `fetched` is up to which position it has received messages, from `began`
    on.
    """

    settings: KafkaSettings
    starts: Starts
    durable: dict[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    fetched: dict[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    began: dict[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])

    def crowded(self, place: TopicPartition) -> bool:
        """Whether so many messages are fetched and not durable that no more are fetched."""
        durable = self.durable.get(place, self.began.get(place, 0))
        return self.fetched.get(place, 0) - durable > MOST_UNDER_WAY


class _Worker(_BaseWorker):
    """A thread that the end of the process does not wait for, nor the event loop for long."""

    def __init__(self, service: Any, **more: Any) -> None:
        _BaseWorker.__init__(self, service, **more)
        self.daemon = True

    def stop(self) -> None:
        self.is_stopped.wait(JOIN_SECONDS)


class _Thread(_BaseThread):
    """aiokafka's consumer in its own thread."""

    Worker = _Worker

    async def on_thread_stop(self) -> None:
        consumer, self._consumer = self._consumer, None
        await _BaseThread.on_thread_stop(self)
        if consumer is not None:
            # Without the broker it would go on trying to leave the group.
            stopping = asyncio.ensure_future(consumer.stop())
            await asyncio.wait([stopping], timeout=LEAVE_SECONDS)
            if not stopping.done():
                _LOG.warning("the consumer did not leave its group within %g s", LEAVE_SECONDS)

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        return aiokafka.AIOKafkaConsumer(
            **transport.books.settings.client(),
            client_id=conf.broker_client_id,
            group_id=conf.id,
            partition_assignment_strategy=[_RANGE],  # one process has the same partitions of all topics
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=CHUNK,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
        )

    async def commit_now(self, offsets: Mapping[TopicPartition, int]) -> None:
        consumer: aiokafka.AIOKafkaConsumer = self._ensure_consumer()
        await consumer.commit({aiokafka.TopicPartition(*place): at for place, at in offsets.items()})


class _Consumer(_BaseConsumer):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _BaseConsumer.__init__(self, *args, **kwargs)
        self._books: Bookkeeping = self.transport.books
        self._committed: dict[TopicPartition, int] = {}
        self._seeks = 0

    def _new_consumer_thread(self) -> Any:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[Any, int]:
        assigned = frozenset(TopicPartition(*tp) for tp in self.assignment())
        starts = await self._books.starts(assigned)
        if starts is None:
            committed: Mapping[Any, int | None] = await _BaseConsumer.seek_to_committed(self)
            starts = {TopicPartition(*tp): at or 0 for tp, at in committed.items()}
        else:
            await self.seek_wait({_tp(place): at for place, at in starts.items()})
        self._seeks += 1
        self._books.fetched, self._books.began = dict(starts), dict(starts)
        return {_tp(place): at for place, at in starts.items()}

    async def _getmany(self, active_partitions: Any, **more: Any) -> Mapping[Any, Sequence[Chunk]]:
        # When Faust itself holds all partitions back, it sleeps for a second.
        wanted = {tp for tp in active_partitions if not self._books.crowded(TopicPartition(*tp))}
        if not wanted:
            await asyncio.sleep(CROWDED_SECONDS)
            return {}
        if len(wanted) < len(active_partitions):
            # A long wait for messages of other partitions would delay those that are held back for a moment.
            more["timeout"] = CROWDED_SECONDS
        seeks = self._seeks
        found: Mapping[Any, Sequence[Raw]] = await _BaseConsumer._getmany(
            self, active_partitions=wanted, **more
        )
        chunks: dict[Any, Sequence[Chunk]] = {}
        for tp, records in found.items():
            if records:
                fetched, place = self._books.fetched, TopicPartition(*tp)
                chunks[tp] = (Chunk(fetched.get(place, 0), records),)
                fetched[place] = records[-1].offset + 1
        # Messages that were in flight during a seek may be from before it: the feed finds the gap.
        return chunks if seeks == self._seeks else {}

    def _to_message(self, tp: Any, record: Chunk) -> Any:
        message = _BaseConsumer._to_message(self, tp, record.records[-1])
        message.value = record
        return message

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commits the durable offsets of assigned partitions. A failure does no harm."""
        assigned = {TopicPartition(*tp) for tp in self.assignment()}
        new = {
            p: at for p, at in self._books.durable.items() if p in assigned and self._committed.get(p) != at
        }
        if not new:
            return False
        try:
            await self._thread.call_thread(self._thread.commit_now, new)
        except Exception as error:
            _LOG.warning("the group's offsets are not committed: %s", error)
            return False
        self._committed |= new
        return True


def _tp(place: TopicPartition) -> Any:
    return _DRIVER["TP"](*place)


class _Producer(_BaseProducer):
    def _new_producer(self, transactional_id: str | None = None) -> aiokafka.AIOKafkaProducer:
        return aiokafka.AIOKafkaProducer(**self.transport.books.settings.client())


class Transport(_BaseTransport):
    Consumer = _Consumer
    Producer = _Producer
    books: Bookkeeping


class Untouched(_BaseSchema):
    """Messages as they came; `streams.kafka.messages.wire` decodes them."""

    def compile(self, app: Any, **options: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, message.headers, message)

        return decode
