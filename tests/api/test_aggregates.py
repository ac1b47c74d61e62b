"""What single aggregates have over HTTP besides."""

from typing import Any

from schemas.codecs.canonical import sha256_hex
from schemas.status import DeliveryReported, NodeReported, Status
from tests.api.problem import problem
from tests.api.running_api import ORG, RunningApi


async def test_registering_a_gateway_answers_its_token_once_and_keeps_its_digest_alone(
    signalbox: RunningApi,
) -> None:
    made = await signalbox.post(f"{ORG}/gateways", {"name": "edge", "port": 8001})
    assert made.status_code == 201
    assert made.headers["location"] == f"{ORG}/gateways/edge"
    token = made.json()["token"]
    records = await signalbox.log.read_subject("events", "organizations/default/gateways/edge")
    assert records[0].envelope.data["token_digest"] == sha256_hex(token.encode())
    read = await signalbox.client.get(f"{ORG}/gateways/edge")
    assert read.json()["port"] == 8001
    assert read.json()["nodes"] == []
    assert "token" not in read.text
    twice = await signalbox.post(f"{ORG}/gateways", {"name": "edge"})
    problem(twice, 409, "already-exists")
    assert "token" not in twice.text
    own = await signalbox.post(f"{ORG}/gateways", {"name": "other", "token_digest": "0" * 64})
    assert problem(own, 422, "invalid-command")["errors"][0]["pointer"] == "/token_digest"


async def test_a_gateway_compares_its_nodes_with_the_deployments_in_force(
    signalbox: RunningApi,
) -> None:
    for name in ("orders", "pets"):
        await signalbox.publish(name)
        made = await signalbox.post(
            f"{ORG}/deployments", {"name": f"d-{name}", "api": name, "gateway": "local"}
        )
        assert made.status_code == 201, made.text
    reported: dict[str, Any] = {
        "organization": "default",
        "name": "local",
        "at": "2026-11-21T09:30:00.000000Z",
        "node": "n1",
    }
    message: list[Status] = [
        NodeReported(**reported, connected=True, agent="envoy 1.40.0"),
        DeliveryReported(**reported, deployment="d-orders", fact="acknowledged"),
        DeliveryReported(**reported, deployment="d-pets", fact="refused", reason="bad regex"),
    ]
    await signalbox.report(*message)

    shown = (await signalbox.client.get(f"{ORG}/gateways/local")).json()

    (node,) = shown["nodes"]
    assert node["deployments"] == {"desired": 2, "acknowledged": 1, "refused": 1, "pending": 0, "withheld": 0}
    assert shown["deployments"] == {"desired": 2, "refused": 1, "withheld": 0}
    (refusal,) = shown["refusals"]
    assert refusal == {
        "deployment": "d-pets",
        "api": "pets",
        "revision": 1,
        "reason": "bad regex",
        "at": reported["at"],
        "nodes": 1,
        "refused_by": "n1",
        "withheld": False,
    }

    then = (await signalbox.client.get(f"{ORG}/gateways/local?as_of=4")).json()
    assert "refusals" not in then


async def test_a_gateway_is_changed_by_put(signalbox: RunningApi) -> None:
    changed = await signalbox.put(f"{ORG}/gateways/local", {"port": 9000}, If_Match="*")
    assert (changed.status_code, changed.json()["port"]) == (200, 9000)
    problem(await signalbox.put(f"{ORG}/gateways/none", {"port": 9000}), 404, "not-found")


async def test_a_deployment_shows_its_facts(signalbox: RunningApi) -> None:
    await signalbox.publish("orders")
    made = await signalbox.post(f"{ORG}/deployments", {"api": "orders", "gateway": "local"})
    assert made.status_code == 201, made.text
    id = made.json()["name"]
    assert made.headers["location"] == f"{ORG}/deployments/{id}"
    read = await signalbox.client.get(f"{ORG}/deployments/{id}")
    facts = read.json()["status"]["facts"]
    assert facts["requested"] <= facts["decided"]
    assert facts["acknowledged"] is None
    page = await signalbox.client.get(f"{ORG}/deployments", params={"api": "orders", "state": "active"})
    assert [i["name"] for i in page.json()["items"]] == [id]
    assert page.json()["items"][0]["status"]["facts"] == facts
    none = await signalbox.client.get(f"{ORG}/deployments", params={"api": "orders", "state": "stopped"})
    assert none.json()["items"] == []


async def test_deploying_a_running_revision_answers_the_deployment_that_runs_it(
    signalbox: RunningApi,
) -> None:
    await signalbox.publish("orders")
    first = await signalbox.post(f"{ORG}/deployments", {"api": "orders", "gateway": "local"})
    again = await signalbox.post(f"{ORG}/deployments", {"api": "orders", "gateway": "local"})
    assert again.status_code == 200
    assert again.headers["location"] == first.headers["location"]
    assert again.json()["name"] == first.json()["name"]


async def test_a_deployment_is_stopped_by_delete(signalbox: RunningApi) -> None:
    await signalbox.publish("orders")
    made = await signalbox.post(f"{ORG}/deployments", {"api": "orders", "gateway": "local"})
    where = made.headers["location"]
    stopped = await signalbox.delete(where, If_Match=made.headers["etag"])
    assert stopped.status_code == 200
    assert (await signalbox.client.get(where)).json()["state"] == "stopped"
    problem(await signalbox.delete(where, If_Match="*"), 404, "not-found")


async def test_a_deployment_needs_one_target_that_exists(signalbox: RunningApi) -> None:
    await signalbox.publish("orders")
    both = await signalbox.post(
        f"{ORG}/deployments", {"api": "orders", "gateway": "local", "environment": "development"}
    )
    problem(both, 422, "invalid-command")
    unknown = await signalbox.post(f"{ORG}/deployments", {"api": "orders", "gateway": "moon"})
    assert problem(unknown, 422, "unknown-reference")["errors"] == [
        {"pointer": "/gateway", "detail": "does not exist"}
    ]


async def test_a_taken_context_names_the_api_that_has_it(signalbox: RunningApi) -> None:
    await signalbox.publish("orders", "/same")
    await signalbox.publish("shop", "/same")
    await signalbox.post(f"{ORG}/deployments", {"api": "orders", "gateway": "local"})
    refused = await signalbox.post(f"{ORG}/deployments", {"api": "shop", "gateway": "local"})
    assert "orders" in problem(refused, 409, "context-taken")["detail"]


async def test_revisions_are_listed_and_never_change(signalbox: RunningApi) -> None:
    await signalbox.publish("orders", "/one")
    second = await signalbox.publish("orders", "/two")
    seen = {"min_position": second.headers["signalbox-position"]}
    page = await signalbox.client.get(f"{ORG}/apis/orders/revisions", params=seen)
    assert [r["revision"] for r in page.json()["items"]] == [1, 2]
    assert page.json()["items"][0]["spec"]["context"] == "/one"
    first = await signalbox.client.get(f"{ORG}/apis/orders/revisions/1")
    assert first.json()["spec"]["context"] == "/one"
    assert (await signalbox.client.get(f"{ORG}/apis/orders")).json()["revision"] == 2
    problem(await signalbox.client.get(f"{ORG}/apis/orders/revisions/3"), 404, "not-found")
    problem(await signalbox.client.get(f"{ORG}/apis/none/revisions"), 404, "not-found")
    same = await signalbox.client.get(
        f"{ORG}/apis/orders/revisions/1", headers={"If-None-Match": first.headers["etag"]}
    )
    assert same.status_code == 304
