"""Gateway sync, xDS servers and Envoy apart from each other, with a real Kafka and a real Envoy between."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gateways.entry import Entry
from signalbox.delivery import Delivery
from signalbox.ports import free_port
from signalbox.settings import Address
from streams.kafka.settings import KafkaSettings
from tests.commands.shop import ORG, deploy, publish, spec
from tests.signalbox.roles.land import NODE, Land, land
from xds.types import ROUTE


@pytest.fixture
async def acme(
    tmp_path: Path, kafka_settings: KafkaSettings, envoy: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Land]:
    monkeypatch.setenv("SIGNALBOX_GATEWAY_NAME", f"{ORG}/east")
    monkeypatch.setenv("SIGNALBOX_NODE", NODE)
    async with land(tmp_path, kafka_settings) as made:
        yield made


async def test_a_proxy_that_moves_to_another_server_gets_only_what_it_lacks(
    acme: Land, monkeypatch: pytest.MonkeyPatch
):
    sent: list[tuple[str, str]] = []

    def note(delivery: Delivery, gateway: str, node: str, entries: Sequence[Entry]) -> None:
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
    assert sent == [(ROUTE, "orders")]
