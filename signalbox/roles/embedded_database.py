"""Read models and documents in files of the data directory, written and queried by this process alone."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.exc import DatabaseError

from projections.failures import error_summary, unavailable
from projections.queries import ReadModels
from projections.source_log import SourceLog
from projections.store import Store, open_store
from schemas.identity import timestamp
from schemas.status import NodeReported, Status
from signalbox.roles.database import Checkpoints
from signalbox.service_group import ServiceGroup
from streams.log import Log
from streams.projection import ProjectionRunner
from streams.projection.listener import ProjectionListener
from streams.sqlite.checks.set_aside import computed_fault, set_aside
from streams.sqlite.documents import SqliteDocuments


def open_read_models(path: Path, log: SourceLog) -> Store:
    """The read models' file in a directory that is locked; a damaged one is set aside and computed again.

    Blocks. Raises OtherLog, Unidentified, LogUnavailable, sqlalchemy.exc.OperationalError.
    """
    fault = computed_fault(path)
    if fault is not None:
        set_aside(path, fault)
    try:
        return open_store(path, log)
    except DatabaseError as error:
        if unavailable(error):
            raise
        set_aside(path, error_summary(error))
        return open_store(path, log)


class EmbeddedDatabase:
    """`store` and `documents` are open; the process closes them."""

    def __init__(self, log: Log, store: Store, documents: SqliteDocuments) -> None:
        self._log = log
        self._store = store
        self._documents = documents
        self._runner: asyncio.Future[ProjectionRunner] = asyncio.get_running_loop().create_future()

    async def store(self, group: ServiceGroup) -> Store:
        return self._store

    async def host(
        self, runner: ProjectionRunner, listeners: Sequence[ProjectionListener], group: ServiceGroup
    ) -> None:
        self._runner.set_result(runner)
        group.run("projections", runner.run(listeners))
        await group.wait(runner.ready.wait())

    async def read_models(self, group: ServiceGroup) -> tuple[ReadModels, Checkpoints]:
        runner = await asyncio.shield(self._runner)
        read_models = ReadModels(self._store, partition_of=self._log.partition_of, progress=runner)
        group.callback(read_models.close)
        return read_models, runner

    async def documents(self, group: ServiceGroup) -> SqliteDocuments:
        return self._documents

    async def left_nodes(self, gateways: Sequence[str]) -> list[Status]:
        """Reports that the nodes which were connected when the last process ended are disconnected.

        Waits until the read models hold all earlier reports: they may lag behind the log.
        """
        runner = await asyncio.shield(self._runner)
        await runner.ready.wait()
        read_models = ReadModels(self._store, partition_of=self._log.partition_of)
        try:
            return [report for gateway in gateways for report in await _left(read_models, gateway)]
        finally:
            read_models.close()


async def _left(read_models: ReadModels, gateway: str) -> list[Status]:
    _, organization, _, name = gateway.split("/")
    return [
        NodeReported(
            organization=organization,
            name=name,
            at=timestamp(),
            node=node["node"],
            connected=False,
            connection=node.get("connection", ""),
        )
        for node in await read_models.nodes(organization, name)
        if node["connected"]
    ]
