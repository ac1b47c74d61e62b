"""Gateway sync, xDS servers and Envoy apart from each other, with a real Kafka and a real Envoy between."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc.aio
import pytest

from gateways.config_resource import ConfigResource, content_version
from schemas.codecs.canonical import sha256_hex
from schemas.status import DeliveryReported, NodeReported
from signalbox.devservers.kafka.server import DevKafka
from signalbox.discovery.delivery import Delivery
from signalbox.envoy.local_node import Node
from signalbox.first_start.default_resources import LOCAL_GATEWAY
from signalbox.first_start.default_resources import NODE as LOCAL_NODE
from signalbox.roles.envoy import node_from
from signalbox.roles.runner import RoleRunner
from signalbox.settings import Address, Settings, SettingsError
from streams.gateway_sync.sync import CREDENTIALS
from streams.kafka.config import KafkaConfigTopic
from streams.kafka.settings import KafkaSettings
from streams.kafka.topics import ensure_topics
from streams.log import Fenced
from tests.commands.shop import ORG, deploy, publish, spec
from tests.signalbox.roles.role_processes import EAST, NODE, RoleProcesses, role_processes
from tests.streams.faust.hosts import until
from tests.support.free_ports import free_port
from tests.support.hang_guard import HANG_SECONDS
from tests.support.real_kafka import settings_for
from tests.xds.proxies import DeltaProxy
from tests.xds.rogue import rogue
from xds.server.observer import Connection
from xds.types import CLUSTER, ROUTES


@pytest.fixture
async def acme(
    tmp_path: Path, kafka_settings: KafkaSettings, envoy: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RoleProcesses]:
    monkeypatch.setenv("SIGNALBOX_GATEWAY_NAME", f"{ORG}/east")
    monkeypatch.setenv("SIGNALBOX_NODE", NODE)
    async with role_processes(tmp_path, kafka_settings) as made:
        yield made


async def test_a_proxy_that_moves_to_another_server_gets_only_the_resources_it_lacks(
    acme: RoleProcesses, monkeypatch: pytest.MonkeyPatch
):
    sent: list[tuple[str, str]] = []

    def note(delivery: Delivery, connection: Connection, entries: Sequence[ConfigResource]) -> None:
        sent.extend((entry.type, entry.name.rpartition("/")[2]) for entry in entries)

    monkeypatch.setattr(Delivery, "sent", note)
    one, two = (Address("127.0.0.1", free_port()) for _ in "12")
    monkeypatch.setenv("SIGNALBOX_XDS_SERVERS", f"{one},{two}")
    await acme.run("gateway-sync")
    await acme.run("xds", "one", one)
    await acme.run("envoy")
    await acme.command(
        publish(), deploy(), publish("carts", spec("/carts")), deploy("carts"), ids=[*"ab", "c", "d2"]
    )
    await acme.delivered("b", "serving")
    await acme.delivered("d2", "serving")

    await acme.run("xds", "two", two)
    sent.clear()
    await acme.stop("one")
    await acme.connections(2)
    more = spec(operations=[{"method": "GET", "path": "/{id}"}, {"method": "GET", "path": "/"}])
    await acme.command(publish(of=more), deploy(), ids=["e", "d3"])
    await acme.delivered("d3", "serving")
    assert sent == [(ROUTES, "orders")]
    named = [
        s.deployment for s in acme.statuses if isinstance(s, DeliveryReported) and s.fact == "acknowledged"
    ]
    assert len(named) == len(set(named)), "what the proxy brought along is not reported by name again"
    nodes = [s for s in acme.statuses if isinstance(s, NodeReported) and s.acknowledged is not None]
    assert nodes[-1].exceptions == (), "one position covers it"
    assert len({s.connection for s in nodes}) == 2


async def test_a_node_that_rejects_everything_stops_no_change_that_another_one_accepts(
    acme: RoleProcesses, monkeypatch: pytest.MonkeyPatch
):
    server = Address("127.0.0.1", free_port())
    monkeypatch.setenv("SIGNALBOX_XDS_SERVERS", str(server))
    await acme.run("gateway-sync")
    await acme.run("xds", xds=server)
    token = (acme.directory / "secrets" / "gateway.token").read_text().strip()
    await acme.run("envoy")
    await acme.connections(1)  # from now on the xDS server lets nodes of the gateway in
    async with rogue(str(server), EAST, token, accepts=("CDS", "LDS", "SRDS")):
        for revision in (1, 2, 3):
            url = f"http://127.0.0.1:{9000 + revision}"
            await acme.command(publish(of=spec(url=url)), deploy(), ids=(f"p{revision}", f"d{revision}"))
            await acme.delivered(f"d{revision}", "serving")
            assert (await acme.delivered(f"d{revision}", "refused")).node == "rogue"
    refused = [s for s in acme.statuses if isinstance(s, DeliveryReported) and s.fact == "refused"]
    assert {report.node for report in refused} == {"rogue"}, "nothing was taken back for the gateway"


async def test_a_gateway_sync_that_was_shut_out_leaves_and_overwrites_nothing(acme: RoleProcesses):
    await acme.run("gateway-sync", "asleep")
    await acme.command(publish(), deploy(), ids=("a", "d1"))
    await acme.delivered("d1", "published")
    # As another one does that takes over while this one is stalled.
    other = await KafkaConfigTopic.open(acme.log.settings)
    await other.claim(0)
    newer = ConfigResource(EAST, "envoy", ROUTES, f"{EAST}/routes/orders", "newer", 10**6, b"newer")
    await other.put([newer])
    await acme.command(publish(of=spec(url="http://127.0.0.1:9001")), deploy(), ids=("b", "d2"))
    # It leaves its group, gets the partition again, and begins with the entries that the other one put.
    await acme.delivered("d2", "published")

    async def visible() -> bool:
        return await routed(other) != ["newer"]

    await until(visible)  # a put is visible to others a moment after it was confirmed
    assert await routed(other) == ["d2"]
    with pytest.raises(Fenced):
        await other.put([newer])
    await other.close()


async def routed(config: KafkaConfigTopic) -> list[str]:
    """The deployments that the routes on the config topic are of; an entry without any by its version."""
    entries = [e async for chunk in config.load() for e in chunk if e.type == ROUTES]
    return [name for e in entries for name in ([ref.deployment for ref in e.deployments] or [e.version])]


async def test_an_xds_server_goes_on_serving_when_kafka_is_gone(own_kafka: DevKafka, tmp_path: Path):
    settings = settings_for(own_kafka)
    await ensure_topics(settings)
    config = await KafkaConfigTopic.open(settings)
    await config.claim(0)
    bodies = ((CREDENTIALS, "token", sha256_hex(b"token").encode()), (CLUSTER, "a", b"\x0a\x01a"))
    await config.put(
        [
            ConfigResource(EAST, "envoy", type, name, content_version(body), 1, body)
            for type, name, body in bodies
        ]
    )
    assert [entries async for entries in config.load()]  # until then an xDS server may start without them
    port = free_port()
    process = Settings(data=tmp_path / "xds", engine="kafka", kafka=settings, xds=Address("127.0.0.1", port))
    async with RoleRunner(process, ["xds"]) as roles, asyncio.timeout(HANG_SECONDS):
        await roles.started()
        own_kafka.kill()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            proxy = DeltaProxy(channel, NODE, EAST, "token")
            await proxy.ask("CDS")
            assert [resource.name for resource in (await proxy.next()).resources] == ["a"]
            await proxy.close()
    await config.close()


def test_an_envoy_gets_its_node_id_and_its_servers_addresses():
    settings = Settings()
    assert node_from({}, settings) == Node(LOCAL_GATEWAY, LOCAL_NODE, (settings.xds,))
    output = {
        "SIGNALBOX_GATEWAY_NAME": "acme/east",
        "SIGNALBOX_NODE": "east-1",
        "SIGNALBOX_XDS_SERVERS": "10.0.0.1:18000, 10.0.0.2:18000",
    }
    servers = (Address("10.0.0.1", 18000), Address("10.0.0.2", 18000))
    assert node_from(output, settings) == Node(EAST, "east-1", servers)


@pytest.mark.parametrize("name", ["east", "acme/", "/east", "acme/east/1"])
def test_a_gateway_is_named_with_its_organization(name: str):
    with pytest.raises(SettingsError, match="ORGANIZATION/GATEWAY"):
        node_from({"SIGNALBOX_GATEWAY_NAME": name}, Settings())
