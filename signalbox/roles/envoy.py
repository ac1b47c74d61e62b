"""Role `envoy`: runs an Envoy for one node of a gateway, and probes which deployments it serves."""

import os
from collections.abc import Mapping

from schemas.catalog import GATEWAY
from signalbox.data_directory.tokens import probe_secret
from signalbox.discovery.tls import own_trust, trust
from signalbox.envoy.local_node import LocalNode, Node
from signalbox.envoy.probe_targets import ProbeTargets
from signalbox.first_start.default_resources import LOCAL_GATEWAY, NODE
from signalbox.roles.runtime import Runtime
from signalbox.service_group import ServiceGroup
from signalbox.settings import Settings, SettingsError, address
from streams.log import LogUnavailable


def node_from(environment: Mapping[str, str], settings: Settings) -> Node:
    """From `SIGNALBOX_GATEWAY_NAME` (`ORGANIZATION/GATEWAY`), `SIGNALBOX_NODE` and `SIGNALBOX_XDS_SERVERS`
    (`HOST:PORT`, several with commas between); the defaults are those of `up`.

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


async def start(runtime: Runtime, group: ServiceGroup) -> None:
    """Returns when Envoy runs; its deployments are probed once all roles start.

    Raises SettingsError, PortUnusable, EnvoyMissing.
    """
    settings = runtime.settings
    # On the embedded engine it is the node of the gateway that the first start creates.
    node = node_from({} if runtime.in_process else os.environ, settings)
    envoy = LocalNode(
        settings,
        node,
        token=await runtime.gateway_token(needed=True),
        probe_secret=probe_secret(runtime.probe_key, node.gateway),
        trust=own_trust(settings) if runtime.in_process else trust(settings, node.hosts),
        report=runtime.report,
    )
    # It serves the configuration of the xDS servers whether or not Kafka is reachable.
    await envoy.start(group)
    runtime.add_readiness_check(envoy.trouble)
    log = await runtime.log()
    config = await runtime.config(group)
    targets = ProbeTargets(envoy.prober, node.gateway, node.name)
    envoy.probes(targets)
    partition = config.partition_of(node.gateway)

    async def probe() -> None:
        await runtime.retry("the config topic", lambda: targets.load(config), LogUnavailable)
        group.run("config", config.follow((partition,)))
        read = await runtime.retry(
            "the status topic", lambda: targets.look_back(log, partition), LogUnavailable
        )
        await runtime.follow_reports(targets.reported, group, after=(partition, read))

    group.later(probe)
