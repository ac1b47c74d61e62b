"""Gateway sync with a unit that is split: what a change costs, and what is left after a restart or a loss."""

from pathlib import Path

import pytest

from gateways.config_resource import ConfigResource
from schemas.aggregates.deployment import StopDeployment
from schemas.message import Command
from streams.gateway_sync import unit_entries
from streams.gateway_sync.marks import removal
from tests.commands.shop import ORG, deploy, publish, spec
from tests.streams.test_gateway_sync import DEFAULT_RESOURCES, EAST, Harness, harness
from xds.scopes import part_named, route_name
from xds.types import CLUSTER, ROUTES, SCOPED_ROUTES

OTHER_URL = "http://127.0.0.1:9001"
NAMES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xds.translator.SPLIT_ABOVE", 2)
    monkeypatch.setattr("xds.translator.GROUPED_ABOVE", 3)


def publish_all(*names: str) -> list[Command]:
    return [publish(name, spec(f"/shop/{name}")) for name in names]


async def start(at: Harness, *names: str) -> None:
    """These APIs below one segment, deployed one after the other."""
    await at.do(*DEFAULT_RESOURCES, *publish_all(*names))
    await at.sync.reconcile()
    for name in names:
        await at.do(deploy(name), ids=(f"d-{name}",))


def changed(at: Harness) -> set[tuple[str, str, bool]]:
    """Type, unit or unit and API, and whether they exist."""
    return {
        (entry.type, "|".join(entry.name.rpartition("/")[2].split("|")[:2]), bool(entry.body))
        for entry in at.put
        if entry.gateway and entry.type != CLUSTER
    }


def parts(at: Harness) -> dict[str, str]:
    """The part of each API, and by the entries that all of it is there."""
    found = {
        entry.deployments[0].api: part_named(entry) for entry in at.store.entries(EAST) if part_named(entry)
    }
    led_to = {*found.values(), *groups(at)}
    required = {key for each in led_to for key in at.sync.compiler.part_resources(EAST, each)}
    if found:
        leading = [at.routes(name) for name in ("shop", *groups(at))]
        assert {key for each in leading for key in each.requires} == required
    served = {(entry.type, entry.name) for entry in at.store.entries(EAST)}
    assert {key for key in served if "|" in key[1]} == required
    assert all(needed in served for entry in at.store.entries(EAST) for needed in entry.requires)
    return found


def groups(at: Harness) -> list[str]:
    """The names of the groups of parts."""
    names = (name.rpartition("/")[2] for name in at.store.names(EAST, ROUTES))
    return [name for name in names if "||" in name]


async def test_a_unit_with_many_apis_is_split_and_reports_none_of_them_again(tmp_path: Path):
    async with harness(tmp_path) as at:
        await start(at, "a", "b")
        assert parts(at) == {}
        await at.do(*publish_all("c"))
        await at.do(deploy("c"), ids=("d-c",))
        assert sorted(parts(at)) == ["a", "b", "c"]
        assert at.facts() == [("d-c", "published")]
        assert at.deployments("shop") == [("a", 1), ("b", 1), ("c", 1)]


async def test_a_change_in_a_split_unit_touches_one_part(tmp_path: Path):
    async with harness(tmp_path) as at:
        await start(at, *NAMES)
        await at.do(publish("b", spec("/shop/b", OTHER_URL)), deploy("b"))
        assert changed(at) == {(ROUTES, "shop|b", True)}
        assert at.deployments("shop") == [("a", 1), ("b", 2), ("c", 1)]
        assert len(at.store.names(EAST, CLUSTER)) == 2
        await at.do(publish("b", spec("/shop/b")), deploy("b"))
        assert len(at.store.names(EAST, CLUSTER)) == 1


async def test_an_api_that_comes_moves_or_goes_changes_its_part_and_the_unit(tmp_path: Path):
    async with harness(tmp_path) as at:
        await start(at, *NAMES)
        before = parts(at)
        await at.do(publish("b", spec("/shop/x")), deploy("b"), ids=("p", "d-b2"))
        both = {(ROUTES, "shop|b", True), (SCOPED_ROUTES, "shop|b", True)}
        gone = {(ROUTES, "shop|b", False), (SCOPED_ROUTES, "shop|b", False)}
        assert changed(at) == both | gone | {(ROUTES, "shop", True)}
        assert parts(at).keys() == before.keys()
        assert parts(at)["b"] != before["b"]
        await at.do(StopDeployment(organization=ORG, name="d-b2"))
        assert changed(at) == gone | {(ROUTES, "shop", True)}
        await at.do(publish("a", spec("/elsewhere")), deploy("a"))
        assert at.deployments("elsewhere") == [("a", 2)]
        assert sorted(parts(at)) == ["c"]
        await at.do(StopDeployment(organization=ORG, name="d-c"))
        assert parts(at) == {}
        assert at.store.names(EAST, ROUTES) == [route_name(EAST, "elsewhere")]


async def test_a_split_unit_is_the_same_after_a_restart(tmp_path: Path):
    async with harness(tmp_path) as at:
        await start(at, *NAMES)
        before = parts(at)
    async with harness(tmp_path) as again:
        await again.sync.reconcile()
        assert changed(again) == set()
        again.position = again.sync.position
        await again.do(publish("b", spec("/shop/b", OTHER_URL)), deploy("b"), ids=("p", "d"))
        assert changed(again) == {(ROUTES, "shop|b", True)}
        await again.do(publish("d", spec("/shop/d")), deploy("d"), ids=("p2", "d2"))
        assert before.items() < parts(again).items()
        assert sorted(parts(again)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "lost", [(ROUTES, "shop|b"), (SCOPED_ROUTES, "shop|b"), (ROUTES, "shop"), (CLUSTER, "")]
)
async def test_an_entry_of_a_split_unit_that_is_lost_is_put_again(tmp_path: Path, lost: tuple[str, str]):
    async with harness(tmp_path) as at:
        await start(at, *NAMES)
        before = parts(at)
        last = [removal(e, 0) for e in at.store.entries(EAST) if is_entry(e, lost)]
        assert len(last) == 1
        await at.config.put(last)
    async with harness(tmp_path) as again:
        await again.sync.reconcile()
        assert parts(again) == before
        assert again.deployments("shop") == [("a", 1), ("b", 1), ("c", 1)]


def is_entry(entry: ConfigResource, of: tuple[str, str]) -> bool:
    name = entry.name.rpartition("/")[2]
    return entry.type == of[0] and (name == of[1] or ("|" in of[1] and name.startswith(of[1])) or not of[1])


async def test_a_refused_api_changes_no_other_one_of_a_split_unit(tmp_path: Path):
    async with harness(tmp_path) as at:
        await start(at, *NAMES)
        before = parts(at)
        refusable = spec("/shop/b", OTHER_URL)
        await at.do(publish("b", refusable), deploy("b"), publish("d", spec("/shop/d")), deploy("d"))
        for api_name in ("b", "d"):
            at.sync.rejected(EAST, "n", [at.carrier(api_name)], "no")
            await at.sync.drain_responses()
        assert parts(at) == before
        assert at.deployments("shop") == [("a", 1), ("b", 1), ("c", 1)]


async def test_an_api_that_cannot_be_compiled_stops_no_other_one_of_a_split_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("commands.api._unreachable", lambda url: None)
    async with harness(tmp_path) as at:
        await start(at, *NAMES)
        bad = spec("/shop/b", "http://127.0.0.1:99999")
        await at.do(publish("b", bad), deploy("b"), publish("d", spec("/shop/d")), deploy("d"))
        assert {fact for _, fact in at.facts()} == {"refused", "published"}
        assert at.deployments("shop") == [("a", 1), ("b", 1), ("c", 1), ("d", 1)]
        assert sorted(parts(at)) == ["a", "b", "c", "d"]


async def test_no_unit_is_split_while_proxies_may_serve_connections_with_an_older_listener(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    now = [1_000_000.0]
    monkeypatch.setattr(unit_entries, "time", lambda: now[0])
    async with harness(tmp_path) as at:
        await start(at, "a", "b")
        (listener,) = (e for e in at.store.entries(EAST) if e.type.endswith(".Listener"))
        await at.config.put([ConfigResource(**{**fields(listener), "version": "older", "body": b"older"})])
    async with harness(tmp_path) as again:
        again.sync.changes.units.clock = lambda: now[0]
        await again.sync.reconcile()
    async with harness(tmp_path) as third:
        third.sync.changes.units.clock = lambda: now[0]
        third.position = third.sync.position
        await third.do(*publish_all("c", "d"), deploy("c"), deploy("d"), ids=("p1", "p2", "d1", "d2"))
        assert parts(third) == {}
        now[0] += unit_entries.DRAIN_SECONDS
        await third.do(publish("b", spec("/shop/b", OTHER_URL)), deploy("b"), ids=("p3", "d3"))
        assert sorted(parts(third)) == ["a", "b", "c", "d"]
        assert third.facts() == [("d3", "published")]


@pytest.mark.parametrize("more", [(), ("d", "e")])
async def test_a_split_unit_becomes_whole_when_the_translator_splits_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
):
    async with harness(tmp_path) as at:
        await start(at, *NAMES, *more)
    monkeypatch.setattr("xds.translate.splittable", lambda: False)
    async with harness(tmp_path) as again:
        await again.sync.reconcile()
        assert (parts(again), groups(again)) == ({}, [])
        assert again.deployments("shop") == [(name, 1) for name in (*NAMES, *more)]
        assert again.facts() == []


async def test_parts_are_in_groups_when_they_are_many(tmp_path: Path):
    async with harness(tmp_path) as at:
        await start(at, "a1", "a2", "b1")
        assert (len(parts(at)), groups(at)) == (3, [])
        # The fourth one: groups for /shop/a and /shop/b
        await at.do(*publish_all("b2"), deploy("b2"), ids=("p", "d"))
        assert sorted(parts(at)) == ["a1", "a2", "b1", "b2"]
        assert len(groups(at)) == 2
        # A change touches its part, a new API its group, and one with another beginning the unit too
        await at.do(publish("b1", spec("/shop/b1", OTHER_URL)), deploy("b1"))
        assert changed(at) == {(ROUTES, "shop|b1", True)}
        await at.do(*publish_all("b3"), deploy("b3"), ids=("p3", "d3"))
        part = {(ROUTES, "shop|b3", True), (SCOPED_ROUTES, "shop|b3", True)}
        assert changed(at) == part | {(ROUTES, "shop|", True)}
        assert len(parts(at)) == 5
        await at.do(*publish_all("c1"), deploy("c1"), ids=("p4", "d4"))
        assert (ROUTES, "shop", True) in changed(at)
        assert len(groups(at)) == 3
        assert len(parts(at)) == 6
        # When there are few again there are no groups
        for name in ("d-a1", "d-a2", "d4"):
            await at.do(StopDeployment(organization=ORG, name=name))
            parts(at)
        assert groups(at) == []
        assert at.deployments("shop") == [("b1", 2), ("b2", 1), ("b3", 1)]


async def test_groups_are_the_same_after_a_restart(tmp_path: Path):
    names = ("a1", "a2", "b1", "b2", "c1")
    async with harness(tmp_path) as at:
        await start(at, *names)
        before, grouped = parts(at), sorted(groups(at))
        assert len(grouped) == 3
    async with harness(tmp_path) as again:
        await again.sync.reconcile()
        assert changed(again) == set()
        again.position = again.sync.position
        await again.do(StopDeployment(organization=ORG, name="d-a1"))
        assert changed(again) == {
            (ROUTES, "shop|a1", False), (SCOPED_ROUTES, "shop|a1", False), (ROUTES, "shop|", True)
        }  # fmt: skip
        assert before.items() > parts(again).items()
        assert sorted(groups(again)) == grouped
    async with harness(tmp_path) as third:
        await third.sync.reconcile()
        third.position = third.sync.position
        for name in ("d-b1", "d-b2"):
            await third.do(StopDeployment(organization=ORG, name=name))
        assert groups(third) == []
        assert sorted(parts(third)) == ["a2", "c1"]


@pytest.mark.parametrize("type", [ROUTES, SCOPED_ROUTES])
async def test_an_entry_of_a_group_that_is_lost_is_put_again(tmp_path: Path, type: str):
    async with harness(tmp_path) as at:
        await start(at, "a1", "a2", "b1", "b2")
        before, grouped = parts(at), sorted(groups(at))
        last = [removal(e, 0) for e in at.store.entries(EAST) if e.type == type and "||" in e.name]
        await at.config.put(last[:1])
    async with harness(tmp_path) as again:
        await again.sync.reconcile()
        assert parts(again) == before
        assert sorted(groups(again)) == grouped


async def test_there_are_no_groups_while_proxies_may_serve_connections_with_an_older_listener(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Given a unit that an earlier version split
    monkeypatch.setattr("xds.translator.GROUPED_ABOVE", 1_000)
    async with harness(tmp_path) as at:
        await start(at, "a1", "a2", "b1", "b2")
        (listener,) = (e for e in at.store.entries(EAST) if e.type.endswith(".Listener"))
        await at.config.put([ConfigResource(**{**fields(listener), "version": "older", "body": b"older"})])
    monkeypatch.setattr("xds.translator.GROUPED_ABOVE", 3)
    now = [1_000_000.0]
    async with harness(tmp_path) as again:
        again.sync.changes.units.clock = lambda: now[0]
        await again.sync.reconcile()
        again.position = again.sync.position
        # When APIs come before and after connections are drained
        await again.do(*publish_all("b3"), deploy("b3"), ids=("p3", "d3"))
        assert (len(parts(again)), groups(again)) == (5, [])
        now[0] += unit_entries.DRAIN_SECONDS
        await again.do(*publish_all("c1"), deploy("c1"), ids=("p4", "d4"))
        # Then there are groups
        assert (len(parts(again)), len(groups(again))) == (6, 3)
        assert again.facts() == [("d4", "published")]


def fields(entry: ConfigResource) -> dict[str, object]:
    return {name: getattr(entry, name) for name in ConfigResource.__dataclass_fields__}
