"""Faust hosts on a real Kafka and a real PostgreSQL, for tests."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, MetaData, String, Table, insert, select

from projections.queries import ReadModels
from projections.readmodel import ReadModel, Recorded
from projections.store import Store, live, open_store
from schemas.aggregates.project import ProjectDefined
from schemas.catalog import BY_NAME
from schemas.envelope import Envelope
from schemas.identity import timestamp, uuid7
from schemas.message import Message
from streams.faust.host import FaustHost
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Append, Topic, Transaction
from streams.projection import ProjectionRunner
from streams.projection.listener import ProjectionListener
from tests.support.hang_guard import HANG_SECONDS


def envelope(message: Message, subject: str = "") -> Envelope:
    owner = BY_NAME.get(message.aggregate)
    return Envelope(
        id=uuid7(),
        type=message.type(),
        source="/test",
        subject=subject or (owner.subject(message.organization, message.name) if owner else message.name),
        time=getattr(message, "at", timestamp()),
        partitionkey=message.organization,
        data=message.data(),
    )


def projects(count: int, organization: str = "acme") -> list[Envelope]:
    return [
        envelope(ProjectDefined(organization=organization, name=f"p{i}", display_name=""))
        for i in range(count)
    ]


async def until(true: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Waits, bounded, for a condition without a notification."""
    async with asyncio.timeout(HANG_SECONDS):
        while True:
            answer = true()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.02)


class Tally:
    """A read model of one row per record: a record that is projected twice cannot be."""

    name = "tally"
    version = 1

    def __init__(self, topic: Topic = "events") -> None:
        self.topic = topic

    def table(self, prefix: str) -> Table:
        return Table(
            f"{prefix}_rows",
            MetaData(),
            Column("partition", Integer, primary_key=True),
            Column("position", BigInteger, primary_key=True),
            Column("id", String, nullable=False, unique=True),
        )

    def metadata(self, prefix: str) -> MetaData:
        return self.table(prefix).metadata

    def indexes(self, prefix: str) -> Sequence[Index]:
        return []

    def project(self, connection: Connection, prefix: str, records: Sequence[Recorded]) -> None:
        rows = [{"partition": r.partition, "position": r.position, "id": r.envelope.id} for r in records]
        connection.execute(insert(self.table(prefix)), rows)


@dataclass
class Harness:
    """`hosts` share topics and database; each has its own connections, as processes do."""

    settings: KafkaSettings
    url: str
    directory: Path
    models: Sequence[ReadModel]
    parts: AsyncExitStack
    log: KafkaLog = field(init=False)
    store: Store = field(init=False)
    read_models: ReadModels = field(init=False)

    async def open(self) -> None:
        self.log = await KafkaLog.open(self.settings, self.directory / "log")
        self.parts.push_async_callback(self.log.close)
        self.store = open_store(self.url)
        self.parts.callback(self.store.close)
        self.read_models = ReadModels(self.store, partition_of=self.log.partition_of)
        self.parts.callback(self.read_models.close)

    async def host(self, *followers: ProjectionListener) -> "Running":
        store = open_store(self.url)
        self.parts.callback(store.close)
        runner = ProjectionRunner(self.log, store, self.models)
        host = FaustHost(self.settings, self.log, runner, followers)
        running = Running(host, runner, [asyncio.create_task(host.run()), asyncio.create_task(runner.host())])
        self.parts.push_async_callback(running.stop)
        async with asyncio.timeout(HANG_SECONDS):
            await host.joined.wait()
        return running

    async def append(self, topic: Topic, *envelopes: Envelope) -> list[int]:
        """Events go in by a transaction of the partition's writer, as the decider's do."""
        if topic not in ("events", "outcomes"):
            return await self.log.append(topic, envelopes)
        partition = self.log.partition_of(envelopes[0].partitionkey)
        ((positions),) = await self.log.commit(Transaction([Append(topic, partition, envelopes)]))
        return positions

    async def tally(self) -> list[str]:
        """The ids that were counted."""
        return await self.read_models.ask(
            lambda s: [
                id for (id,) in s.connection.execute(select(Tally().table(s.prefix("tally")).c.id)).all()
            ]
        )

    def prefix(self, read_model: str) -> str:
        with self.store.reader.begin() as connection:
            return live(connection)[read_model].prefix


@dataclass
class Running:
    host: FaustHost
    runner: ProjectionRunner
    tasks: "list[asyncio.Task[None]]"

    async def stop(self) -> None:
        """The host first, as long as the runner writes what it is given."""
        for task in self.tasks:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def partitions(self, topic: str) -> set[int]:
        return {place.partition for place in self.host.assigned if place.topic.endswith(topic)}
