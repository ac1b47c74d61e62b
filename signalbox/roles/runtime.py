"""The port to the engine: the services that the roles of a process share, and notifications between roles.

`KafkaRuntime` and `EmbeddedRuntime` implement it; roles are the same on both.
"""

import asyncio
import gc
import logging
import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from schemas.outcome import Outcome
from schemas.status import Status
from signalbox.data_directory.tokens import kept_secret
from signalbox.discovery.delivery import NodeListener
from signalbox.service_group import ServiceGroup
from signalbox.settings import Settings
from streams.compute_process import ComputeProcess
from streams.config_topic import ConfigTopic
from streams.gateway_sync.config_view import ConfigView
from streams.gateway_sync.sync import GatewaySync
from streams.kafka.settings import KafkaSettings
from streams.log import Log
from streams.partition_workers import PartitionWorkers
from streams.retry import Retry
from streams.status_reporter import StatusReporter
from streams.submission.command_port import CommandPort
from streams.subscription import Source

if TYPE_CHECKING:  # loading these takes longer than serving proxies
    from signalbox.observability.change_log import ChangeLog
    from signalbox.observability.telemetry import Telemetry
    from signalbox.roles.database import Database

T = TypeVar("T")
SOURCE = "/signalbox"

Reported = Callable[[Sequence[Status]], None]
Task = Callable[[], Coroutine[Any, Any, None]]
"""Runs until cancelled."""
Check = Callable[[], str | None]
"""The reason why the process is not ready at the moment, or None."""

logger = logging.getLogger("signalbox.roles")


class Shared(Generic[T]):
    """Opened at its first use, once for all roles of the process."""

    def __init__(self, group: ServiceGroup, name: str, open: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._group = group
        self._name = name
        self._open = open
        self._opening: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name=self._name)
            self._group.push_async_callback(_cancelled, self._opening)
        return await asyncio.shield(self._opening)


class Runtime(ABC):
    """Belongs to one event loop. `group` holds the services that all roles use; it stops last."""

    in_process: ClassVar[bool]
    """Whether all roles run in this process, so that they are notified directly, not by the log."""
    kafka: KafkaSettings

    def __init__(self, settings: Settings, group: ServiceGroup, roles: Collection[str]) -> None:
        self.settings = settings
        self.roles = frozenset(roles)
        self.stopping = group.stopping
        self.sample_deployed = False
        self.sample_listener: socket.socket | None = None
        """Where the service behind the sample API listens, once `up` deploys it."""
        self.waits = asyncio.Event()
        """Set once a service was not available: from then on no role waits for another one's start."""
        self._group = group
        self._waiting: dict[object, Check] = {}
        self._checks: list[Check] = []
        self._reporter: StatusReporter | None = None

    # -- the engine

    @abstractmethod
    async def open(self) -> None:
        """Opens the data directory. Raises DirectoryInUse, LogDamaged, LogUnavailable, OSError."""

    @abstractmethod
    async def log(self) -> Log:
        """The log of the process, once it is reachable.

        Raises SettingsError, and streams.kafka.topics.TopicMismatch when a topic is misconfigured.
        """

    def command_source(self) -> Source | None:
        """Where deciders read commands, if not from the log."""
        return None

    @abstractmethod
    async def config(self, group: ServiceGroup) -> ConfigTopic:
        """The config topic, closed with `group` where it is not shared."""

    @abstractmethod
    async def database(self) -> "Database":
        """The read models and the documents."""

    @abstractmethod
    async def gateway_token(self, *, needed: bool) -> str:
        """The token of the nodes that run here; `needed` where a node is started with it.

        Raises SettingsError, OSError.
        """

    @abstractmethod
    async def run_partitions(
        self, role: str, topic: str, work: PartitionWorkers, group: ServiceGroup
    ) -> None:
        """Works on the partitions of `topic` that the role's consumer group assigns to this process; returns
        once it has begun."""

    @abstractmethod
    async def others_started(self) -> None:
        """Returns when work of low priority no longer delays the start of the process."""

    @abstractmethod
    async def all_started(self) -> None:
        """All roles of the process have started."""

    # -- notifications

    @abstractmethod
    def decided(self, outcomes: Sequence[Outcome]) -> None:
        """Notifies this process of outcomes that are not read from the log."""

    @abstractmethod
    async def command_port(self, group: ServiceGroup) -> CommandPort:
        """Appends commands to the log, and is notified of their outcomes until `group` stops."""

    @abstractmethod
    async def follow_reports(
        self, reported: Reported, group: ServiceGroup, *, after: tuple[int, int] | None = None
    ) -> None:
        """Calls `reported` with all status messages from now on; or with those `after` a partition's
        position."""

    @abstractmethod
    async def node_listener(self, gateways: Iterable[str]) -> NodeListener | None:
        """Waits until answers of nodes can be processed. Returns the role in this process to notify of them,
        None if it reads them on the status topic. `gateways` are the subjects of all that have nodes."""

    @abstractmethod
    def answers(self, log: Log, sync: GatewaySync, view: ConfigView, end: int) -> Task:
        """The task that handles the answers of nodes for a gateway sync; `end` is where the status topic
        ended before the configuration was loaded."""

    def report(self, messages: Sequence[Status]) -> None:
        """Appends these to the status topic, soon. Only after `log` has returned."""
        assert self._reporter is not None
        self.change_log.reported(messages)
        self._reporter.report(messages)

    async def reported(self) -> None:
        """Returns once all that was reported before is on the log. Raises LogUnavailable."""
        assert self._reporter is not None
        await self._reporter.durable()

    # -- common to all processes

    @property
    def probe_key(self) -> str:
        return kept_secret(self.settings.probe_key, "")

    @cached_property
    def compute(self) -> ComputeProcess:
        return self._group.closed_at_stop(ComputeProcess())

    @cached_property
    def telemetry(self) -> "Telemetry":
        from signalbox.observability.telemetry import Telemetry

        telemetry = Telemetry(otlp=self.settings.otlp)
        self._group.callback(telemetry.close)
        return telemetry

    @cached_property
    def change_log(self) -> "ChangeLog":
        from signalbox.observability.change_log import ChangeLog, soon

        change_log = ChangeLog(self.telemetry.refused, soon())
        self._group.callback(change_log.flush)
        return change_log

    async def retry(
        self,
        what: str,
        attempt: Callable[[], Awaitable[T]],
        *unavailable: type[Exception],
    ) -> T:
        """Retries `attempt` while it raises one of `unavailable`; the process is not ready meanwhile.

        `what` completes the sentence "waits for …".
        """
        waits = f"waits for {what}"

        def retryable(error: Exception) -> bool:
            if isinstance(error, unavailable):
                self.waits.set()
            return isinstance(error, unavailable)

        async def again() -> T:
            gc.enable()  # it is disabled during a start, and this one may take days
            return await attempt()

        retry = Retry(waits, logger, retryable=retryable, describe=first_line)
        waiting = self._wait(lambda: f"{waits}: {retry.trouble}" if retry.trouble else None)
        try:
            return await retry(attempt, again)
        finally:
            waiting()

    async def wait_for(self, what: str, waiting: Awaitable[T]) -> T:
        """Awaits what another role does; the process is not ready meanwhile. `what` as for `retry`."""
        ended = self._wait(lambda: f"waits for {what}")
        try:
            return await waiting
        finally:
            ended()

    def add_readiness_check(self, why: Check) -> None:
        self._checks.append(why)

    def not_ready_reason(self) -> str | None:
        """The reason why this process is not ready, or None."""
        checks = (*self._waiting.values(), *self._checks)
        return next((reason for check in checks if (reason := check())), None)

    def _wait(self, why: Check) -> Callable[[], None]:
        """Adds `why` before all other checks; the returned function removes it."""
        key = object()
        self._waiting[key] = why
        return lambda: self._waiting.pop(key, None) and None

    def _open_reporter(self, log: Log) -> None:
        self._reporter = self._group.closed_at_stop(StatusReporter(log, SOURCE))
        self._group.run("status", self._reporter.run())


async def _cancelled(task: asyncio.Task[Any]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
