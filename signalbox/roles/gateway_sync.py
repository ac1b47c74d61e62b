"""Role `gateway-sync`: compiles the configuration of the gateways of the assigned partitions."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from gateways.upstream_access import NetworkPort
from schemas.status import DeliveryReported, Status
from signalbox.closed_upstreams import closed_upstreams
from signalbox.roles.runtime import SOURCE, Runtime, first_line
from signalbox.service_group import ServiceGroup
from signalbox.tokens import kept_secret, probe_secret
from signalbox.translators import Translators
from streams.config_view import ConfigView
from streams.gateway_status import GatewayStatusConsumer
from streams.gateway_sync import GatewaySync
from streams.kafka.config import KafkaConfigTopic, Unclaimed
from streams.kafka.membership import Membership
from streams.log import Fenced, Log, LogUnavailable
from streams.status_reporter import StatusReporter

GROUP = "gateway-sync"
RETRY_SECONDS = 0.5

logger = logging.getLogger("signalbox.gateway-sync")


async def start(runtime: Runtime, group: ServiceGroup) -> None:
    """Returns when the group has assigned partitions to this process."""
    log = await runtime.log()
    where = f"Kafka at {runtime.kafka.bootstrap}"
    config = group.closed_at_stop(
        await runtime.retry(
            where, lambda: KafkaConfigTopic.open(runtime.kafka, log.integrity), LogUnavailable
        )
    )
    reporter = group.closed_at_stop(StatusReporter(log, SOURCE))
    group.run("status", reporter.run())
    probe_key = kept_secret(runtime.settings.probe_key, "")
    # Loading them is slow; the first change must not wait for it.
    await asyncio.to_thread(Translators().load)
    syncing = PartitionSyncs(
        SyncDependencies(
            log,
            config,
            runtime.change_log.reporting(reporter.report),
            runtime.change_log.reported_elsewhere,
            reporter.durable,
            lambda gateway: probe_secret(probe_key, gateway),
            lambda entries, seconds: runtime.telemetry.compile.record(seconds),
            closed_upstreams(runtime.settings),
        )
    )
    runtime.add_readiness_check(syncing.trouble)
    membership = Membership(runtime.kafka, GROUP, "events", syncing.assigned, syncing.revoked)
    syncing.fenced = membership.rejoin
    group.run("gateway sync", membership.run())
    group.push_async_callback(syncing.stop)
    await group.wait(membership.joined.wait())


@dataclass(frozen=True, slots=True)
class SyncDependencies:
    """Dependencies that the gateway syncs of a process share."""

    log: Log
    config: KafkaConfigTopic
    report: Callable[[Sequence[Status]], None]
    reported_elsewhere: Callable[[DeliveryReported], None]
    reported: Callable[[], Awaitable[None]]
    probe_secret: Callable[[str], str]
    compiled: Callable[[int, float], None]
    closed: tuple[NetworkPort, ...]


class PartitionSyncs:
    """A gateway sync for each assigned partition; `fenced` is called when one has another owner."""

    def __init__(self, surroundings: SyncDependencies) -> None:
        self._of = surroundings
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._troubles: dict[int, str] = {}
        self.fenced: Callable[[], None] = lambda: None

    async def assigned(self, partition: int) -> None:
        if partition not in self._tasks:
            self._troubles[partition] = f"the configuration of partition {partition} is being loaded"
            self._tasks[partition] = asyncio.create_task(
                self._hold(partition), name=f"gateway sync {partition}"
            )

    async def revoked(self, partition: int) -> None:
        """Returns when this process no longer writes to the partition. All state is dropped."""
        task = self._tasks.pop(partition, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._of.config.release(partition)
        self._troubles.pop(partition, None)

    async def stop(self) -> None:
        for partition in tuple(self._tasks):
            await self.revoked(partition)

    def trouble(self) -> str | None:
        return next(iter(self._troubles.values()), None)

    async def _hold(self, partition: int) -> None:
        """Syncs until cancelled or fenced; retries when Kafka fails."""
        while True:
            try:
                await self._sync(partition)
            except (LogUnavailable, Unclaimed) as error:
                logger.warning("partition %d is not synced: %s", partition, error)
                self._troubles[partition] = f"partition {partition} is not synced: {first_line(error)}"
            except Fenced as error:
                logger.warning("%s", error)
                self._troubles.pop(partition, None)
                self.fenced()
                return
            except Exception as error:
                logger.exception("partition %d: gateway sync failed and starts anew", partition)
                self._troubles[partition] = f"partition {partition} is not synced: {first_line(error)}"
            await asyncio.sleep(RETRY_SECONDS)

    async def _sync(self, partition: int) -> None:
        """From the config topic as it stands; until something fails. Raises Fenced, LogUnavailable."""
        of = self._of
        await of.config.claim(partition)
        end = await of.log.end("status", partition)
        view = ConfigView(of.config)
        sync = GatewaySync(
            log=of.log,
            config=view,
            translators=Translators(),
            current=view.entry,
            report=of.report,
            reported=of.reported,
            probe_secret=of.probe_secret,
            compiled=of.compiled,
            closed=of.closed,
            partition=partition,
        )
        async for entries in of.config.load(partitions=(partition,), bodies=False):
            view.apply(entries)
            sync.load(entries)
        if repaired := await of.config.repair(partition):
            logger.warning(
                "partition %d: %d entries of the configuration were put again", partition, repaired
            )
        answers = GatewayStatusConsumer(of.log, sync, view, of.reported_elsewhere)
        answers.begin(end)
        await sync.reconcile()
        logger.info("partition %d is synced here from %d", partition, sync.position)
        self._troubles.pop(partition, None)
        await _until_one_ends(sync.run(), answers.follow(), sync.run_verdict_deadlines())


async def _until_one_ends(*group: Coroutine[Any, Any, None]) -> None:
    """Runs all until one of them fails. Raises what it raised."""
    tasks = [asyncio.create_task(part) for part in group]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
