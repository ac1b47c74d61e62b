"""Role `envoy`: runs an Envoy for one node of a gateway, and probes which deployments it serves."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.catalog import GATEWAY
from signalbox.discovery.delivery import serving
from signalbox.discovery.tls import trust
from signalbox.envoy.memory import envoy_heap
from signalbox.envoy.probe_targets import ProbeTargets
from signalbox.envoy.prober import Listener, Prober
from signalbox.envoy.supervisor import EnvoyStatus, EnvoySupervisor
from signalbox.local_gateway import LOCAL_GATEWAY, NODE
from signalbox.roles.runtime import SOURCE, Runtime
from signalbox.service_group import ServiceGroup
from signalbox.settings import Address, Settings, SettingsError, address
from signalbox.tokens import kept_secret, probe_secret, shared_gateway_token
from streams.kafka.config import KafkaConfigTopic
from streams.log import LogUnavailable
from streams.status_reporter import StatusReporter
from xds.bootstrap import bootstrap


@dataclass(frozen=True, slots=True)
class Node:
    """`gateway` is a subject; `servers` are the addresses of the xDS servers."""

    gateway: str
    name: str
    servers: tuple[Address, ...]


def node_from(environment: Mapping[str, str], settings: Settings) -> Node:
    """From `SIGNALBOX_GATEWAY_NAME` (`ORGANIZATION/GATEWAY`), `SIGNALBOX_NODE` and `SIGNALBOX_XDS_SERVERS`
    (`HOST:PORT`, several with commas between); what is left out is as `up` has it.

    Raises SettingsError.
    """
    gateway = LOCAL_GATEWAY
    if named := environment.get("SIGNALBOX_GATEWAY_NAME", ""):
        organization, slash, name = named.partition("/")
        if not (organization and slash and name) or "/" in name:
            raise SettingsError(f"SIGNALBOX_GATEWAY_NAME takes ORGANIZATION/GATEWAY; {named!r} is not.")
        gateway = GATEWAY.subject(organization, name)
    servers = environment.get("SIGNALBOX_XDS_SERVERS", "")
    return Node(
        gateway,
        environment.get("SIGNALBOX_NODE", "") or NODE,
        tuple(address(server.strip(), "SIGNALBOX_XDS_SERVERS") for server in servers.split(","))
        if servers
        else (settings.xds,),
    )


def _trouble(envoy: EnvoyStatus) -> str | None:
    return None if envoy.state == "running" else f"the gateway's Envoy does not run: {envoy.reason}"


async def start(runtime: Runtime, group: ServiceGroup) -> None:
    """Returns when Envoy runs and its deployments are probed.

    Raises SettingsError, PortUnusable, EnvoyMissing.
    """
    settings = runtime.settings
    node = node_from(os.environ, settings)
    token = shared_gateway_token(settings.gateway_token)
    first, *others = node.servers
    envoy = EnvoySupervisor(
        directory=settings.data / "envoy",
        bootstrap=lambda admin: bootstrap(
            node_id=node.name,
            gateway=node.gateway,
            token=token,
            xds_host=first.host,
            xds_port=first.port,
            other_servers=[(server.host, server.port) for server in others],
            trust=trust(settings, [server.host for server in node.servers]),
            admin_socket=str(admin),
            max_heap=envoy_heap(),
        ),
        listen=(settings.gateway.host, settings.gateway.port),
        secrets=(token,),
    )
    # It serves the configuration of the xDS servers whether or not Kafka is reachable.
    await envoy.start()
    group.push_async_callback(envoy.stop)
    runtime.add_readiness_check(lambda: _trouble(envoy.status))
    log = await runtime.log()
    where = f"Kafka at {runtime.kafka.bootstrap}"
    config = group.closed_at_stop(
        await runtime.retry(
            where, lambda: KafkaConfigTopic.open(runtime.kafka, log.integrity), LogUnavailable
        )
    )
    reporter = group.closed_at_stop(StatusReporter(log, SOURCE))
    group.run("status", reporter.run())
    prober = group.closed_at_stop(
        Prober(
            Listener(
                node.gateway,
                node.name,
                settings.gateway.host,
                settings.gateway.port,
                probe_secret(kept_secret(settings.probe_key, ""), node.gateway),
            ),
            lambda target, gateway, name, at: reporter.report(
                [serving(target, gateway, name, proving.connection, at)]
            ),
            on_given_up=lambda target, _: proving.given_up(target),
        )
    )
    proving = ProbeTargets(log, config, prober, node.gateway, node.name)
    group.run("prober", prober.run())
    await runtime.retry("the config topic", proving.load, LogUnavailable)
    group.run("config", config.follow((config.partition_of(node.gateway),)))
    group.run("proving", proving.run())
