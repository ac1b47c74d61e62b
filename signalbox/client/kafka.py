"""Commands over Kafka: sent to the commands topic, answered on the outcomes topic."""

import asyncio
import logging
from collections import OrderedDict

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from schemas.canonical import digest
from schemas.envelope import Envelope
from schemas.identity import is_uuid
from schemas.outcome import Outcome
from signalbox.client.answers import REFUSALS, ClientError, answering
from signalbox.client.decoding import Decoding, Unreadable, cause
from signalbox.client.transport import Unreachable
from streams.kafka.binding import authorization
from streams.kafka.fetching import Fetching
from streams.kafka.producing import require_size, started_producer, stopped
from streams.kafka.settings import KafkaSettings
from streams.kafka.wire import AUTHORIZATION, encode
from streams.log import LogUnavailable
from streams.partitioner import partition_of

KEPT = 10_000
"""Commands whose outcomes are remembered."""

WAIT_MS = 500
RETRY_SECONDS = 0.5
SKEW_MS = 300_000
"""How far the clock that made an id may be ahead of the deciders'."""

NEAR = 1_000
"""Offsets that are read rather than searched."""

logger = logging.getLogger("signalbox.client")


class KafkaTransport:
    """Implements `signalbox.client.transport.Transport`.

    Outcomes are followed from where the topic ended at the start, so from before anything is sent. Those
    of commands that may have been decided earlier are looked for, from the time in their ids on.
    """

    def __init__(self, settings: KafkaSettings, token: str, organization: str, schemas: str) -> None:
        self._settings = settings
        self._token = token.strip()
        self._organization = organization
        self._decoding = Decoding(schemas)
        self._place = TopicPartition(settings.topic("outcomes"), 0)
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()
        self._fetching: Fetching | None = None
        self._following: asyncio.Task[None] | None = None
        self._searches: dict[str, asyncio.Task[None]] = {}
        self._awaited: OrderedDict[str, asyncio.Future[Outcome]] = OrderedDict()
        self._digests: dict[str, str] = {}

    async def start(self) -> None:
        topic = self._place.topic
        try:
            partitions = await (await self._connected()).partitions_for(topic)
            self._place = TopicPartition(topic, partition_of(self._organization, len(partitions)))
            self._fetching = await Fetching.open(self._settings, [topic])
            end = await self._fetching.end(self._place)
        except (KafkaError, OSError, LogUnavailable) as error:
            raise self._unreachable(error) from error
        self._following = asyncio.create_task(self._follow(self._fetching, end))

    async def close(self) -> None:
        running = list(self._searches.values())
        if self._following is not None:
            running.append(self._following)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for waiting in self._awaited.values():
            waiting.cancel()
        if self._fetching is not None:
            await self._fetching.close()
        if self._producer is not None:
            await stopped(self._producer)

    async def send(self, envelope: Envelope, seconds: float, *, again: bool) -> Outcome | None:
        """Returns as soon as the command is durable."""
        value, headers = encode(envelope)
        headers.append((AUTHORIZATION, authorization(self._token, envelope, value).encode()))
        key = envelope.partitionkey.encode()
        topic = self._settings.topic("commands")
        size = len(value) + len(key) + sum(len(name) + len(text) for name, text in headers)
        require_size(topic, size, self._settings.max_message)
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
                await stopped(producer)
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
                    self._producer = await started_producer(self._settings)
                except LogUnavailable as error:
                    raise self._unreachable(error) from error
            return self._producer

    async def _follow(self, fetching: Fetching, offset: int) -> None:
        """Takes every outcome from `offset` on."""
        while True:
            try:
                fetched = await fetching.fetch(self._place, offset, wait_ms=WAIT_MS)
            except LogUnavailable as error:
                logger.warning("outcomes are not heard: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if fetched.truncated:
                logger.error(
                    "%s/%d ends at offset %d and had been read up to %d: the broker lost outcomes; those "
                    "that are still waited for are searched for",
                    *(*self._place, fetched.stable, offset),
                )
                offset = fetched.stable
                for id in [id for id in self._awaited if not self._known(id)]:
                    self._search_for(id, sent=True)
                continue
            for message in fetched.messages:
                await self._take(message)
            offset = max(offset, fetched.following)

    def _search_for(self, id: str, *, sent: bool) -> None:
        if self._fetching is not None and id not in self._searches:
            task = asyncio.create_task(self._search(self._fetching, id, sent))
            self._searches[id] = task
            task.add_done_callback(lambda _: self._searches.pop(id, None))

    async def _search(self, fetching: Fetching, id: str, sent: bool) -> None:
        """Looks for an outcome among those there are; later ones are followed anyway.

        A refusal counts when the command was not `sent` again since.
        """
        refused: ConsumerRecord | None = None
        try:
            end = await fetching.end(self._place)
            offset = await self._since(fetching, _milliseconds(id) - SKEW_MS, end)
            while offset < end and not self._known(id):
                fetched = await fetching.fetch(self._place, offset)
                for message in fetched.messages:
                    if self._cause(message) == id:
                        refused = message if await self._take(message, refusals=False) else refused
                if fetched.following <= offset:
                    break
                offset = fetched.following
        except LogUnavailable as error:
            logger.warning("earlier outcomes are not looked through: %s", error)
        if refused is not None and not sent:
            await self._take(refused)

    async def _since(self, fetching: Fetching, time: int, end: int) -> int:
        """An offset before every message from `time` on (Unix milliseconds), and not far before."""
        low, high = await fetching.beginning(self._place), end
        while time > 0 and high - low > NEAR:
            middle = (low + high) // 2
            messages = (await fetching.fetch(self._place, middle)).messages
            if messages and messages[0].timestamp < time:
                low = middle
            else:
                high = middle
        return low

    def _cause(self, message: ConsumerRecord) -> str:
        """The id of our command that a message answers; others share the partition, and may use our ids."""
        return cause(message) if message.key == self._organization.encode() else ""

    def _known(self, id: str) -> bool:
        waiting = self._awaited.get(id)
        return waiting is None or waiting.done()

    async def _take(self, message: ConsumerRecord, *, refusals: bool = True) -> bool:
        """Wakes whoever waits for this outcome; true for a refusal that is not taken."""
        id = self._cause(message)
        if self._known(id):
            return False
        try:
            outcome = answering(await self._decoding.outcome(message), self._digests[id])
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
        if isinstance(error, LogUnavailable):
            return Unreachable(str(error))
        return Unreachable(
            f"Kafka at {self._settings.bootstrap} does not answer: {error or type(error).__name__}"
        )


def _milliseconds(id: str) -> int:
    """The Unix milliseconds in a UUIDv7; 0 for any other id."""
    return int(id[:8] + id[9:13], 16) if is_uuid(id) and id[14] == "7" else 0
