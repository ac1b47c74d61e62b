"""The embedded engine: everything is in the data directory, all roles run in this process, and the one
partition is always assigned."""

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from schemas.outcome import Outcome
from schemas.status import Status
from signalbox.data_directory.open_directory import DataDirectory
from signalbox.data_directory.tokens import gateway_token
from signalbox.first_start.default_resources import LOCAL_GATEWAY
from signalbox.roles.runtime import Reported, Runtime, Shared, Task
from signalbox.service_group import ServiceGroup
from signalbox.settings import NO_KAFKA, Settings
from streams.gateway_sync.config_view import ConfigView
from streams.gateway_sync.sync import CREDENTIALS, GatewaySync
from streams.log import Log
from streams.partition_workers import PartitionWorkers
from streams.sqlite.checks.ahead_of_log import CONFIG, READ_MODELS, require_reached
from streams.sqlite.config import SqliteConfigTopic
from streams.sqlite.log import SqliteLog
from streams.submission.command_port import CommandPort
from streams.subscription import Source
from streams.threads import in_thread

if TYPE_CHECKING:
    from signalbox.observability.telemetry import Telemetry
    from signalbox.roles.embedded_database import EmbeddedDatabase

T = TypeVar("T")
PARTITION = 0


class EmbeddedRuntime(Runtime):
    in_process = True
    kafka = NO_KAFKA

    def __init__(self, settings: Settings, group: ServiceGroup, roles: Collection[str]) -> None:
        super().__init__(settings, group, roles)
        self._database = Shared(group, "read models", self._open_database)
        self._decided: list[Callable[[Iterable[Outcome]], None]] = []
        self._reported: list[Reported] = []
        self._sync: asyncio.Future[GatewaySync] = asyncio.get_running_loop().create_future()
        self._history_read = asyncio.Event()
        """The earlier reports are read by the role that needs them."""
        self._started = asyncio.Event()

    async def open(self) -> None:
        data, group = self.settings.data, self._group
        self._directory = group.closed_at_stop(await DataDirectory.open(data))
        self._log = group.closed_at_stop(await SqliteLog.open(data, lock=self._directory.lock))
        await in_thread(require_reached, data, await self._log.identity(), self._log.ends())
        cleanly_closed = CONFIG in self._directory.cleanly_closed
        self._config = group.closed_at_stop(await SqliteConfigTopic.open(data, cleanly_closed=cleanly_closed))
        self._refuses("log", self._log)
        self._refuses("configuration", self._config)
        self._open_reporter(self._log)
        await self._config.read_ahead()
        if "envoy" not in self.roles:
            self._history_read.set()

    async def log(self) -> SqliteLog:
        return self._log

    def command_source(self) -> Source:
        return self._log.command_source

    async def config(self, group: ServiceGroup) -> SqliteConfigTopic:
        return self._config

    async def database(self) -> "EmbeddedDatabase":
        return await self._database()

    async def gateway_token(self, *, needed: bool) -> str:
        async for entries in self._config.load(LOCAL_GATEWAY):
            for entry in entries:
                if entry.type == CREDENTIALS and entry.body:
                    return gateway_token(self.settings.gateway_token, entry.body.decode(), needed=needed)
        return gateway_token(self.settings.gateway_token, None, needed=needed)

    async def run_partitions(
        self, role: str, topic: str, work: PartitionWorkers, group: ServiceGroup
    ) -> None:
        working = await work.begin(PARTITION)
        group.push_async_callback(work.revoked, PARTITION)
        group.run(role, _end_of(working))

    async def others_started(self) -> None:
        await self._started.wait()

    async def all_started(self) -> None:
        self._config.forget()
        self._directory.sound = lambda: not self._group.failed.done()
        self._started.set()

    def decided(self, outcomes: Sequence[Outcome]) -> None:
        for notify in self._decided:
            notify(outcomes)

    async def command_port(self, group: ServiceGroup) -> CommandPort:
        commands = CommandPort(self._log)
        self._decided.append(commands.decided)
        return commands

    async def follow_reports(
        self, reported: Reported, group: ServiceGroup, *, after: tuple[int, int] | None = None
    ) -> None:
        self._reported.append(reported)
        if after is not None:
            self._history_read.set()

    async def node_listener(self, gateways: Iterable[str]) -> GatewaySync:
        database = await self._database()
        self.report(await database.left_nodes(list(gateways)))
        await self._history_read.wait()
        return await asyncio.shield(self._sync)

    def answers(self, log: Log, sync: GatewaySync, view: ConfigView, end: int) -> Task:
        self._sync.set_result(sync)
        return sync.run_responses

    def report(self, messages: Sequence[Status]) -> None:
        for notify in self._reported:
            notify(messages)
        super().report(messages)

    async def retry(self, what: str, attempt: Callable[[], Awaitable[T]], *unavailable: type[Exception]) -> T:
        """There is no service to wait for: every error except a time-out ends the start."""
        return await super().retry(what, attempt, *(kind for kind in unavailable if kind is TimeoutError))

    @cached_property
    def telemetry(self) -> "Telemetry":
        telemetry = super().telemetry
        self._log.measure(telemetry.append.record)
        return telemetry

    async def _open_database(self) -> "EmbeddedDatabase":
        # Loading this takes longer than serving proxies, which are served meanwhile.
        await asyncio.to_thread(importlib.import_module, "signalbox.roles.embedded_database")
        from signalbox.roles.embedded_database import EmbeddedDatabase, open_read_models
        from streams.projection.opening import open_store_of
        from streams.sqlite.documents import SqliteDocuments

        documents = self._group.closed_at_stop(await SqliteDocuments.open(self.settings.data))
        self._refuses("documents", documents)
        store = await open_store_of(self._log, self.settings.data / READ_MODELS, open_read_models)
        self._group.callback(store.close)
        return EmbeddedDatabase(self._log, store, documents)

    def _refuses(self, name: str, file: Any) -> None:
        self.add_readiness_check(
            lambda: f"the {name} refuses writes: {file.refusing}" if file.refusing else None
        )


async def _end_of(task: asyncio.Task[None]) -> None:
    """Returns when the task ends; the task continues when this is cancelled. Raises its error."""
    await asyncio.shield(task)
