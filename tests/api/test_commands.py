"""Any command as a CloudEvent, and history as CloudEvents."""

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.ports import Settings
from api.routers.event_stream import CHUNK
from tests.api.problem import problem
from tests.api.running_api import ACME, ORG, RunningApi
from tests.support.hang_guard import HANG_SECONDS

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


def define(name: str, **attributes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"define-{name}",
        "source": "/teams/shop",
        "type": "io.signalbox.project.command.define.v1",
        "data": {"organization": "default", "name": name},
        **attributes,
    }


async def post(signalbox: RunningApi, event: Any, media: str = STRUCTURED, **headers: str) -> httpx.Response:
    return await signalbox.client.post(
        f"{ORG}/commands", json=event, headers={"Content-Type": media, "Prefer": "wait=10", **headers}
    )


async def test_a_structured_event_is_decided_and_signed_with_the_callers_name(signalbox: RunningApi) -> None:
    answer = await post(signalbox, define("shop"))
    assert answer.status_code == 200
    assert answer.json()["state"] == "accepted"
    assert answer.headers["location"] == "/api/v1/operations/define-shop"
    record = await signalbox.log.find("commands", ("default", "define-shop"))
    assert record is not None
    assert (record.envelope.source, record.envelope.authid) == ("/teams/shop", "admin")
    assert record.envelope.subject == "organizations/default/projects/shop"
    event = (await signalbox.log.read_subject("events", record.envelope.subject))[0].envelope
    assert (event.causationid, event.authid) == ("define-shop", "admin")


async def test_an_event_keeps_its_own_trace_unless_the_request_names_one(signalbox: RunningApi) -> None:
    own, other = (f"00-{digit * 32}-{digit * 16}-01" for digit in "ab")
    await post(signalbox, define("shop", traceparent=own))
    await post(signalbox, define("sales", traceparent=own), traceparent=other)
    for name, trace in (("shop", own), ("sales", other)):
        record = await signalbox.log.find("commands", ("default", f"define-{name}"))
        assert record is not None and record.envelope.traceparent == trace


async def test_no_caller_signs_for_another_one(signalbox: RunningApi) -> None:
    await post(signalbox, define("shop", authid="root", authtype="system", sequence="7", previoushash="0"))
    record = await signalbox.log.find("commands", ("default", "define-shop"))
    assert record is not None
    assert (record.envelope.authid, record.envelope.sequence) == ("admin", "")


async def test_a_binary_event(signalbox: RunningApi) -> None:
    answer = await signalbox.client.post(
        f"{ORG}/commands",
        json={"organization": "default", "name": "shop"},
        headers={
            "ce-specversion": "1.0",
            "ce-id": "binary",
            "ce-source": "/teams/shop",
            "ce-type": "io.signalbox.project.command.define.v1",
            "Prefer": "wait=10",
        },
    )
    assert answer.status_code == 200, answer.text
    params = {"min_position": answer.headers["signalbox-position"]}
    assert (await signalbox.client.get(f"{ORG}/projects/shop", params=params)).status_code == 200


async def test_a_batch_is_handed_in_together(signalbox: RunningApi) -> None:
    answer = await post(signalbox, [define("a"), define("b")], BATCH)
    assert answer.status_code == 200
    assert [i["state"] for i in answer.json()["items"]] == ["accepted", "accepted"]
    empty = await post(signalbox, [], BATCH)
    assert empty.json() == {"items": []}


async def test_a_batch_with_one_wrong_command_is_refused_whole(signalbox: RunningApi) -> None:
    end = await signalbox.log.end("commands", 0)
    wrong = define("b", data={"organization": "default", "name": "b", "colour": "red"})
    answer = await post(signalbox, [define("a"), wrong, define("a")], BATCH)
    output = problem(answer, 422, "invalid-command")
    assert [e["pointer"] for e in output["errors"]] == ["/1/data/colour", "/2/id"]
    assert await signalbox.log.end("commands", 0) == end


async def test_the_same_event_again_gets_the_first_answer(signalbox: RunningApi) -> None:
    first = await post(signalbox, define("shop"))
    again = await post(signalbox, define("shop"))
    assert again.json() == first.json()
    other = define("shop", data={"organization": "default", "name": "store"})
    problem(await post(signalbox, other), 422, "idempotency-key-reused")


async def test_a_rejected_command_is_a_problem(signalbox: RunningApi) -> None:
    stale = define("shop", data={"organization": "default", "name": "shop", "expected_version": 3})
    problem(await post(signalbox, stale), 412, "stale-version")


@pytest.mark.parametrize(
    ("event", "status", "rule", "pointer"),
    [
        ([], 400, "not-a-cloudevent", ""),
        ({}, 400, "not-a-cloudevent", "/specversion"),
        (define("a", time="yesterday"), 400, "not-a-cloudevent", "/time"),
        (define("a", type="io.signalbox.none.v1"), 422, "unknown-command", "/type"),
        (define("a", type="io.signalbox.project.defined.v1"), 422, "unknown-command", "/type"),
        (define("a", id="a b"), 422, "invalid-command", "/id"),
        (define("a", subject="other"), 422, "invalid-command", "/subject"),
        (define("a", partitionkey="acme"), 422, "invalid-command", "/partitionkey"),
        (define("a", data={"organization": "acme", "name": "a"}), 403, "forbidden", "/data/organization"),
        (define("a", data={"organization": "default"}), 422, "invalid-command", "/data/name"),
        (define("a", data="text"), 400, "not-a-cloudevent", "/data"),
    ],
)
async def test_events_that_are_no_commands(
    signalbox: RunningApi, event: Any, status: int, rule: str, pointer: str
) -> None:
    output = problem(await post(signalbox, event), status, rule)
    assert output["errors"][0]["pointer"] == pointer


async def test_other_media_types_are_refused(signalbox: RunningApi) -> None:
    problem(await post(signalbox, define("a"), "application/avro"), 415, "unsupported-media-type")
    problem(await post(signalbox, define("a"), "application/json"), 415, "not-a-cloudevent")


async def test_history_is_a_batch_of_cloudevents_in_order(signalbox: RunningApi) -> None:
    answer = await signalbox.client.get(f"{ORG}/events")
    assert answer.headers["content-type"] == BATCH
    events = answer.json()
    assert [e["type"] for e in events] == [
        "io.signalbox.organization.defined.v1",
        "io.signalbox.environment.defined.v1",
        "io.signalbox.project.defined.v1",
        "io.signalbox.gateway.registered.v1",
    ]
    assert all(e["partitionkey"] == "default" for e in events)


async def test_history_is_filtered_and_paged(signalbox: RunningApi) -> None:
    first = await signalbox.client.get(f"{ORG}/events?limit=3")
    assert len(first.json()) == 3
    rest = await signalbox.client.get(first.links["next"]["url"])
    assert [e["type"] for e in rest.json()] == ["io.signalbox.gateway.registered.v1"]
    assert "next" not in rest.links
    subject = {"subject": "organizations/default/gateways/local"}
    of = await signalbox.client.get(f"{ORG}/events", params=subject)
    assert [e["subject"] for e in of.json()] == [subject["subject"]]
    type_ = {"type": "io.signalbox.project.defined.v1"}
    assert len((await signalbox.client.get(f"{ORG}/events", params=type_)).json()) == 1
    end = await signalbox.log.end("events", 0)
    assert (await signalbox.client.get(f"{ORG}/events", params={"after": f"0:{end}"})).json() == []


async def test_history_shows_no_other_tenants_events(signalbox: RunningApi) -> None:
    mine = {"Authorization": f"Bearer {ACME}"}
    answer = await signalbox.client.get("/api/v1/organizations/acme/events", headers=mine)
    assert [e["partitionkey"] for e in answer.json()] == ["acme"]
    params = {"subject": "organizations/default/gateways/local"}
    other = await signalbox.client.get("/api/v1/organizations/acme/events", params=params, headers=mine)
    assert other.json() == []


def events_of(text: str) -> list[tuple[int, str]]:
    """Ids and data types of the server-sent events that carry data."""
    found: list[tuple[int, str]] = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append((int(fields["id"]), httpx.Response(200, text=fields["data"]).json()["type"]))
    return found


async def test_a_stream_that_does_not_follow_ends_at_the_end(signalbox: RunningApi) -> None:
    answer = await signalbox.client.get(f"{ORG}/events?follow=false", headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = events_of(answer.text)
    assert [t for _, t in events][-1] == "io.signalbox.gateway.registered.v1"
    resumed = await signalbox.client.get(
        f"{ORG}/events?follow=false",
        headers={"Accept": "text/event-stream", "Last-Event-ID": str(events[-2][0])},
    )
    assert events_of(resumed.text) == events[-1:]


class Listener:
    """An ASGI client of a stream that can read on and leave."""

    def __init__(self) -> None:
        self.chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            await self.chunks.put(message["body"])

    async def until(self, text: bytes) -> bytes:
        seen = b""
        async with asyncio.timeout(HANG_SECONDS):
            while text not in seen:
                seen += await self.chunks.get()
        return seen


def _stream(signalbox: RunningApi, listener: Listener, after: int) -> "asyncio.Task[None]":
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": f"{ORG}/events",
        "query_string": f"after={after}".encode(),
        "headers": [(b"authorization", b"Bearer admin-token"), (b"accept", b"text/event-stream")],
        "root_path": "",
    }

    async def listen() -> None:
        await signalbox.app(scope, listener.receive, listener.send)

    return asyncio.create_task(listen())


async def test_a_live_stream_shows_new_events_and_ends_with_the_process(signalbox: RunningApi) -> None:
    listener = Listener()
    stream = _stream(signalbox, listener, await signalbox.log.end("events", 0))
    await listener.until(b"retry:")
    await signalbox.put(f"{ORG}/projects/shop")
    seen = await listener.until(b"projects/shop")
    assert f"id: {await signalbox.log.end('events', 0)}\n".encode() in seen
    signalbox.services.stopping.set()
    async with asyncio.timeout(HANG_SECONDS):
        await stream


async def test_a_live_stream_ends_when_its_client_leaves(signalbox: RunningApi) -> None:
    listener = Listener()
    stream = _stream(signalbox, listener, 0)
    await listener.until(b"gateways/local")
    listener.left.set()
    async with asyncio.timeout(HANG_SECONDS):
        await stream


async def test_a_slow_reader_slows_the_reading(
    signalbox: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is gathered for a client that does not read: the stream waits in `send`."""
    reads = 0
    read = signalbox.log.read
    stuck = asyncio.Event()

    async def counted(*args: Any) -> Any:
        nonlocal reads
        reads += args[0] == "events" and args[3] == CHUNK  # the stream's own
        return await read(*args)

    monkeypatch.setattr(signalbox.log, "read", counted)
    listener = Listener()

    async def send(message: Any) -> None:
        if b"data:" in message.get("body", b""):
            stuck.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(listener, "send", send)
    stream = _stream(signalbox, listener, 0)
    async with asyncio.timeout(HANG_SECONDS):
        await stuck.wait()
    before = reads
    await signalbox.put(f"{ORG}/projects/a")
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream
    assert reads == before


async def test_quiet_streams_are_kept_alive_and_move_the_clients_position(signalbox: RunningApi) -> None:
    signalbox.app = create_app(replace(signalbox.services, settings=Settings(heartbeat_seconds=0.01)))
    listener = Listener()
    end = await signalbox.log.end("events", 0)
    stream = _stream(signalbox, listener, end)
    assert f"id: {end}\n\n".encode() in await listener.until(b": keep-alive")
    listener.left.set()
    async with asyncio.timeout(HANG_SECONDS):
        await stream


async def test_a_batch_does_not_find_another_organizations_command(signalbox: RunningApi) -> None:
    await post(signalbox, define("secret"))
    mine = {**define("mine"), "id": "define-secret", "data": {"organization": "acme", "name": "mine"}}
    answer = await signalbox.client.post(
        "/api/v1/organizations/acme/commands",
        json=[mine],
        headers={"Authorization": f"Bearer {ACME}", "Content-Type": BATCH, "Prefer": "wait=10"},
    )
    (item,) = answer.json()["items"]
    assert (item["state"], item["subject"]) == ("accepted", "organizations/acme/projects/mine")


@pytest.mark.parametrize("value", ["x" * 5_000, "line\nbreak"])
async def test_a_correlation_id_that_history_cannot_carry_is_refused(
    signalbox: RunningApi, value: str
) -> None:
    answer = await post(signalbox, define("shop", correlationid=value))
    refused = problem(answer, 422, "invalid-command")
    assert [e["pointer"] for e in refused["errors"]] == ["/correlationid"]
