"""Role `xds`: serves the config topic to proxies, and reports their answers on the status topic."""

import asyncio
import logging
from collections.abc import Mapping

from signalbox.discovery.delivery import Delivery
from signalbox.discovery.server import Discovery
from signalbox.discovery.tls import identity
from signalbox.roles.runtime import Runtime
from signalbox.service_group import ServiceGroup
from streams.log import Log, LogUnavailable

STOP_SECONDS = 2.0
HEARTBEAT_SECONDS = 10.0
NOTHING: Mapping[int, int] = {}
WAITS = "gateway sync, which computes the configuration from the events"

logger = logging.getLogger("signalbox.gateways")


async def start(runtime: Runtime, group: ServiceGroup) -> None:
    """Returns when proxies are served everything on the config topic.

    From then on it serves whether or not Kafka is reachable; reports wait until it is. In one process it
    listens before it has loaded them: proxies connect meanwhile, instead of trying again later. Elsewhere
    they turn to another xDS server meanwhile.
    """
    shown = identity(runtime.settings)
    log = await runtime.log()
    config = await runtime.config(group)
    delivery = Delivery(
        runtime.report, lambda of, listener, reason: discovery.offer_again_later(of, listener, reason)
    )
    discovery = Discovery(delivery, config.partition_of)

    async def listen() -> None:
        listen = runtime.settings.xds
        await discovery.server.start(listen.host, listen.port, shown, loaded=False)
        group.push_async_callback(discovery.server.stop, STOP_SECONDS)

    if runtime.in_process:
        await listen()

    async def load() -> None:
        async for entries in config.load():
            discovery.serve(entries)

    await runtime.retry("the config topic", load, LogUnavailable)
    config.subscribe(discovery.serve)
    group.run("config", config.follow())
    missing = await _not_configured(log, discovery) if runtime.in_process else NOTHING

    async def finish() -> None:
        if missing:
            logger.warning("the configuration of the gateways is computed from the events; proxies wait")
            await runtime.wait_for(WAITS, group.wait(discovery.until_reached(missing)))
            discovery.server.loaded.set()
        runtime.telemetry.gauge("connected_proxies", lambda: {"": len(delivery.proxies)})
        runtime.telemetry.gauge("quarantined_resources", lambda: {"": discovery.quarantined()})
        # Until then the answers of proxies are buffered.
        delivery.begin(await runtime.node_listener(discovery.store.gateways()))
        group.run("progress of nodes", _report_progress(runtime, discovery, delivery))

    if not runtime.in_process:
        await listen()
    if not missing:
        discovery.server.loaded.set()
    group.later(finish)


async def _not_configured(log: Log, discovery: Discovery) -> Mapping[int, int]:
    """The ends of partitions that have events and no configuration: proxies would remove all their resources
    if they were sent an empty one."""
    ends = {p: await log.end("events", p) for p in range(log.partitions) if not discovery.reached(p)}
    return {partition: end for partition, end in ends.items() if end}


async def _report_progress(runtime: Runtime, discovery: Discovery, delivery: Delivery) -> None:
    """Reports the progress of nodes until cancelled; if the readers are in other processes, also unchanged
    progress, as a heartbeat."""
    report = delivery.progressed if runtime.in_process else delivery.still_connected
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        for connection, progress in discovery.server.progress():
            report(connection, progress)
