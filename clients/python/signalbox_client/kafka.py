"""Commands over Kafka: sent to the commands topic, answered on the outcomes topic."""

import asyncio
import hashlib
import hmac
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import orjson
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from schemas.codecs.canonical import digest
from schemas.envelope import Envelope
from schemas.identity import is_uuid
from schemas.outcome import Outcome
from signalbox_client.answers import REFUSALS, ClientError, MessageTooLarge, answering
from signalbox_client.decoding import OutcomeDecoder, Unreadable, cause
from signalbox_client.kafka_settings import KafkaSettings
from signalbox_client.reading import PartitionReader, Reader
from signalbox_client.transport import Unreachable

KEPT = 10_000
"""The number of commands whose outcomes are cached."""

REQUEST_SECONDS = 10
STOP_SECONDS = 1.0
WAIT_SECONDS = 5.0
RETRY_SECONDS = 0.5
SEARCHES = 4
"""Searches for earlier outcomes at a time; each has a connection of its own."""

SKEW_MS = 300_000
"""The tolerated lead of the clock that made an id over the deciders'."""

logger = logging.getLogger("signalbox_client")


class KafkaTransport:
    """Implements `signalbox_client.transport.Transport`.

    Outcomes are followed from the end of the topic at the start, before anything is sent. Outcomes of
    commands that may have been decided earlier are searched for, from the time in their ids on.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        token: str,
        organization: str,
        schemas: str,
        *,
        reader: Callable[[KafkaSettings, TopicPartition], Awaitable[Reader]] = PartitionReader.open,
    ) -> None:
        self._settings = settings
        self._token = token.strip()
        self._organization = organization
        self._decoder = OutcomeDecoder(schemas)
        self._open_reader = reader
        self._place = TopicPartition(settings.topic("outcomes"), 0)
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()
        self._reader: Reader | None = None
        self._following: asyncio.Task[None] | None = None
        self._searching = asyncio.Semaphore(SEARCHES)
        self._searches: dict[str, asyncio.Task[None]] = {}
        self._awaited: OrderedDict[str, asyncio.Future[Outcome]] = OrderedDict()
        self._digests: dict[str, str] = {}

    async def start(self) -> None:
        topic = self._place.topic
        try:
            partitions = len(await (await self._connected()).partitions_for(topic))
            hashed = murmur2(self._organization.encode()) & 0x7FFFFFFF  # as Kafka's default partitioner
            self._place = TopicPartition(topic, hashed % partitions)
            self._reader = await self._open_reader(self._settings, self._place)
            end = await self._reader.end()
        except (KafkaError, OSError) as error:
            raise self._unreachable(error) from error
        self._following = asyncio.create_task(self._follow(self._reader, end))

    async def close(self) -> None:
        running = list(self._searches.values())
        if self._following is not None:
            running.append(self._following)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for waiting in self._awaited.values():
            waiting.cancel()
        if self._reader is not None:
            await self._reader.close()
        if self._producer is not None:
            await _stop(self._producer)

    async def send(self, envelope: Envelope, seconds: float, *, again: bool) -> Outcome | None:
        """Returns as soon as the command is durable."""
        value, headers = _message(envelope, self._token)
        key = envelope.partitionkey.encode()
        topic = self._settings.topic("commands")
        size = len(value) + len(key) + sum(len(name) + len(text) for name, text in headers)
        if size > self._settings.max_message:
            raise MessageTooLarge(
                f"A message of {size:,} bytes is too large for the topic {topic}, "
                f"which takes {self._settings.max_message:,}."
            )
        self._expect(envelope.id, digest(envelope.data))
        if again:
            self._search_for(envelope.id, sent=True)
        producer = await self._connected()
        try:
            await producer.send_and_wait(topic, value, key, self._place.partition, headers=headers)
        except (KafkaError, OSError) as error:
            # Some errors leave a producer that sends nothing more: the next attempt has a new one.
            if self._producer is producer:
                self._producer = None
                await _stop(producer)
            raise self._unreachable(error) from error
        return None

    async def answer(self, id: str, seconds: float) -> Outcome | None:
        waiting = self._awaited.get(id)
        if waiting is None:
            waiting = self._expect(id, "")
            self._search_for(id, sent=False)
        await asyncio.wait([waiting], timeout=seconds)
        return waiting.result() if waiting.done() else None

    def _expect(self, id: str, digest_: str) -> "asyncio.Future[Outcome]":
        """The outcome of a command, once it is known."""
        self._digests[id] = digest_
        if id not in self._awaited:
            self._awaited[id] = asyncio.get_running_loop().create_future()
            if len(self._awaited) > KEPT:
                oldest, forgotten = self._awaited.popitem(last=False)
                self._digests.pop(oldest, None)
                forgotten.cancel()
        return self._awaited[id]

    async def _connected(self) -> AIOKafkaProducer:
        """Raises Unreachable."""
        async with self._connecting:
            if self._producer is None:
                try:
                    self._producer = await _started(self._settings)
                except (KafkaError, OSError) as error:
                    raise self._unreachable(error) from error
            return self._producer

    async def _follow(self, reader: Reader, offset: int) -> None:
        """Receives every outcome from `offset` on."""
        while True:
            try:
                fetched = await reader.fetch(offset, WAIT_SECONDS)
            except (KafkaError, OSError) as error:
                logger.warning("outcomes cannot be read: %s", error or type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if fetched.truncated:
                logger.error(
                    "%s/%d ends at offset %d and had been read up to %d: the broker lost outcomes; those "
                    "that are still awaited are searched for",
                    *(*self._place, fetched.following, offset),
                )
                for id in [id for id in self._awaited if not self._known(id)]:
                    self._search_for(id, sent=True)
            for message in fetched.messages:
                await self._take(message)
            offset = fetched.following

    def _search_for(self, id: str, *, sent: bool) -> None:
        if id not in self._searches:
            task = asyncio.create_task(self._search(id, sent))
            self._searches[id] = task
            task.add_done_callback(lambda _: self._searches.pop(id, None))

    async def _search(self, id: str, sent: bool) -> None:
        """Searches for an outcome among those that were written before; `_follow` receives later ones.

        A refusal counts unless the command was `sent` again since.
        """
        refused: ConsumerRecord | None = None
        try:
            async with self._searching:
                reader = await self._open_reader(self._settings, self._place)
                try:
                    end = await reader.end()
                    offset = await reader.since(_milliseconds(id) - SKEW_MS)
                    while offset < end and not self._known(id):
                        fetched = await reader.fetch(offset, WAIT_SECONDS)
                        for message in fetched.messages:
                            if self._cause(message) == id:
                                refused = message if await self._take(message, refusals=False) else refused
                        if fetched.following <= offset:
                            break
                        offset = fetched.following
                finally:
                    await reader.close()
        except (KafkaError, OSError) as error:
            logger.warning("earlier outcomes cannot be searched: %s", error or type(error).__name__)
        if refused is not None and not sent:
            await self._take(refused)

    def _cause(self, message: ConsumerRecord) -> str:
        """The id of our command that a message answers; others share the partition, and may use our ids."""
        return cause(message) if message.key == self._organization.encode() else ""

    def _known(self, id: str) -> bool:
        waiting = self._awaited.get(id)
        return waiting is None or waiting.done()

    async def _take(self, message: ConsumerRecord, *, refusals: bool = True) -> bool:
        """Resolves the future of this outcome; true for a refusal that is not taken."""
        id = self._cause(message)
        if self._known(id):
            return False
        try:
            outcome = answering(await self._decoder.outcome(message), self._digests[id])
        except Unreadable as error:
            if not self._known(id):
                self._awaited[id].set_exception(ClientError(id, f"the command {id} was decided; {error}"))
            return False
        if outcome is not None and outcome.rule in REFUSALS and not refusals:
            return True
        if outcome is not None and not self._known(id):
            self._awaited[id].set_result(outcome)
        return False

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"Kafka at {self._settings.bootstrap} does not answer: {error or type(error).__name__}"
        )


def _message(envelope: Envelope, token: str) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Value and headers of a command in binary mode, as JSON."""
    value = orjson.dumps(envelope.data)
    attributes = {**envelope.attributes(), "authorization": _authorization(token, envelope, value)}
    content_type = attributes.pop("datacontenttype")
    headers = [(f"ce_{name}", text.encode()) for name, text in attributes.items()]
    return value, [*headers, ("content-type", content_type.encode())]


def _authorization(token: str, envelope: Envelope, value: bytes) -> str:
    """`JWT~PROOF` for `JWT~SECRET`: valid for this command only. A token without secret stays as it is."""
    jwt, separator, secret = token.partition("~")
    if not separator:
        return token
    lines = ("signalbox-command-v1", envelope.partitionkey, envelope.id, envelope.type, envelope.subject)
    text = "\n".join((*lines, hashlib.sha256(value).hexdigest()))
    return f"{jwt}~{hmac.digest(secret.encode(), text.encode(), 'sha256').hex()}"


async def _started(settings: KafkaSettings) -> AIOKafkaProducer:
    """Raises KafkaError, OSError."""
    producer = AIOKafkaProducer(
        **settings.client(),
        acks="all",
        enable_idempotence=True,
        request_timeout_ms=REQUEST_SECONDS * 1000,
        # A batch larger than the topic accepts would fail all of its messages.
        max_batch_size=settings.max_message,
        max_request_size=8 * settings.max_message,
    )
    try:
        await producer.start()
    except BaseException:
        await _stop(producer)
        raise
    return producer


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stops a producer; one that takes longer than STOP_SECONDS ends in the background."""
    stopping = asyncio.create_task(producer.stop())
    _stopping.add(stopping)
    stopping.add_done_callback(_stopped)
    await asyncio.wait([stopping], timeout=STOP_SECONDS)


_stopping: set[asyncio.Task[None]] = set()


def _stopped(stopping: asyncio.Task[None]) -> None:
    _stopping.discard(stopping)
    if not stopping.cancelled() and (error := stopping.exception()) is not None:
        logger.debug("a producer did not stop cleanly: %r", error)


def _milliseconds(id: str) -> int:
    """The Unix milliseconds in a UUIDv7; 0 for any other id."""
    return int(id[:8] + id[9:13], 16) if is_uuid(id) and id[14] == "7" else 0
