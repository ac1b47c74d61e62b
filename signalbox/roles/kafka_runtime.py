"""The engine Kafka: log and config topic are on Kafka, and consumer groups assign the partitions."""

import asyncio
import importlib
import logging
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from schemas.outcome import Outcome
from signalbox.data_directory.tokens import shared_gateway_token
from signalbox.roles.runtime import Reported, Runtime, Shared, Task
from signalbox.service_group import ServiceGroup
from signalbox.settings import Settings, SettingsError
from streams.gateway_sync.config_view import ConfigView
from streams.gateway_sync.gateway_status import GatewayStatusConsumer
from streams.gateway_sync.sync import GatewaySync
from streams.kafka.config import KafkaConfigTopic
from streams.kafka.log import KafkaLog
from streams.kafka.membership import Membership
from streams.kafka.security.authority import open_authority
from streams.kafka.security.integrity import PROTECTED
from streams.kafka.security.integrity_key import IntegrityKeyError
from streams.kafka.security.keys import KeyFileError
from streams.log import Log, LogUnavailable, Record
from streams.partition_workers import PartitionWorkers
from streams.sqlite.lock import DirectoryLock
from streams.status_messages import status_of
from streams.submission.command_port import CommandPort
from streams.submission.outcome_subscription import open_command_port
from streams.subscription import Subscription

if TYPE_CHECKING:
    from signalbox.roles.postgres_database import PostgresDatabase

NOISY = ("aiokafka.consumer.fetcher", "aiokafka.consumer.group_coordinator")
"""They log every retry. Final errors are raised, and the roles log partition assignments."""


class KafkaRuntime(Runtime):
    in_process = False

    def __init__(self, settings: Settings, group: ServiceGroup, roles: Collection[str]) -> None:
        super().__init__(settings, group, roles)
        self.kafka = settings.kafka
        self._kafka_log = Shared(group, "log", self._open_log)
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)

    async def open(self) -> None:
        for directory in (self.settings.data, self.settings.secrets_directory):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._group.callback(DirectoryLock(self.settings.data).release)

    async def log(self) -> KafkaLog:
        return await self._kafka_log()

    async def config(self, group: ServiceGroup) -> KafkaConfigTopic:
        log = await self.log()

        async def opened() -> KafkaConfigTopic:
            return await KafkaConfigTopic.open(self.kafka, log.integrity)

        return group.closed_at_stop(await self.retry(self._broker, opened, LogUnavailable))

    async def database(self) -> "PostgresDatabase":
        # psycopg and SQLAlchemy, which other roles do not need
        await asyncio.to_thread(importlib.import_module, "signalbox.roles.postgres_database")
        from signalbox.roles.postgres_database import PostgresDatabase

        return PostgresDatabase(self, await self.log())

    async def gateway_token(self, *, needed: bool) -> str:
        return shared_gateway_token(self.settings.gateway_token)

    async def run_partitions(
        self, role: str, topic: str, work: PartitionWorkers, group: ServiceGroup
    ) -> None:
        membership = Membership(self.kafka, role, topic, work.assigned, work.revoked)
        work.rejoin = membership.rejoin
        group.run(f"the group of {role}", membership.run())
        await group.wait(membership.joined.wait())

    async def others_started(self) -> None:
        """Returns at once: the other roles are in other processes."""

    async def all_started(self) -> None:
        """Does nothing: nothing was kept for the start."""

    def decided(self, outcomes: Sequence[Outcome]) -> None:
        """Does nothing: all processes read the topic of outcomes."""

    async def command_port(self, group: ServiceGroup) -> CommandPort:
        log = await self.log()
        commands, outcomes = await self.retry(
            "the topic of outcomes", lambda: open_command_port(log), LogUnavailable
        )
        group.run("outcomes", outcomes.run())
        self.add_readiness_check(
            lambda: f"outcomes are not received: {outcomes.trouble}" if outcomes.trouble else None
        )
        return commands

    async def follow_reports(
        self, reported: Reported, group: ServiceGroup, *, after: tuple[int, int] | None = None
    ) -> None:
        log = await self.log()

        async def handle(records: Sequence[Record]) -> None:
            reported([status for record in records if (status := status_of(record)) is not None])

        async def start(partition: int) -> int:
            return await log.end("status", partition) if after is None else after[1]

        reports = Subscription(log, "status", handle, start=start)
        partitions = None if after is None else after[:1]
        await self.retry("the status topic", lambda: reports.open(partitions), LogUnavailable)
        group.run("reports", reports.run())

    async def node_listener(self, gateways: Iterable[str]) -> None:
        """Returns None: gateway sync reads the answers on the status topic."""

    def answers(self, log: Log, sync: GatewaySync, view: ConfigView, end: int) -> Task:
        consumer = GatewayStatusConsumer(log, sync, view, self.change_log.reported_elsewhere)
        consumer.begin(end)
        return consumer.follow

    @property
    def _broker(self) -> str:
        return f"Kafka at {self.kafka.bootstrap}"

    async def _open_log(self) -> KafkaLog:
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
                    self.kafka, settings.data, authority=authority, integrity_key=settings.integrity_key
                )
            except IntegrityKeyError as error:
                raise SettingsError(str(error)) from error

        log = self._group.closed_at_stop(await self.retry(self._broker, attempt, LogUnavailable))
        self._open_reporter(log)
        if (integrity := log.integrity) is not None:
            topics = [self.kafka.topic(name) for name in PROTECTED]
            refused = integrity.refused
            self.telemetry.gauge("forged_messages", lambda: {t: refused[t] for t in topics}, "topic")
        return log
