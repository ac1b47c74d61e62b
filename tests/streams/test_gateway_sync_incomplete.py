"""A config topic that lacks entries, or all of them: gateway sync puts there what the events say."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gateways.config_resource import ConfigResource, content_version
from gateways.model import DeployedApi, GatewaySettings, Unsupported
from streams.gateway_sync.marks import POSITION, TRANSLATION
from streams.gateway_sync.sync import CREDENTIALS
from tests.commands.shop import deploy, publish, spec
from tests.streams.document_translator import Wrapped
from tests.streams.test_gateway_sync import DEFAULT_RESOURCES, EAST, Harness, harness
from xds.types import CLUSTER, LISTENER, ROUTES, SCOPED_ROUTES

TYPES = {
    "listener": LISTENER,
    "scope": SCOPED_ROUTES,
    "routes": ROUTES,
    "cluster": CLUSTER,
    "token": CREDENTIALS,
}


async def deployed(directory: Path) -> dict[tuple[str, str], str]:
    """Two APIs on a gateway; the version of each entry of it."""
    async with harness(directory) as at:
        await at.sync.reconcile()
        await at.do(*DEFAULT_RESOURCES)
        await at.do(publish(), deploy(), ids=("p1", "d1"))
        await at.do(publish("users", of=spec(context="/users")), deploy("users"), ids=("p2", "d2"))
        return versions(at)


def versions(at: Harness) -> dict[tuple[str, str], str]:
    return {(entry.type, entry.name): entry.version for entry in at.store.entries(EAST)}


def delete(directory: Path, where: str) -> None:
    with closing(sqlite3.connect(directory / "config.db")) as db, db:
        assert db.execute(f"DELETE FROM entries WHERE {where}").rowcount


async def test_nothing_is_put_when_nothing_is_missing(tmp_path: Path):
    await deployed(tmp_path)
    async with harness(tmp_path) as at:
        await at.sync.reconcile()
        assert at.put == []


@pytest.mark.parametrize("what", TYPES)
async def test_entries_that_are_missing_are_compiled_again(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
):
    right = await deployed(tmp_path)
    delete(tmp_path, f"type = '{TYPES[what]}'")
    async with harness(tmp_path) as at:
        assert versions(at) != right
        await at.sync.reconcile()
        assert versions(at) == right
    assert "were missing on the config topic" in caplog.text


async def test_an_api_whose_routes_are_missing_is_compiled_again_and_no_other(tmp_path: Path):
    right = await deployed(tmp_path)
    delete(tmp_path, f"type = '{ROUTES}' AND name LIKE '%/users'")
    async with harness(tmp_path) as at:
        await at.sync.reconcile()
        assert versions(at) == right
        assert {
            entry.name.rpartition("/")[2] for entry in at.put if entry.type in (ROUTES, SCOPED_ROUTES)
        } == {"users"}


@pytest.mark.parametrize("where", ["name LIKE '%users%'", f"type <> '{POSITION}'"])
async def test_an_api_that_lost_all_its_entries_is_compiled_again(
    tmp_path: Path, where: str, caplog: pytest.LogCaptureFixture
):
    right = await deployed(tmp_path)
    delete(tmp_path, where)
    async with harness(tmp_path) as at:
        assert versions(at).keys() < right.keys()
        await at.sync.reconcile()
        assert versions(at) == right
        assert [entry.version for entry in at.put if entry.type == POSITION][-1].endswith(
            f"/{len(versions(at))}"
        )
    assert "entries of the configuration are missing" in caplog.text


async def test_a_config_topic_that_is_lost_is_computed_from_the_events(tmp_path: Path):
    right = await deployed(tmp_path)
    (tmp_path / "config.db").unlink()
    async with harness(tmp_path) as at:
        assert versions(at) == {}
        await at.sync.catch_up()
        assert versions(at) == right
        assert at.sync.position == await at.at.log.end("events", 0)
        marks = [entry for entry in at.put if entry.type == POSITION]
        assert marks[-1].position == at.sync.position


async def test_a_body_that_is_not_of_its_version_is_not_served_and_compiled_again(tmp_path: Path):
    from signalbox.discovery.server import Discovery
    from xds.server.observer import NullObserver

    right = await deployed(tmp_path)
    discovery = Discovery(NullObserver(), lambda gateway: 0)
    async with harness(tmp_path) as at:
        entries = [entry async for chunk in at.config.load() for entry in chunk]
        discovery.serve([damaged(e) if e.type == ROUTES else e for e in entries])
        assert discovery.store.names(EAST, ROUTES) == []
        assert discovery.store.names(EAST, SCOPED_ROUTES) == [], (
            "an Envoy that starts would wait for the routes"
        )
        at.sync.changes.current = discovery.store.entry
        at.sync.current = discovery.store.entry
        at.config.subscribe(discovery.serve)
        await at.sync.reconcile()
        served = {(e.type, e.name): e.version for e in discovery.store.entries(EAST)}
        assert served == right


def damaged(entry: ConfigResource) -> ConfigResource:
    from dataclasses import replace

    return replace(entry, body=entry.body[:-1] + bytes([entry.body[-1] ^ 0xFF]))


@dataclass
class Later(Wrapped):
    """The next version of a translator: it makes other route configurations and listeners."""

    VERSION: str = "later"

    def listener_entries(self, settings: GatewaySettings, position: int) -> tuple[ConfigResource, ...]:
        return tuple(map(changed, super().listener_entries(settings, position)))

    def unit_entries(
        self, settings: GatewaySettings, unit: str, apis: Sequence[Any], position: int
    ) -> tuple[ConfigResource, ...]:
        entries = super().unit_entries(settings, unit, apis, position)
        return tuple(changed(entry) if entry.type == ROUTES and entry.body else entry for entry in entries)


def changed(entry: ConfigResource) -> ConfigResource:
    body = entry.body + b"later"
    return replace(entry, body=body, version=content_version(body))


async def test_output_of_another_version_of_the_translator_is_translated_again(tmp_path: Path):
    right = await deployed(tmp_path)
    async with harness(tmp_path) as at:
        at.sync.compiler.translators = at.sync.translators = {"envoy": Later(at.sync.translators["envoy"])}
        await at.sync.reconcile()
        now = versions(at)
        assert {key[0] for key in right if now[key] != right[key]} == {ROUTES, LISTENER}
        assert {entry.type for entry in at.put if entry.gateway} == {ROUTES, LISTENER}
    async with harness(tmp_path) as at:
        at.sync.compiler.translators = at.sync.translators = {"envoy": Later(at.sync.translators["envoy"])}
        await at.sync.reconcile()
        assert at.put == []


async def test_entries_from_before_versions_were_noted_are_translated_again(tmp_path: Path):
    right = await deployed(tmp_path)
    async with harness(tmp_path) as at:
        at.sync.compiler.translators = at.sync.translators = {"envoy": Later(at.sync.translators["envoy"])}
        await at.sync.reconcile()
        assert versions(at) != right
    delete(tmp_path, f"type = '{TRANSLATION}'")
    async with harness(tmp_path) as at:
        await at.sync.reconcile()
        assert versions(at) == right


async def test_a_listener_that_settings_make_differently_is_put_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    right = await deployed(tmp_path)
    async with harness(tmp_path) as at:
        settings = await at.sync.compiler.settings(EAST)
        (listener,) = at.sync.translators["envoy"].listener_entries(replace(settings, port=1), 1)
        at.store.apply([listener])
        assert versions(at) != right
        caplog.set_level("INFO")
        await at.sync.reconcile()
        assert versions(at) == right
    assert "1 entries are put again: the settings or the translator changed" in caplog.text
    assert "missing" not in caplog.text


@dataclass
class Former(Wrapped):
    """The translator of the version that ignored conditions of policies."""

    def check(self, api: DeployedApi) -> tuple[Unsupported, ...]:
        return tuple(finding for finding in super().check(api) if not finding.only_new)


CONDITION: dict[str, Any] = {
    "policies": [
        {
            "name": "set-headers",
            "params": {"request": {"headers": [{"name": "x-a", "value": "b"}]}},
            "condition": "request.method == 'GET'",
        }
    ]
}


async def serving_with_a_condition(directory: Path) -> dict[tuple[str, str], str]:
    """Two APIs below /orders, and one elsewhere; the first was deployed when conditions were ignored."""
    right = await deployed(directory)
    async with harness(directory) as at:
        at.position = await at.at.log.end("events", 0)
        at.sync.compiler.translators = {"envoy": Former(at.sync.translators["envoy"])}
        await at.do(publish("sales", spec("/sales/v1", **CONDITION)), deploy("sales"), ids=("p3", "d3"))
        await at.do(publish("sums", spec("/sales/sums")), deploy("sums"), ids=("p4", "d4"))
        assert versions(at).keys() > right.keys()
        return versions(at)


async def test_a_new_deployment_of_a_policy_with_a_condition_is_rejected(tmp_path: Path):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES)
        assert await at.do(publish(of=spec(**CONDITION)), deploy(), ids=("p1", "d1")) == set()
        assert at.facts() == [("d1", "refused")]
        assert at.reports[0].reason.startswith("unsupported: the condition of the policy set-headers")
        assert at.reports[0].reason.endswith("(/policies/0/condition)")


@pytest.mark.parametrize(
    "lost", ["", f"type = '{ROUTES}' AND name LIKE '%/sales'", f"type = '{SCOPED_ROUTES}'"]
)
async def test_an_api_that_serves_with_a_condition_serves_after_a_start(tmp_path: Path, lost: str):
    # Given an API of the time when conditions were ignored, and perhaps configuration that is missing
    right = await serving_with_a_condition(tmp_path)
    if lost:
        delete(tmp_path, lost)
    # When gateway sync of this version starts, and translates all APIs again
    async with harness(tmp_path) as at:
        at.sync.compiler.translators = at.sync.translators = {"envoy": Later(at.sync.translators["envoy"])}
        await at.sync.reconcile()
        # Then the API is served, and so is its neighbour below the same path
        assert versions(at).keys() == right.keys()
        assert at.deployments("sales") == [("sales", 1), ("sums", 1)]


async def test_an_api_that_serves_with_a_condition_is_in_the_way_of_no_other(tmp_path: Path):
    await serving_with_a_condition(tmp_path)
    async with harness(tmp_path) as at:
        await at.sync.reconcile()
        at.position = await at.at.log.end("events", 0)
        # When its neighbour below the same path changes, and it is itself deployed again
        more = spec("/sales/sums", operations=[{"method": "GET", "path": "/"}])
        await at.do(publish("sums", more), deploy("sums"), ids=("p5", "d5"))
        await at.do(
            publish("sales", spec("/sales/v1", hosts=["a.test"], **CONDITION)),
            deploy("sales"),
            ids=("p6", "d6"),
        )
        # Then the neighbour has its new revision, the API the one before, and the new one is rejected
        assert at.deployments("sales") == [("sales", 1), ("sums", 2)]
        assert at.facts() == [("d6", "refused")]


async def test_a_rejected_deployment_does_not_come_back_with_lost_configuration(tmp_path: Path):
    # Given a deployment that serves, and a later one that was rejected for its condition
    await deployed(tmp_path)
    async with harness(tmp_path) as at:
        at.position = await at.at.log.end("events", 0)
        await at.do(publish(of=spec(**CONDITION)), deploy(), ids=("p3", "d3"))
        assert at.facts() == [("d3", "refused")]
    delete(tmp_path, f"type = '{ROUTES}' AND name LIKE '%/orders'")
    async with harness(tmp_path) as at:
        await at.sync.reconcile()
        assert at.deployments("orders") == [("orders", 1)]
