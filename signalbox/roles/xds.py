"""Role `xds`: serves the config topic to proxies, and reports their answers on the status topic."""

import asyncio
import logging

from signalbox.discovery.delivery import Delivery
from signalbox.discovery.server import Discovery
from signalbox.discovery.tls import identity
from signalbox.ports import require_free
from signalbox.roles.runtime import SOURCE, Runtime
from signalbox.service_group import ServiceGroup
from streams.kafka.config import KafkaConfigTopic
from streams.log import LogUnavailable
from streams.status_reporter import StatusReporter
from xds.server import DiscoveryServer

STOP_SECONDS = 2.0
HEARTBEAT_SECONDS = 10.0

logger = logging.getLogger("signalbox.gateways")


async def start(runtime: Runtime, group: ServiceGroup) -> None:
    """Returns when proxies are served everything on the config topic. Raises PortUnusable.

    From then on it serves whether or not Kafka is reachable; reports wait until it is.
    """
    listen = runtime.settings.xds
    shown = identity(runtime.settings)
    require_free(listen.host, listen.port, what="the xDS server", option="--xds HOST:PORT")
    log = await runtime.log()
    where = f"Kafka at {runtime.kafka.bootstrap}"
    config = group.closed_at_stop(
        await runtime.retry(
            where, lambda: KafkaConfigTopic.open(runtime.kafka, log.integrity), LogUnavailable
        )
    )
    reporter = group.closed_at_stop(StatusReporter(log, SOURCE))
    group.run("status", reporter.run())
    delivery = Delivery(
        runtime.change_log.reporting(reporter.report),
        lambda gateway, ref, position: None,  # whoever runs beside the gateway probes it
        lambda connection, entries: None,  # gateway sync reads it on the status topic
        lambda connection, entries, reason: None,
        lambda of, listener, reason: discovery.offer_again_later(of, listener, reason),
    )
    discovery = Discovery(delivery, config.partition_of)
    delivery.begin()

    async def load() -> None:
        async for entries in config.load():
            discovery.serve(entries)

    await runtime.retry("the config topic", load, LogUnavailable)
    config.subscribe(discovery.serve)
    group.run("config", config.follow())
    await discovery.server.start(listen.host, listen.port, shown)
    group.push_async_callback(discovery.server.stop, STOP_SECONDS)
    group.run("heartbeat", _heartbeat(discovery.server, delivery))
    runtime.telemetry.gauge("connected_proxies", lambda: {"": len(delivery.proxies)})
    runtime.telemetry.gauge("quarantined_resources", lambda: {"": discovery.quarantined()})


async def _heartbeat(server: DiscoveryServer, delivery: Delivery) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        for connection, progress in server.progress():
            delivery.still_connected(connection, progress)
