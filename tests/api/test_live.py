"""What is live, over HTTP."""

import asyncio
from typing import Any

import jsonschema

from schemas.identity import timestamp
from schemas.status import DeliveryReported, Fact, NodeReported
from tests.api.problem import problem
from tests.api.running_api import ORG, RunningApi

NODE: dict[str, Any] = {"organization": "default", "name": "local", "node": "n1", "connection": "c1"}


def connected() -> NodeReported:
    return NodeReported(**NODE, at=timestamp(), connected=True)


def delivered(deployment: str, fact: Fact, api: str, revision: int, position: int) -> DeliveryReported:
    who = {**NODE, **({"node": "*", "connection": ""} if fact == "published" else {})}
    return DeliveryReported(
        **who,
        at=timestamp(),
        deployment=deployment,
        fact=fact,
        api=api,
        revision=revision,
        position=position,
        reason="bad regex" if fact == "refused" else "",
    )


async def deploy(signalbox: RunningApi, name: str, api: str) -> str:
    made = await signalbox.post(f"{ORG}/deployments", {"name": name, "api": api, "gateway": "local"})
    assert made.status_code == 201, made.text
    return made.headers["signalbox-position"].rpartition(":")[2]


async def a_refused_successor(signalbox: RunningApi) -> str:
    """orders@1 is live on `local`; orders@2, which was deployed after it, is refused. The time between."""
    await signalbox.publish("orders")
    first = int(await deploy(signalbox, "d1", "orders"))
    await signalbox.report(
        connected(),
        delivered("d1", "published", "orders", 1, first),
        delivered("d1", "acknowledged", "orders", 1, first),
    )
    between = timestamp()
    await signalbox.publish("orders", "/orders/v2")
    second = int(await deploy(signalbox, "d2", "orders"))
    await signalbox.report(
        delivered("d2", "published", "orders", 2, second),
        delivered("d2", "refused", "orders", 2, second),
        delivered("d1", "published", "orders", 1, second),
    )
    return between


async def test_a_refused_deployment_leaves_the_revision_that_was_live_before(signalbox: RunningApi) -> None:
    await a_refused_successor(signalbox)

    answer = await signalbox.client.get(f"{ORG}/live")

    assert answer.status_code == 200
    assert answer.headers["signalbox-position"].startswith("0:")
    (entry,) = answer.json()["items"]
    assert entry.pop("since") < timestamp()
    assert entry == {
        "gateway": "local",
        "api": "orders",
        "revision": 1,
        "deployment": "d1",
        "nodes": {"connected": 1, "acknowledged": 1},
    }
    items = (await signalbox.client.get(f"{ORG}/deployments")).json()["items"]
    states = {item["name"]: item["status"] for item in items}
    assert (states["d2"]["state"], states["d2"]["live"]) == ("refused", [])
    assert states["d2"]["gateways"]["local"]["live"]["deployment"] == "d1"
    assert states["d1"]["live"] == ["local"]
    (api,) = (await signalbox.client.get(f"{ORG}/apis")).json()["items"]
    assert [(e["gateway"], e["revision"]) for e in api["live"]] == [("local", 1)]


async def test_one_api_shows_the_same_live_revisions_as_the_list(signalbox: RunningApi) -> None:
    between = await a_refused_successor(signalbox)

    (listed,) = (await signalbox.client.get(f"{ORG}/apis")).json()["items"]
    one = (await signalbox.client.get(f"{ORG}/apis/orders")).json()
    then = (await signalbox.client.get(f"{ORG}/apis/orders", params={"as_of": between})).json()

    assert [(e["gateway"], e["revision"]) for e in listed["live"]] == [("local", 1)]
    assert one["live"] == listed["live"]
    document = (await signalbox.client.get("/openapi.json")).json()
    operation = document["paths"]["/api/v1/organizations/{org}/apis/{name}"]["get"]
    content = operation["responses"]["200"]["content"]
    schema = {**content["application/json"]["schema"], "components": document["components"]}
    for answer in (one, then):
        jsonschema.Draft202012Validator(schema).validate(answer)
    assert [(e["gateway"], e["revision"]) for e in then["live"]] == [("local", 1)]


async def test_an_api_is_not_answered_as_unchanged_when_its_live_revision_changed(
    signalbox: RunningApi,
) -> None:
    await signalbox.publish("orders")
    position = int(await deploy(signalbox, "d1", "orders"))
    known = (await signalbox.client.get(f"{ORG}/apis/orders")).headers["etag"]
    await signalbox.report(connected(), delivered("d1", "acknowledged", "orders", 1, position))

    again = await signalbox.client.get(f"{ORG}/apis/orders", headers={"If-None-Match": known})

    assert again.status_code == 200
    assert [e["revision"] for e in again.json()["live"]] == [1]


async def test_live_as_of_an_earlier_time(signalbox: RunningApi) -> None:
    between = await a_refused_successor(signalbox)
    await signalbox.delete(f"{ORG}/deployments/d2", If_Match="*")
    await signalbox.report(delivered("d1", "withdrawn", "orders", 1, 99))

    now = (await signalbox.client.get(f"{ORG}/live")).json()
    then = (await signalbox.client.get(f"{ORG}/live", params={"as_of": between})).json()

    assert now == {"items": [], "next_cursor": None}
    (entry,) = then["items"]
    assert (entry["deployment"], entry["nodes"]) == ("d1", None)
    states = (await signalbox.client.get(f"{ORG}/deployments", params={"as_of": between})).json()["items"]
    assert [(d["name"], d["status"]["state"]) for d in states] == [("d1", "acknowledged")]


async def test_it_comes_in_pages_of_one_gateway_or_api(signalbox: RunningApi) -> None:
    names = ["a", "b", "c"]
    reports: list[DeliveryReported] = []
    for name in names:
        await signalbox.publish(name)
        position = int(await deploy(signalbox, f"d-{name}", name))
        reports.append(delivered(f"d-{name}", "acknowledged", name, 1, position))
    await signalbox.report(connected(), *reports)

    async def apis(**query: Any) -> tuple[list[str], str | None]:
        page = (await signalbox.client.get(f"{ORG}/live", params=query)).json()
        return [item["api"] for item in page["items"]], page["next_cursor"]

    found, cursor = await apis(limit=2)
    assert found == ["a", "b"]
    assert await apis(limit=2, cursor=cursor) == (["c"], None)
    assert await apis(api="b") == (["b"], None)
    assert await apis(gateway="local") == (names, None)
    problem(await signalbox.client.get(f"{ORG}/live", params={"cursor": "x"}), 400, "invalid-parameter")


async def test_a_gateway_or_an_api_that_does_not_exist_is_not_found(signalbox: RunningApi) -> None:
    async def asked(**query: Any) -> Any:
        return await signalbox.client.get(f"{ORG}/live", params=query)

    before = (await asked()).headers["signalbox-position"].rpartition(":")[2]
    published = await signalbox.publish("orders")

    there = await asked(gateway="local", api="orders", min_position=published.headers["signalbox-position"])
    assert there.json() == {"items": [], "next_cursor": None}
    missing = problem(await asked(gateway="elsewhere"), 404, "not-found")
    assert missing["detail"] == "There is no gateway 'elsewhere'."
    missing = problem(await asked(gateway="local", api="ordres"), 404, "not-found")
    assert missing["detail"] == "There is no api 'ordres'."
    problem(await asked(api="orders", as_of=before), 404, "not-found")


async def test_gateways_have_the_number_of_connected_nodes(signalbox: RunningApi) -> None:
    assert [g["connected"] for g in (await signalbox.client.get(f"{ORG}/gateways")).json()["items"]] == [0]

    refused = NodeReported(**NODE, at=timestamp(), connected=True, listener_refused="address in use")
    await signalbox.report(refused)

    assert [g["connected"] for g in (await signalbox.client.get(f"{ORG}/gateways")).json()["items"]] == [1]
    shown = (await signalbox.client.get(f"{ORG}/gateways/local")).json()
    assert shown["connected"] == 1
    assert shown["nodes"][0]["listener_refused"] == "address in use"
    then = (await signalbox.client.get(f"{ORG}/gateways/local?as_of=4")).json()
    assert "nodes" not in then


async def test_a_stopped_deployment_is_live_until_its_nodes_withdrew_it_which_can_be_waited_for(
    signalbox: RunningApi,
) -> None:
    await signalbox.publish("orders")
    position = int(await deploy(signalbox, "d1", "orders"))
    await signalbox.report(connected(), delivered("d1", "acknowledged", "orders", 1, position))
    stopped = await signalbox.delete(f"{ORG}/deployments/d1", If_Match="*")
    assert stopped.status_code == 200
    assert len((await signalbox.client.get(f"{ORG}/live")).json()["items"]) == 1

    waiting = asyncio.create_task(
        signalbox.client.post(f"{ORG}/deployments/facts", json={"names": ["d1"], "wait": 60})
    )
    await signalbox.report(delivered("d1", "withdrawn", "orders", 1, position + 1))

    assert (await waiting).json()["d1"]["state"] == "stopped"
    assert (await signalbox.client.get(f"{ORG}/live")).json()["items"] == []


async def test_waiting_for_a_gateway_without_nodes_does_not_end_as_if_one_had_answered(
    signalbox: RunningApi,
) -> None:
    await signalbox.publish("orders")
    position = int(await deploy(signalbox, "d1", "orders"))
    await signalbox.report(
        connected(),
        delivered("d1", "acknowledged", "orders", 1, position),
        NodeReported(**NODE, at=timestamp(), connected=False),
    )

    answer = await signalbox.client.post(f"{ORG}/deployments/facts", json={"names": ["d1"], "wait": 0.05})

    known = answer.json()["d1"]
    assert (known["state"], known["offline"]) == ("offline", ["local"])
