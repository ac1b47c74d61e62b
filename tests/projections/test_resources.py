"""Given events, these are the rows, now and as of then."""

from typing import Any

import pytest
from sqlalchemy import Connection, event

from projections.queries import ReadModels
from projections.store import Store
from schemas.aggregates.api import API, Document
from schemas.aggregates.deployment import DEPLOYMENT
from schemas.aggregates.organization import ORGANIZATION, OrganizationDefined
from schemas.aggregates.project import PROJECT
from tests.projections.conftest import Happen
from tests.projections.events import (
    at,
    deleted,
    project,
    project_deleted,
    published,
    started,
    stopped,
    superseded,
)

(REVISIONS,) = API.parts


async def test_an_api_shows_its_newest_revision(happen: Happen, ask: ReadModels):
    happen(published(revision=1), published(revision=2))

    row = await ask.get(API, "acme", "orders")

    assert row is not None
    assert (row.version, row.position, row.since, row.created) == (2, 2, at(2), at(1))
    assert row.document == {"name": "orders", **_fields(published(revision=2).data())}
    API.view.model_validate(row.document)


async def test_the_same_events_in_several_batches_give_the_same(happen: Happen, ask: ReadModels):
    happen(published(revision=1))
    happen(published(revision=2))

    row = await ask.get(API, "acme", "orders")

    assert row is not None
    assert (row.version, row.document["revision"], row.document["spec"]["version"]) == (2, 2, "v2")


async def test_a_field_that_an_event_leaves_out_is_cleared(happen: Happen, ask: ReadModels):
    document = Document(sha256="0" * 64, size=10, form="signalbox.io/v1")
    happen(published(revision=1, document=document), published(revision=2))

    now, then = await ask.get(API, "acme", "orders"), await ask.get(API, "acme", "orders", as_of=1)

    assert now is not None
    assert then is not None
    assert "document" not in now.document
    assert then.document["document"] == document.model_dump()


async def test_an_organization_refers_to_the_documents_of_its_revisions(happen: Happen, ask: ReadModels):
    first, second = (Document(sha256=c * 64, size=10, form="signalbox.io/v1") for c in "ab")
    happen(published(document=first), published(revision=2, document=second), published("carts"), deleted())
    happen(published(organization="other", document=second))

    async def referred(organization: str) -> list[bool]:
        return [await ask.refers_to_document(organization, c * 64) for c in "abc"]

    assert await referred("acme") == [True, True, False]
    assert await referred("other") == [False, True, False]
    assert await referred("nobody") == [False, False, False]


async def test_as_of_a_position_or_a_time(happen: Happen, ask: ReadModels):
    happen(published(revision=1), project("other"), published(revision=2), deleted())

    async def revision(as_of: int | str | None) -> int | None:
        row = await ask.get(API, "acme", "orders", as_of=as_of)
        return None if row is None else row.document["revision"]

    assert [await revision(p) for p in (0, 1, 2, 3, 4, 99, None)] == [None, 1, 1, 2, None, None, None]
    assert [await revision(at(s)) for s in (0.9, 1, 2.9, 3, 3.9, 4)] == [None, 1, 1, 2, 2, None]
    assert await revision("2027-01-15T09:00:02+01:00") == 1
    assert await revision("3") == 2
    assert [await revision(p) for p in (10**30, "9" * 30)] == [None, None]
    assert await revision("0999-01-01T00:00:00Z") is None
    for nonsense in ("yesterday", "2026-01-01T00:00:00", "-1", "0001-01-01T00:00:00+14:00", "9" * 5000):
        with pytest.raises(ValueError, match="neither a position nor an RFC 3339 time"):
            await revision(nonsense)


async def test_a_resource_made_again_counts_its_versions_on_and_is_new(happen: Happen, ask: ReadModels):
    happen(published(revision=1), deleted())
    assert await ask.get(API, "acme", "orders") is None

    happen(published(revision=1))

    row = await ask.get(API, "acme", "orders")
    assert row is not None
    assert (row.version, row.created, row.document["revision"]) == (3, at(3), 1)


@pytest.mark.parametrize("batches", [1, 3])
async def test_revisions_are_entries_that_live_as_long_as_their_api(
    happen: Happen, ask: ReadModels, batches: int
):
    events = [published(revision=1), published(revision=2), deleted(), published(revision=1, project="new")]
    for i in range(0, 4, 4 // batches):
        happen(*events[i : i + 4 // batches])

    first = await ask.part(API, REVISIONS, "acme", "orders", 1)
    assert first is not None
    assert (first.name, first.version, first.position, first.since) == ("1", 4, 4, at(4))
    assert first.document == {"name": "orders", **_fields(events[3].data())}
    assert await ask.part(API, REVISIONS, "acme", "orders", 2) is None
    second = await ask.part(API, REVISIONS, "acme", "orders", 2, as_of=2)
    assert second is not None
    assert second.document["spec"]["version"] == "v2"
    assert (await ask.parts(API, REVISIONS, "acme", "orders", as_of=3)).rows == ()
    then = await ask.parts(API, REVISIONS, "acme", "orders", as_of=at(2))
    assert [r.name for r in then.rows] == ["1", "2"]


async def test_lists_page_by_name_with_a_cursor(happen: Happen, ask: ReadModels):
    happen(*(project(n) for n in ("e", "b", "d", "a", "c")), project_deleted("d"), project("z", "", "other"))

    names: list[str] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = await ask.list(PROJECT, "acme", limit=2, cursor=cursor)
        assert page.position == 7
        names += [r.name for r in page.rows]
        cursor, pages = page.next_cursor, pages + 1

    assert (names, pages) == (["a", "b", "c", "e"], 2)
    assert [r.name for r in (await ask.list(PROJECT, "acme", as_of=5)).rows] == ["a", "b", "c", "d", "e"]
    for wrong in ("?", "bm9uc2Vuc2U", "WzFd"):
        with pytest.raises(ValueError, match="not one of this list"):
            await ask.list(PROJECT, "acme", cursor=wrong)
    with pytest.raises(ValueError, match="between 1 and"):
        await ask.list(PROJECT, "acme", limit=0)


@pytest.mark.parametrize("cursor", ["WyJhIl0", "?", "é", "WzEwMDAwMDAwMDAwMDAwMDAwMDAwMDAwXQ"])
async def test_parts_take_their_own_cursors_only(happen: Happen, ask: ReadModels, cursor: str):
    happen(*(published(revision=r) for r in (1, 2, 3)))

    first = await ask.parts(API, REVISIONS, "acme", "orders", limit=2)
    rest = await ask.parts(API, REVISIONS, "acme", "orders", limit=2, cursor=first.next_cursor)

    assert [r.name for r in (*first.rows, *rest.rows)] == ["1", "2", "3"]
    assert rest.next_cursor is None
    with pytest.raises(ValueError, match="not one of this list"):
        await ask.parts(API, REVISIONS, "acme", "orders", cursor=cursor)


async def test_lists_can_be_narrowed_by_a_field(happen: Happen, ask: ReadModels):
    happen(
        started("d1", api="orders"), started("d2", api="payments"), started("d3", api="orders", revision=2)
    )

    async def names(**where: str) -> list[str]:
        return [r.name for r in (await ask.list(DEPLOYMENT, "acme", where=where)).rows]

    assert await names(api="orders") == ["d1", "d3"]
    assert await names(api="orders", revision="2") == ["d3"]
    assert await names(api="orders", name="d1") == ["d1"]
    assert await names(api="nobody") == []
    with pytest.raises(ValueError, match="no field 'colour'"):
        await names(colour="red")


async def test_deployments_are_narrowed_by_their_gateway_and_state(happen: Happen, ask: ReadModels):
    happen(
        started("d1", ("a", "b")),
        started("d2", ("b",), api="payments"),
        started("d3", ("a", "b")),
        superseded("d1", "d3", ("a",)),
        superseded("d2", "d4"),
    )

    async def names(as_of: int | None = None, **where: str) -> list[str]:
        return [r.name for r in (await ask.list(DEPLOYMENT, "acme", where=where, as_of=as_of)).rows]

    assert await names(gateways="b") == ["d3"]
    assert await names(gateways="a", api="orders", state="active") == ["d1", "d3"]
    assert await names(gateways="b", as_of=3) == ["d1", "d2", "d3"]
    assert await names(state="superseded") == ["d2"]
    assert await names(gateways="c") == []


@pytest.mark.parametrize(
    ("where", "index"),
    [
        ({"state": "active"}, "state"),
        ({"gateways": "a", "state": "active"}, "state"),
        ({"api": "orders"}, "api"),
        ({"state": "active", "api": "orders"}, "api"),
    ],
)
async def test_filters_use_an_index(
    happen: Happen, ask: ReadModels, store: Store, where: dict[str, str], index: str
):
    happen(started("d1"))
    plans: list[str] = []

    def explain(connection: Connection, _: Any, statement: str, parameters: Any, *__: Any) -> None:
        if "deployments" in statement and not plans:
            cursor: Any = connection.connection.cursor()
            if store.shared:
                cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"EXPLAIN {'' if store.shared else 'QUERY PLAN '}{statement}", parameters)
            plans.append(str(cursor.fetchall()))
            cursor.close()

    event.listen(store.reader, "before_cursor_execute", explain)
    await ask.list(DEPLOYMENT, "acme", where=where)

    assert f"_deployments_{index} " in plans[0]


async def test_organizations_are_listed_across(happen: Happen, ask: ReadModels):
    happen(*(OrganizationDefined(organization=n, name=n) for n in ("beta", "acme")))

    assert [r.name for r in (await ask.list(ORGANIZATION, "acme")).rows] == ["acme", "beta"]
    row = await ask.get(ORGANIZATION, "whatever", "beta")
    assert row is not None
    assert row.document == {"name": "beta", "display_name": ""}


async def test_a_deployment_merges_its_events(happen: Happen, ask: ReadModels):
    happen(started("d1", ("a", "b")), superseded("d1", "d2", ("b",)), stopped("d1"))

    row = await ask.get(DEPLOYMENT, "acme", "d1", as_of=2)
    assert row is not None
    assert (row.document["gateways"], row.document["by"], row.document["state"]) == (["b"], "d2", "active")
    assert row.document["requested_at"] == at(0.5)
    row = await ask.get(DEPLOYMENT, "acme", "d1")
    assert row is not None
    assert (row.document["gateways"], row.document["state"], row.version) == ([], "stopped", 3)
    DEPLOYMENT.view.model_validate(row.document)


def _fields(data: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in data.items() if name not in ("organization", "name")}


async def test_text_with_nul_in_an_event_of_an_older_version_is_kept(happen: Happen, ask: ReadModels):
    happen(project("shop", "a\0b\\u0000c"), project("other"))
    happen(project("shop", "then"), project("shop", "\0"))

    first, last = await ask.get(PROJECT, "acme", "shop", as_of=1), await ask.get(PROJECT, "acme", "shop")

    assert first is not None
    assert last is not None
    assert (first.document["display_name"], last.document["display_name"]) == ("a\ufffdb\\u0000c", "\ufffd")
    assert last.version == 3
