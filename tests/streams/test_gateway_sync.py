"""Gateway sync: what a change costs, what it leaves alone, and what becomes of a refusal."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from commands import api
from gateways.config_resource import ConfigResource
from gateways.translator import Translator
from gateways.upstream_access import own_network_ports
from schemas.aggregates.deployment import StopDeployment
from schemas.aggregates.environment import DefineEnvironment
from schemas.aggregates.gateway import ChangeGateway, RegisterGateway, RemoveGateway
from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from schemas.message import Command
from schemas.status import DeliveryReported
from signalbox.roles.gateway_sync import TRANSLATORS
from streams.compute_process import Compute, NoProcess
from streams.gateway_sync.sync import CREDENTIALS, GatewaySync
from streams.log import LogUnavailable
from streams.sqlite.config import SqliteConfigTopic
from tests.commands.shop import ORG, TOKEN, deploy, publish, spec
from tests.streams.decider_cases import Desk, desk, envelope
from xds.store import ResourceStore
from xds.types import CLUSTER, ROUTES, SCOPED_ROUTES

EAST = "organizations/acme/gateways/east"
DEFAULT_RESOURCES: tuple[Command, ...] = (
    DefineOrganization(organization=ORG, name=ORG),
    DefineProject(organization=ORG, name="shop"),
    DefineEnvironment(organization=ORG, name="development"),
    RegisterGateway(organization=ORG, name="east", environment="development", token_digest=TOKEN),
)
BROKEN = {"name": "api-key-auth"}


@dataclass
class Harness:
    """Decides commands and lets gateway sync follow; remembers what it put last."""

    at: Desk
    sync: GatewaySync
    store: ResourceStore
    config: SqliteConfigTopic
    put: list[ConfigResource] = field(default_factory=list[ConfigResource])
    reports: list[DeliveryReported] = field(default_factory=list[DeliveryReported])
    position: int = 0

    async def do(self, *commands: Command, ids: tuple[str, ...] = ()) -> set[tuple[str, str, bool]]:
        """The changed entries: type, short name and whether they exist."""
        self.put.clear()
        self.reports.clear()
        named = ids or tuple(f"c{self.position}-{i}" for i in range(len(commands)))
        outcomes = await self.at.decide(*(envelope(c, i) for c, i in zip(commands, named, strict=True)))
        assert all(o.accepted for o in outcomes), outcomes
        records = await self.at.log.read("events", 0, self.position, 1000)
        if records:
            await self.sync.sync(records)
            self.position = records[-1].position
        return self.changed()

    def changed(self) -> set[tuple[str, str, bool]]:
        return {
            (e.type, e.name.removeprefix(f"{EAST}/").split("-")[0], bool(e.body))
            for e in self.put
            if e.gateway
        }

    def facts(self) -> list[tuple[str, str]]:
        return [(r.deployment, r.fact) for r in self.reports]

    def deployments(self, segment: str) -> list[tuple[str, int]]:
        """APIs and revisions below a first path segment, in force on the gateway."""
        refs = {ref for entry in self.store.entries(EAST) for ref in entry.deployments}
        return sorted((ref.api, ref.revision) for ref in refs if ref.context.split("/")[1] == segment)

    def routes(self, segment: str) -> ConfigResource:
        entry = self.store.entry(EAST, ROUTES, f"{EAST}/routes/{segment}")
        assert entry is not None
        return entry

    def carrier(self, api: str) -> ConfigResource:
        """The entry that carries an API."""
        (entry,) = (e for e in self.store.entries(EAST) if any(ref.api == api for ref in e.deployments))
        return entry


@asynccontextmanager
async def harness(
    directory: Path, translator: Translator[Any] | None = None, compute: Compute | None = None
) -> AsyncIterator[Harness]:
    async with desk(directory) as at:
        config = await SqliteConfigTopic.open(directory)
        store = ResourceStore()
        try:
            sync = GatewaySync(
                log=at.log,
                config=config,
                translators={"envoy": translator} if translator else TRANSLATORS,
                current=store.entry,
                report=lambda messages: made.reports.extend(messages),
                probe_secret=lambda gateway: "secret",
                compiled=lambda entries, seconds: None,
                closed=own_network_ports("127.0.0.1", 18000),
                compute=compute or NoProcess(),
            )
            made = Harness(at, sync, store, config)
            async for entries in config.load():
                store.apply(entries)
                sync.load(entries)
            config.subscribe(lambda entries: made.put.extend(entries))
            config.subscribe(store.apply)
            yield made
        finally:
            await config.close()


async def test_a_gateway_gets_its_listener_and_its_credentials(tmp_path: Path):
    async with harness(tmp_path) as at:
        changed = await at.do(*DEFAULT_RESOURCES)
        assert {(type, exists) for type, _, exists in changed if type == CREDENTIALS} == {(CREDENTIALS, True)}
        assert len(changed) == 2


async def test_a_new_deployment_makes_its_own_resources_and_says_so(tmp_path: Path):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES)
        changed = await at.do(publish(), deploy(), ids=("p", "d1"))
        assert changed == {
            (CLUSTER, "upstreams/127.0.0.1", True),
            (ROUTES, "routes/orders", True),
            (SCOPED_ROUTES, "scopes/orders", True),
        }
        assert at.facts() == [("d1", "published")]


async def test_a_change_touches_only_the_changed_resources(tmp_path: Path):
    async with harness(tmp_path) as at:
        await at.do(
            *DEFAULT_RESOURCES, publish(), publish("carts", spec("/carts")), deploy(), deploy("carts")
        )
        more = spec(operations=[{"method": "GET", "path": "/{id}"}, {"method": "GET", "path": "/"}])
        assert await at.do(publish(of=more), deploy()) == {(ROUTES, "routes/orders", True)}


async def test_publishing_alone_changes_no_gateway(tmp_path: Path):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES)
        assert await at.do(publish()) == set()


async def test_an_upstream_stays_while_anybody_needs_it(tmp_path: Path):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish(), publish("carts", spec("/carts")))
        await at.do(deploy(), deploy("carts"), ids=("d1", "d2"))
        stop = StopDeployment(organization=ORG, name="d1")
        assert await at.do(stop) == {
            (ROUTES, "routes/orders", False),
            (SCOPED_ROUTES, "scopes/orders", False),
        }
        assert (CLUSTER, "upstreams/127.0.0.1", False) in await at.do(
            StopDeployment(organization=ORG, name="d2")
        )
        assert at.store.names(EAST, CLUSTER) == []


async def test_an_upstream_that_changes_hands_in_one_batch_stays(tmp_path: Path):
    one, two = "http://127.0.0.1:9001", "http://127.0.0.1:9002"
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish("a", spec("/a", one)), publish("b", spec("/b", two)))
        await at.do(deploy("a"), deploy("b"))
        await at.do(publish("a", spec("/a", two)), publish("b", spec("/b", one)))
        await at.do(deploy("a"), deploy("b"))
        assert len(at.store.names(EAST, CLUSTER)) == 2


async def test_a_failed_put_is_repeated_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish(), deploy(), ids=(*"abcd", "p", "d1"))
        put = at.sync.config.put

        async def full(entries: Sequence[ConfigResource]) -> None:
            raise LogUnavailable("disk full")

        monkeypatch.setattr(at.sync.config, "put", full)
        with pytest.raises(LogUnavailable):
            await at.do(StopDeployment(organization=ORG, name="d1"))
        monkeypatch.setattr(at.sync.config, "put", put)
        await at.sync.sync(await at.at.log.read("events", 0, at.position, 10))
        assert at.store.names(EAST, ROUTES) == at.store.names(EAST, CLUSTER) == []


async def test_apis_under_one_first_segment_share_a_route_configuration(tmp_path: Path):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish("a", spec("/shop/a")), publish("b", spec("/shop/b")))
        await at.do(deploy("a"), deploy("b"), ids=("d1", "d2"))
        assert at.deployments("shop") == [("a", 1), ("b", 1)]
        await at.do(StopDeployment(organization=ORG, name="d1"))
        assert at.deployments("shop") == [("b", 1)]


async def test_an_api_that_moves_leaves_nothing_behind(tmp_path: Path):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish(), deploy())
        changed = await at.do(publish(of=spec("/sales")), deploy())
        assert {(ROUTES, "routes/orders", False), (ROUTES, "routes/sales", True)} <= changed


async def test_an_unsupported_revision_is_refused_and_the_last_revision_stays(tmp_path: Path):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish(), deploy())
        assert await at.do(publish(of=spec(policies=[BROKEN])), deploy(), ids=("p", "d2")) == set()
        assert at.facts() == [("d2", "refused")]
        assert at.reports[0].reason.startswith("unsupported: the policy api-key-auth")
        assert at.reports[0].reason.endswith("(/policies/0)")
        assert at.deployments("orders") == [("orders", 1)]


@pytest.mark.parametrize("url", ["http://169.254.169.254", "http://127.0.0.1:18000", "http://0.0.0.0:9000"])
async def test_an_upstream_that_the_gateway_may_not_reach_is_refused(tmp_path: Path, url: str):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish(of=spec(url=url)), deploy(), ids=(*"abcd", "p", "d1"))
        assert at.facts() == [("d1", "refused")]
        assert "the upstream" in at.reports[0].reason
        assert at.deployments("orders") == []


async def test_an_upstream_that_the_gateway_allows_is_served(tmp_path: Path):
    async with harness(tmp_path) as at:
        await at.do(
            *DEFAULT_RESOURCES,
            DefineEnvironment(organization=ORG, name="staging"),
            ChangeGateway(
                organization=ORG, name="east", environment="staging", allowed_upstreams=("127.0.0.1",)
            ),
            publish(),
            deploy(),
            ids=(*"abcdef", "p", "d1"),
        )
        assert at.facts() == [("d1", "published")]
        assert at.deployments("orders") == [("orders", 1)]


async def test_an_api_without_hosts_of_an_older_version_is_refused_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with harness(tmp_path) as at:
        with monkeypatch.context() as older:
            older.setattr(api, "inconsistencies", lambda spec: ())
            await at.do(*DEFAULT_RESOURCES, publish(of=spec(hosts=[])), deploy(), ids=(*"abcd", "p", "d1"))
        assert at.facts() == [("d1", "refused")]
        assert "an API without a host" in at.reports[0].reason
        await at.do(publish(), deploy(), ids=("e", "d2"))
        assert at.facts()[-1] == ("d2", "published")


async def test_a_deployment_that_cannot_be_compiled_is_refused_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Such an event may be on a register since before publishing was as strict as it is.
    monkeypatch.setattr("commands.api._unreachable", lambda url: None)
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish(), publish("bad", spec("/bad", "http://127.0.0.1:99999")))
        await at.do(deploy("bad"), deploy(), ids=("d1", "d2"))
        assert at.facts() == [("d1", "refused"), ("d2", "published")]
        assert at.deployments("bad") == []


async def test_a_gateway_that_was_removed_while_gateway_sync_was_stopped_leaves_nothing_behind(
    tmp_path: Path,
):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish(), deploy(), ids=(*"abcd", "p", "d1"))
        gone = (StopDeployment(organization=ORG, name="d1"), RemoveGateway(organization=ORG, name="east"))
        await at.at.decide(*(envelope(command) for command in gone))
    async with harness(tmp_path) as again:
        await again.sync.sync(await again.at.log.read("events", 0, again.sync.position, 10))
        assert again.store.entries(EAST) == []


async def test_a_changed_gateway_changes_its_apis(tmp_path: Path):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish(), deploy())
        silent = ChangeGateway(organization=ORG, name="east", revision_header=False)
        assert (ROUTES, "routes/orders", True) in await at.do(silent)


async def test_a_gateway_that_changed_while_gateway_sync_was_stopped_changes_its_apis(tmp_path: Path):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish(), deploy())
        silent = ChangeGateway(organization=ORG, name="east", revision_header=False)
        await at.at.decide(envelope(silent))
    async with harness(tmp_path) as again:
        await again.sync.sync(await again.at.log.read("events", 0, again.sync.position, 10))
        assert (ROUTES, "routes/orders", True) in again.changed()


async def test_an_acknowledgement_is_kept_when_nothing_else_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("streams.gateway_sync.sync.NOTES_SECONDS", 0.0)
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish(), deploy())
        kept = asyncio.Event()
        at.config.subscribe(lambda entries: kept.set())
        at.sync.acknowledged(EAST, "n", [at.routes("orders")])
        repairing = asyncio.create_task(at.sync.run_responses())
        await kept.wait()
        repairing.cancel()
        await asyncio.gather(repairing, return_exceptions=True)
    async with harness(tmp_path) as again:
        again.sync.rejected(EAST, "n", [again.routes("orders")])
        await again.sync.drain_responses()
        assert again.deployments("orders") == [("orders", 1)]
