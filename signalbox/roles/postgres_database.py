"""Read models and documents in PostgreSQL, which projectors write for all processes."""

import asyncio
import importlib
from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from projections.queries import ReadModels
from projections.store import Store
from signalbox.roles.database import Checkpoints
from signalbox.roles.runtime import Runtime
from signalbox.service_group import ServiceGroup
from streams.kafka.log import KafkaLog
from streams.log import LogUnavailable
from streams.postgres.documents import PostgresDocuments
from streams.projection import ProjectionRunner
from streams.projection.checkpoints import CheckpointWaiter
from streams.projection.listener import ProjectionListener
from streams.projection.opening import open_store_of

POSTGRES = "PostgreSQL (SIGNALBOX_POSTGRES)"


class PostgresDatabase:
    def __init__(self, runtime: Runtime, log: KafkaLog) -> None:
        self._runtime = runtime
        self._log = log

    async def store(self, group: ServiceGroup) -> Store:
        url = self._runtime.settings.postgres
        store = await self._runtime.retry(
            POSTGRES, lambda: open_store_of(self._log, url), DBAPIError, LogUnavailable
        )
        group.callback(store.close)
        return store

    async def host(
        self, runner: ProjectionRunner, listeners: Sequence[ProjectionListener], group: ServiceGroup
    ) -> None:
        await asyncio.to_thread(importlib.import_module, "streams.faust.host")
        from streams.faust.host import FaustHost

        host = FaustHost(self._runtime.kafka, self._log, runner, listeners, self._log.integrity)
        self._runtime.add_readiness_check(lambda: host.trouble or None)
        group.run("projections", runner.host())
        group.run("Faust", host.run())
        await group.wait(host.joined.wait())

    async def read_models(self, group: ServiceGroup) -> tuple[ReadModels, Checkpoints]:
        store = await self.store(group)
        waiter = CheckpointWaiter(self._log, store)
        read_models = ReadModels(store, partition_of=self._log.partition_of, behind=waiter.behind)
        group.callback(read_models.close)
        group.run("positions of read models", waiter.run())
        self._runtime.add_readiness_check(lambda: waiter.trouble or None)
        return read_models, waiter

    async def documents(self, group: ServiceGroup) -> PostgresDocuments:
        url = self._runtime.settings.postgres
        opened = await self._runtime.retry(POSTGRES, lambda: PostgresDocuments.open(url), LogUnavailable)
        return group.closed_at_stop(opened)
