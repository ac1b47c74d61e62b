"""Gateway sync with units of each size: a first path segment, a whole gateway, a single API."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateways.config_resource import ConfigResource
from gateways.model import GatewaySettings
from gateways.translator import Translator
from schemas.aggregates.deployment import StopDeployment
from schemas.aggregates.gateway import ChangeGateway, RemoveGateway
from schemas.message import Command
from streams.gateway_sync.sync import CREDENTIALS
from tests.commands.shop import ORG, deploy, publish, spec
from tests.streams.document_translator import DocumentTranslator, Wrapped
from tests.streams.test_gateway_sync import DEFAULT_RESOURCES, EAST, Harness, harness
from xds.translator import EnvoyTranslator

SHARED: dict[str, Callable[[], Translator[Any]]] = {
    "first path segment": EnvoyTranslator,
    "whole gateway": lambda: DocumentTranslator(whole=True),
}
"""Several APIs below one path segment share a resource."""
ALL = SHARED | {"each API": lambda: DocumentTranslator(whole=False)}
OTHER = "http://127.0.0.1:9001"


@pytest.fixture(params=ALL)
def translator(request: pytest.FixtureRequest) -> Translator[Any]:
    return ALL[request.param]()


@pytest.fixture(params=SHARED)
def sharing(request: pytest.FixtureRequest) -> Translator[Any]:
    return SHARED[request.param]()


def shop(*names: str) -> tuple[Command, ...]:
    return tuple(publish(name, spec(f"/shop/{name}")) for name in names)


def reject(at: Harness, *apis: str, reason: str = "") -> None:
    for entry in {at.carrier(api).key: at.carrier(api) for api in apis}.values():
        at.sync.rejected(EAST, "n", [entry], reason)


def acknowledge(at: Harness, *apis: str) -> None:
    at.sync.acknowledged(EAST, "n", [at.carrier(api) for api in apis])


@pytest.mark.parametrize("host", ["*", "orders.example.com"])
async def test_a_rejected_revision_is_replaced_by_the_last_acknowledged_one(
    tmp_path: Path, translator: Translator[Any], host: str
):
    async with harness(tmp_path, translator) as at:
        await at.do(*DEFAULT_RESOURCES, publish(of=spec(hosts=[host])), deploy())
        good = at.carrier("orders")
        acknowledge(at, "orders")
        await at.do(publish(of=spec(url=OTHER, hosts=[host])), deploy())
        assert at.carrier("orders").version != good.version
        reject(at, "orders")
        await at.sync.drain_responses()
        assert at.carrier("orders").version == good.version
        assert at.deployments("orders") == [("orders", 1)]


async def test_a_first_revision_that_is_rejected_is_removed(tmp_path: Path, translator: Translator[Any]):
    async with harness(tmp_path, translator) as at:
        await at.do(*DEFAULT_RESOURCES, publish(), deploy())
        at.reports.clear()
        reject(at, "orders", reason="bad regex")
        await at.sync.drain_responses()
        assert at.deployments("orders") == []
        assert [(r.node, r.fact, r.reason) for r in at.reports] == [("*", "refused", "bad regex")]


async def test_of_several_new_deployments_in_a_rejected_resource_each_is_tried_alone(
    tmp_path: Path, sharing: Translator[Any]
):
    async with harness(tmp_path, sharing) as at:
        await at.do(*DEFAULT_RESOURCES, *shop("a", "b", "c"))
        await at.do(deploy("a"))
        acknowledge(at, "a")
        await at.do(deploy("b"), deploy("c"))
        reject(at, "b")
        await at.sync.drain_responses()
        assert at.deployments("shop") == [("a", 1), ("b", 1)]
        reject(at, "b")
        await at.sync.drain_responses()
        assert at.deployments("shop") == [("a", 1), ("c", 1)]


async def test_several_new_deployments_in_resources_of_their_own_are_rejected_one_by_one(tmp_path: Path):
    async with harness(tmp_path, DocumentTranslator(whole=False)) as at:
        await at.do(*DEFAULT_RESOURCES, *shop("a", "b", "c"))
        await at.do(deploy("a"), deploy("b"), deploy("c"))
        reject(at, "b")
        await at.sync.drain_responses()
        assert at.deployments("shop") == [("a", 1), ("c", 1)]


async def test_a_stopped_deployment_is_not_tried_again(tmp_path: Path, sharing: Translator[Any]):
    async with harness(tmp_path, sharing) as at:
        await at.do(*DEFAULT_RESOURCES, *shop("a", "b"))
        await at.do(deploy("a"), deploy("b"), ids=("d1", "d2"))
        reject(at, "a")
        await at.sync.drain_responses()
        assert at.deployments("shop") == [("a", 1)]
        acknowledge(at, "a")
        await at.do(StopDeployment(organization=ORG, name="d2"))
        await at.sync.drain_responses()
        assert at.deployments("shop") == [("a", 1)]


async def test_a_stopped_deployment_does_not_come_back(tmp_path: Path, translator: Translator[Any]):
    async with harness(tmp_path, translator) as at:
        await at.do(*DEFAULT_RESOURCES, *shop("a", "b"))
        await at.do(deploy("a"), deploy("b"), ids=("d1", "d2"))
        acknowledge(at, "a", "b")
        await at.do(StopDeployment(organization=ORG, name="d1"), publish("a", spec("/shop/a2")), deploy("a"))
        reject(at, "a")
        await at.sync.drain_responses()
        assert at.deployments("shop") == [("b", 1)]


class Failing(Wrapped):
    """A translator that fails on the API `a`."""

    def unit_entries(
        self, settings: GatewaySettings, unit: str, apis: Sequence[Any], position: int
    ) -> tuple[ConfigResource, ...]:
        entries = super().unit_entries(settings, unit, apis, position)
        if any(ref.api == "a" for entry in entries for ref in entry.deployments):
            raise RuntimeError("a defect")
        return entries


async def test_a_translator_that_fails_on_one_api_keeps_no_other_one_out(
    tmp_path: Path, translator: Translator[Any]
):
    async with harness(tmp_path, translator) as at:
        await at.do(*DEFAULT_RESOURCES, *shop("a", "b", "c", "d"), deploy("d"))
        acknowledge(at, "d")
        at.sync.compiler.translators = {"envoy": Failing(translator)}
        await at.do(deploy("a"), deploy("b"), deploy("c"), ids=("da", "db", "dc"))
        for _ in "bc":
            await at.sync.drain_responses()
            acknowledge(at, "b")
        await at.sync.drain_responses()
        assert at.deployments("shop") == [("b", 1), ("c", 1), ("d", 1)]
        assert ("da", "refused") in at.facts()


async def test_a_change_of_one_of_many_apis_translates_that_api_alone(tmp_path: Path):
    translator = DocumentTranslator(whole=True)
    names = [f"a{number}" for number in range(30)]
    async with harness(tmp_path, translator) as at:
        await at.do(*DEFAULT_RESOURCES, *shop(*names))
        await at.do(*(deploy(name) for name in names))
        translator.translated.clear()
        await at.do(publish("a7", spec("/shop/a7", OTHER)), deploy("a7"))
        assert translator.translated == ["a7"]
        assert len(at.deployments("shop")) == 30


async def test_changed_settings_of_a_gateway_translate_all_its_apis(
    tmp_path: Path, translator: Translator[Any]
):
    async with harness(tmp_path, translator) as at:
        await at.do(*DEFAULT_RESOURCES, *shop("a", "b"), deploy("a"), deploy("b"))
        before = {api: at.carrier(api).version for api in "ab"}
        await at.do(ChangeGateway(organization=ORG, name="east", revision_header=False))
        assert all(at.carrier(api).version != before[api] for api in "ab")


async def test_a_restart_goes_on_where_the_config_topic_is(tmp_path: Path, translator: Translator[Any]):
    async with harness(tmp_path, translator) as at:
        await at.do(
            *DEFAULT_RESOURCES, publish(), publish("carts", spec("/carts")), deploy(), deploy("carts")
        )
        position = at.position
    async with harness(tmp_path, translator) as again:
        again.position = position
        assert again.sync.position == position
        assert again.deployments("orders") == [("orders", 1)]
        records = await again.at.log.read("events", 0, 0, 1000)
        await again.sync.sync(records)
        assert again.changed() == set()
        await again.do(publish(of=spec(url=OTHER)), deploy())
        assert (again.deployments("orders"), again.deployments("carts")) == ([("orders", 2)], [("carts", 1)])


async def test_suspects_are_tried_after_a_restart(tmp_path: Path, sharing: Translator[Any]):
    async with harness(tmp_path, sharing) as at:
        await at.do(*DEFAULT_RESOURCES, *shop("a", "b"))
        await at.do(deploy("a"), deploy("b"))
        reject(at, "a")
        await at.sync.drain_responses()
        assert at.deployments("shop") == [("a", 1)]
    async with harness(tmp_path, sharing) as again:
        acknowledge(again, "a")
        await again.sync.drain_responses()
        assert again.deployments("shop") == [("a", 1), ("b", 1)]


async def test_a_config_topic_that_is_lost_is_computed_from_the_events(
    tmp_path: Path, translator: Translator[Any]
):
    async with harness(tmp_path, translator) as at:
        await at.do(*DEFAULT_RESOURCES, *shop("a", "b"), deploy("a"), deploy("b"))
        versions = {entry.key: entry.version for entry in at.store.entries(EAST)}
    (tmp_path / "config.db").unlink()
    async with harness(tmp_path, translator) as at:
        await at.sync.catch_up()
        assert {entry.key: entry.version for entry in at.store.entries(EAST)} == versions


@pytest.mark.parametrize("together", [True, False])
async def test_a_gateway_that_is_removed_leaves_nothing_behind(
    tmp_path: Path, translator: Translator[Any], together: bool
):
    gone: tuple[Command, ...] = (
        StopDeployment(organization=ORG, name="d1"),
        RemoveGateway(organization=ORG, name="east"),
    )
    async with harness(tmp_path, translator) as at:
        await at.do(*DEFAULT_RESOURCES, publish(), deploy(), ids=(*"abcd", "p", "d1"))
        for commands in [gone] if together else [gone[:1], gone[1:]]:
            await at.do(*commands)
        assert at.store.entries(EAST) == []
        await at.do(DEFAULT_RESOURCES[3])
        types = {entry.type for entry in at.store.entries(EAST)}
        assert len(types) == 2
        assert CREDENTIALS in types
