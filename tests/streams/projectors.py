"""Projectors that a host feeds, as several processes run them on one database."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, MetaData, String, Table, insert, select

from projections.readmodel import ReadModel, Recorded
from projections.store import Store, live, open_store
from streams.log import Log
from streams.projection import ProjectionRunner


class Tally:
    """A read model of one row per record: a record that is taken in twice fails, and is seen as parked."""

    name = "tally"
    topic = "events"

    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.broken: set[str] = set()

    def table(self, prefix: str) -> Table:
        return Table(
            f"{prefix}_rows",
            MetaData(),
            Column("partition", Integer, primary_key=True),
            Column("position", BigInteger, primary_key=True),
            Column("name", String, nullable=False),
        )

    def metadata(self, prefix: str) -> MetaData:
        return self.table(prefix).metadata

    def indexes(self, prefix: str) -> Sequence[Index]:
        return []

    def project(self, connection: Connection, prefix: str, records: Sequence[Recorded]) -> None:
        rows: list[dict[str, object]] = []
        for r in records:
            name = r.envelope.data["name"]
            if name in self.broken:
                raise ArithmeticError(f"cannot count {name}")
            rows.append({"partition": r.partition, "position": r.position, "name": name})
        connection.execute(insert(self.table(prefix)), rows)


def tallied(store: Store) -> list[tuple[int, int]]:
    """Partition and position of what the live tally has, in the order of positions."""
    with store.reader.begin() as connection:
        table = Tally().table(live(connection)["tally"].prefix)
        rows = connection.execute(select(table.c.partition, table.c.position).order_by(*table.primary_key))
        return [(r.partition, r.position) for r in rows]


@contextlib.asynccontextmanager
async def projector(
    log: Log, url: str, models: Sequence[ReadModel] | None = None
) -> AsyncIterator[ProjectionRunner]:
    """One with a store of its own."""
    store = open_store(url)
    runner = ProjectionRunner(log, store, models or [Tally()], batch=7)
    hosting = asyncio.create_task(runner.host())
    try:
        yield runner
    finally:
        hosting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await hosting
        store.close()


async def follow(runner: ProjectionRunner, log: Log, partition: int, batch: int = 5) -> None:
    """Feeds a partition from where the read models are, until cancelled."""
    at = await runner.assigned("events", partition)
    while True:
        await log.wait("events", partition, at)
        records = await log.read("events", partition, at, batch)
        await runner.take("events", partition, records)
        at = records[-1].position
