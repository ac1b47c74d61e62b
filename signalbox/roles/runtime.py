"""The dependencies that the roles of a process share: settings, the log, telemetry and readiness."""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Collection
from itertools import chain, repeat
from pathlib import Path
from typing import TypeVar

from signalbox.http.health import ReadinessGate
from signalbox.observability.change_log import ChangeLog, soon
from signalbox.observability.telemetry import Telemetry
from signalbox.service_group import ServiceGroup
from signalbox.settings import Settings, SettingsError
from streams.kafka.authority import open_authority
from streams.kafka.integrity import PROTECTED
from streams.kafka.integrity_key import IntegrityKeyError
from streams.kafka.keys import KeyFileError
from streams.kafka.log import KafkaLog
from streams.log import LogUnavailable

T = TypeVar("T")
SOURCE = "/signalbox"
BACK_OFF = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds between retries; the last one repeats."""

NOISY = ("aiokafka.consumer.fetcher", "aiokafka.consumer.group_coordinator")
"""They log every retry. Final errors are raised, and the roles log partition assignments."""

logger = logging.getLogger("signalbox.roles")


class Runtime:
    """Belongs to one event loop. `group` holds the services that all roles use; it stops last."""

    def __init__(self, settings: Settings, group: ServiceGroup, roles: Collection[str]) -> None:
        self.settings = settings
        self.roles = frozenset(roles)
        self.kafka = settings.kafka
        self.telemetry = Telemetry(otlp=settings.otlp)
        group.callback(self.telemetry.close)
        self.change_log = ChangeLog(self.telemetry.refused, soon())
        group.callback(self.change_log.flush)
        self.stopping = asyncio.Event()
        self.api_gate: ReadinessGate | None = None
        """Answers at the address of the HTTP API until role `api` is ready."""
        self.sample_deployed = False
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._group = group
        self._log: asyncio.Task[KafkaLog] | None = None
        self._waiting: dict[str, str] = {}
        self._troubles: list[Callable[[], str | None]] = []

    @property
    def directory(self) -> Path:
        """The data directory of this process; shared secrets are in `settings.secrets_directory`."""
        return self.settings.data

    async def log(self) -> KafkaLog:
        """The log of the process, once Kafka is reachable.

        Raises SettingsError, and streams.kafka.topics.TopicMismatch when a topic is misconfigured.
        """
        if self._log is None:
            self._log = asyncio.create_task(self._opened(), name="log")
            self._group.push_async_callback(_cancelled, self._log)
        return await asyncio.shield(self._log)

    async def retry(
        self,
        what: str,
        attempt: Callable[[], Awaitable[T]],
        *unavailable: type[Exception],
    ) -> T:
        """Retries `attempt` while it raises one of `unavailable`; the process is not ready meanwhile.

        `what` completes the sentence "waits for …".
        """
        logged = False
        try:
            for pause in chain(BACK_OFF, repeat(BACK_OFF[-1])):
                try:
                    return await attempt()
                except unavailable as error:
                    self._waiting[what] = f"waits for {what}: {first_line(error)}"
                    if not logged:
                        logger.warning(self._waiting[what])
                        logged = True
                        gc.enable()  # a start does without, and this one may take days
                await asyncio.sleep(pause)
        finally:
            self._waiting.pop(what, None)
        raise AssertionError("unreachable")

    def add_readiness_check(self, why: Callable[[], str | None]) -> None:
        """`why` answers why the process is not ready at the moment, or None."""
        self._troubles.append(why)

    def not_ready_reason(self) -> str | None:
        """Why this process is not ready."""
        for waiting in self._waiting.values():
            return waiting
        return next((reason for check in self._troubles if (reason := check())), None)

    async def _opened(self) -> KafkaLog:
        settings = self.settings
        # Only role `api` signs the commands of HTTP callers; the others need no private key.
        signing = settings.signing_key if "api" in self.roles else None
        try:
            authority = open_authority(signing, settings.trusted_keys, settings.token_key)
        except KeyFileError as error:
            raise SettingsError(str(error)) from error

        async def attempt() -> KafkaLog:
            try:
                return await KafkaLog.open(
                    self.kafka, self.directory, authority=authority, integrity_key=settings.integrity_key
                )
            except IntegrityKeyError as error:
                raise SettingsError(str(error)) from error

        where = f"Kafka at {self.kafka.bootstrap}"
        log = self._group.closed_at_stop(await self.retry(where, attempt, LogUnavailable))
        if (integrity := log.integrity) is not None:
            topics = [self.kafka.topic(name) for name in PROTECTED]
            refused = integrity.refused
            self.telemetry.gauge("forged_messages", lambda: {t: refused[t] for t in topics}, "topic")
        return log


async def _cancelled(task: asyncio.Task[KafkaLog]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
