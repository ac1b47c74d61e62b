"""Role `gateway-sync`: compiles the configuration of the gateways of the assigned partitions."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any

from gateways.translator import Translator
from signalbox.closed_upstreams import closed_upstreams
from signalbox.data_directory.tokens import probe_secret
from signalbox.roles.runtime import Runtime
from signalbox.service_group import ServiceGroup
from streams.config_topic import ConfigTopic, Unclaimed
from streams.gateway_sync.config_view import ConfigView
from streams.gateway_sync.sync import GatewaySync
from streams.log import Log, LogUnavailable
from streams.partition_workers import Assignment, PartitionWorkers
from xds.translator import EnvoyTranslator

TRANSLATORS: Mapping[str, Translator[Any]] = {"envoy": EnvoyTranslator()}
"""By kind of gateway."""

logger = logging.getLogger("signalbox.gateway-sync")


async def start(runtime: Runtime, group: ServiceGroup) -> None:
    log = await runtime.log()
    config = await runtime.config(group)

    async def sync(assignment: Assignment) -> None:
        try:
            await _sync(runtime, log, config, assignment)
        except Unclaimed as error:
            # The state of a put is unknown: claim and load again.
            raise LogUnavailable(str(error)) from error

    if not runtime.in_process:
        # Loading them is slow; the first change must not wait for it.
        await asyncio.to_thread(_load_translators)
    work = PartitionWorkers("synced", sync, config.release)
    runtime.add_readiness_check(work.trouble)
    await runtime.run_partitions("gateway-sync", "events", work, group)


def _load_translators() -> None:
    for translator in TRANSLATORS.values():
        translator.load()


async def _sync(runtime: Runtime, log: Log, config: ConfigTopic, assignment: Assignment) -> None:
    """Continues from the current config topic until something fails. Raises Fenced, LogUnavailable."""
    partition, probe_key = assignment.partition, runtime.probe_key
    await config.claim(partition)
    end = await log.end("status", partition)
    view = ConfigView(config, bodies=runtime.in_process)
    sync = GatewaySync(
        log=log,
        config=view,
        translators=TRANSLATORS,
        current=view.entry,
        report=runtime.report,
        reported=runtime.reported,
        probe_secret=lambda gateway: probe_secret(probe_key, gateway),
        compiled=lambda entries, seconds: runtime.telemetry.compile.record(seconds),
        closed=closed_upstreams(runtime.settings),
        compute=runtime.compute,
        partition=partition,
    )
    async for entries in config.load(partitions=(partition,), bodies=False):
        view.apply(entries)
        sync.load(entries)
    if repaired := await config.repair(partition):
        logger.warning("partition %d: %d entries of the configuration were put again", partition, repaired)
    answers = runtime.answers(log, sync, view, end)
    if sync.position == 0 and await log.end("events", partition) > 0:
        logger.warning("the configuration of partition %d is computed from the events", partition)
        await asyncio.to_thread(_load_translators)
    assignment.ready()
    await _until_one_fails(sync.run(), answers(), sync.run_verdict_deadlines(), _reconcile(runtime, sync))


async def _reconcile(runtime: Runtime, sync: GatewaySync) -> None:
    """Compiles configuration that is missing, once that does not delay the start of the process."""
    await runtime.others_started()
    await asyncio.to_thread(_load_translators)
    await sync.reconcile()


async def _until_one_fails(*group: Coroutine[Any, Any, None]) -> None:
    """Runs all until one of them fails. Raises its error."""
    tasks = [asyncio.create_task(part) for part in group]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
