"""APIs written as definitions: one by PUT, many by apply."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.ports import Settings
from schemas.codecs.canonical import sha256_hex
from schemas.envelope import Envelope, MessageKey
from schemas.outcome import Outcome
from streams.log import LogUnavailable
from tests.api.problem import problem
from tests.api.running_api import ACME, ORG, RunningApi, definition

WSO2 = Path(__file__).parents[3] / "shared" / "data" / "wso2"

OPENAPI = """\
openapi: 3.1.0
info: {title: Shop, version: "1.0"}
servers: [{url: "http://127.0.0.1:9000/shop"}]
paths:
  /things/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: string}}]
    get:
      operationId: getThing
      responses: {"200": {description: It}}
"""


async def put(signalbox: RunningApi, name: str, content: str, **headers: str) -> httpx.Response:
    return await signalbox.client.put(
        f"{ORG}/apis/{name}",
        content=content.encode(),
        headers={"Content-Type": "application/yaml", "Prefer": "wait=10", **headers},
    )


async def apply(signalbox: RunningApi, *contents: str, deploy: Any = None) -> Any:
    documents = [{"source": f"{i}.yaml", "content": c} for i, c in enumerate(contents)]
    answer = await signalbox.client.post(f"{ORG}/apply", json={"documents": documents, "deploy": deploy})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_caller_can_read_next_what_the_answer_of_apply_names(signalbox: RunningApi) -> None:
    gateway = "apiVersion: signalbox.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {kind: envoy}\n"
    await apply(signalbox, gateway)
    (item,) = (await apply(signalbox, definition("orders"), deploy={"gateway": "edge"}))["items"]
    for resource in ("gateways/edge", "apis/orders", f"deployments/{item['deployment']}"):
        answer = await signalbox.client.get(f"{ORG}/{resource}")
        assert answer.status_code == 200, answer.text


async def test_a_definition_is_published_and_kept_as_it_was_written(signalbox: RunningApi) -> None:
    text = "# with a comment\n" + definition("orders")
    answer = await put(signalbox, "orders", text)
    assert answer.status_code == 201, answer.text
    document = answer.json()["document"]
    assert document["sha256"] == sha256_hex(text.encode())
    assert document["form"] == "signalbox.io/v1"
    kept = await signalbox.client.get(f"{ORG}/documents/{document['sha256']}")
    assert kept.text == text
    assert kept.headers["content-type"] == "application/yaml"
    problem(await signalbox.client.get(f"{ORG}/documents/{'0' * 64}"), 404, "not-found")
    problem(await signalbox.client.get(f"{ORG}/documents/x"), 404, "not-found")


async def test_a_document_is_read_in_the_organizations_that_refer_to_it(signalbox: RunningApi) -> None:
    await put(signalbox, "orders", definition("orders"))
    mine, theirs = (
        f"/api/v1/organizations/{name}/documents/{sha256_hex(definition('orders').encode())}"
        for name in ("default", "acme")
    )
    assert (await signalbox.client.get(mine)).status_code == 200
    problem(await signalbox.client.get(theirs), 404, "not-found")
    etag = {"If-None-Match": f'"{mine[-64:]}"'}
    assert (await signalbox.client.get(mine, headers=etag)).status_code == 304
    problem(await signalbox.client.get(theirs, headers=etag), 404, "not-found")


async def test_publishing_the_same_again_changes_nothing(signalbox: RunningApi) -> None:
    first = await put(signalbox, "orders", definition("orders"))
    again = await put(signalbox, "orders", definition("orders"), **{"If-Match": "*"})
    assert again.status_code == 200
    assert again.headers["etag"] == first.headers["etag"]
    assert again.json()["revision"] == 1


async def test_openapi_takes_its_name_from_the_path(signalbox: RunningApi) -> None:
    answer = await put(signalbox, "shop", OPENAPI)
    assert answer.status_code == 201, answer.text
    assert answer.json()["spec"]["operations"][0]["operation_id"] == "getThing"


async def test_every_finding_of_a_bad_definition_comes_at_once_and_nothing_is_written(
    signalbox: RunningApi,
) -> None:
    end = await signalbox.log.end("commands", 0)
    text = definition("orders").replace("method: GET", "method: FETCH").replace("context: ", "kontext: ")
    message = problem(await put(signalbox, "orders", text), 422, "invalid-definition")
    assert len(message["errors"]) >= 2
    for error in message["errors"]:
        assert error["pointer"].startswith("/") or error["pointer"] == ""
        assert error["detail"] and error["rule"] and error["line"] >= 1 and error["column"] >= 1
    assert any("FETCH" in e["detail"] or "method" in e["pointer"] for e in message["errors"])
    assert await signalbox.log.end("commands", 0) == end


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", "empty"),
        (definition("other"), "differs-from-path"),
        (definition("orders") + "---\n" + definition("second"), "several-documents"),
        ("apiVersion: signalbox.io/v1\nkind: Project\nmetadata: {name: orders}\nspec: {}\n", "wrong-kind"),
        ("just text", "unknown-form"),
    ],
)
async def test_documents_that_do_not_define_this_api(signalbox: RunningApi, content: str, rule: str) -> None:
    message = problem(await put(signalbox, "orders", content), 422, "invalid-definition")
    assert rule in {e["rule"] for e in message["errors"]}


async def test_apply_publishes_the_good_and_reports_the_bad(signalbox: RunningApi) -> None:
    bad = definition("bad").replace("method: GET", "method: FETCH")
    both = bad + "---\n" + bad.replace("name: bad", "name: worse") + "---\n" + definition("b")
    message = await apply(signalbox, definition("a"), both, "")
    shown = [(i["source"], i["line"], i["name"], i["result"]) for i in message["items"]]
    second = both[: both.index("---")].count("\n") + 1
    third = both[: both.rindex("---")].count("\n") + 1
    assert [(s, r) for s, _, _, r in shown] == [
        ("0.yaml", "created"),
        ("1.yaml", "invalid"),
        ("1.yaml", "invalid"),
        ("1.yaml", "created"),
        ("2.yaml", "invalid"),
    ]
    assert shown[1][1] == 1
    assert shown[2][1] == second
    assert third <= shown[3][1] <= third + 1
    assert all(i["findings"] for i in message["items"] if i["result"] == "invalid")
    created = message["items"][0]
    assert (created["version"], created["revision"], created["kind"]) == (1, 1, "API")
    assert created["requested_at"] <= created["decided_at"]
    assert created["deployment"] is None
    read = await signalbox.client.get(f"{ORG}/apis/b", params={"min_position": message["position"]})
    assert read.status_code == 200


async def test_applying_again_is_unchanged_and_a_change_is_a_new_revision(signalbox: RunningApi) -> None:
    await apply(signalbox, definition("a"), definition("b"))
    message = await apply(signalbox, definition("a"), definition("b", "/other"))
    assert [(i["result"], i["revision"], i["version"]) for i in message["items"]] == [
        ("unchanged", 1, 1),
        ("changed", 2, 2),
    ]


async def test_apply_deploys_the_published_revisions(signalbox: RunningApi) -> None:
    message = await apply(signalbox, definition("a"), definition("b"), deploy={"gateway": "local"})
    for item in message["items"]:
        read = await signalbox.client.get(
            f"{ORG}/deployments/{item['deployment']}", params={"min_position": item["position"]}
        )
        assert (read.json()["api"], read.json()["revision"]) == (item["name"], 1)
    again = await apply(signalbox, definition("a"), definition("b"), deploy={"gateway": "local"})
    assert [i["deployment"] for i in again["items"]] == [i["deployment"] for i in message["items"]]
    assert [i["deployment_result"] for i in message["items"]] == ["started", "started"]
    assert [i["deployment_result"] for i in again["items"]] == ["unchanged", "unchanged"]


async def test_a_deployment_that_is_refused_is_the_items_problem(signalbox: RunningApi) -> None:
    message = await apply(
        signalbox, definition("a", "/same"), definition("b", "/same"), deploy={"gateway": "local"}
    )
    first, second = message["items"]
    assert first["deployment"] and "problem" not in first
    assert second["result"] == "created"
    assert second["deployment"] is None
    assert second["problem"]["type"].endswith("/context-taken")


async def test_two_definitions_of_one_api_are_two_revisions_and_the_last_is_deployed(
    signalbox: RunningApi,
) -> None:
    message = await apply(
        signalbox, definition("a", "/one"), definition("a", "/two"), deploy={"gateway": "local"}
    )
    first, second = message["items"]
    assert (first["revision"], second["revision"]) == (1, 2)
    assert (first["deployment"], bool(second["deployment"])) == (None, True)


async def test_other_kinds_are_applied_too(signalbox: RunningApi) -> None:
    text = "apiVersion: signalbox.io/v1\nkind: Project\nmetadata: {name: shop}\nspec: {displayName: Shop}\n"
    message = await apply(signalbox, text, deploy={"gateway": "local"})
    assert [(i["kind"], i["name"], i["result"]) for i in message["items"]] == [("Project", "shop", "created")]


async def test_prerequisites_are_created_first_in_any_order_of_documents(signalbox: RunningApi) -> None:
    api = definition("a").replace("metadata:\n", "metadata:\n  project: shop\n", 1)
    assert "project: shop" in api
    project = "apiVersion: signalbox.io/v1\nkind: Project\nmetadata: {name: shop}\nspec: {}\n"
    message = await apply(signalbox, api, project)
    assert [(i["kind"], i["result"]) for i in message["items"]] == [
        ("API", "created"),
        ("Project", "created"),
    ]


async def test_apply_takes_one_definition_as_it_is_written(signalbox: RunningApi) -> None:
    answer = await signalbox.client.post(
        f"{ORG}/apply?deploy=true&to=local&source=a.yaml",
        content=definition("a").encode(),
        headers={"Content-Type": "application/yaml"},
    )
    (item,) = answer.json()["items"]
    assert (item["source"], item["result"], bool(item["deployment"])) == ("a.yaml", "created", True)


async def test_requests_that_apply_refuses(signalbox: RunningApi) -> None:
    async def post(body: Any) -> httpx.Response:
        return await signalbox.client.post(f"{ORG}/apply", json=body)

    problem(await post({}), 422, "invalid-command")
    problem(await post({"documents": []}), 422, "invalid-command")
    problem(await post({"documents": [{"content": "a"}] * 501}), 422, "too-many-documents")
    both = {"documents": [{"content": "a"}], "deploy": {"gateway": "a", "environment": "b"}}
    problem(await post(both), 422, "invalid-command")


async def test_a_target_that_is_no_name_is_refused_before_anything_is_published(
    signalbox: RunningApi,
) -> None:
    end = await signalbox.log.end("commands", 0)
    body = {"documents": [{"content": definition("orders")}], "deploy": {"gateway": "no such!"}}
    problem(await signalbox.post(f"{ORG}/apply", body), 422, "invalid-command")
    answer = await signalbox.client.post(
        f"{ORG}/apply?deploy=true&to=no%20such!",
        content=definition("orders"),
        headers={"Content-Type": "application/yaml"},
    )
    problem(answer, 400, "invalid-parameter")
    assert await signalbox.log.end("commands", 0) == end


async def test_an_organization_that_does_not_exist_rejects_each(signalbox: RunningApi) -> None:
    body = {"documents": [{"source": "a", "content": definition("a")}]}
    answer = await signalbox.client.post("/api/v1/organizations/none/apply", json=body)
    (item,) = answer.json()["items"]
    assert item["result"] == "rejected"
    assert item["problem"]["type"].endswith("/no-such-organization")
    mine = {"Authorization": f"Bearer {ACME}"}
    problem(await signalbox.client.post(f"{ORG}/apply", json=body, headers=mine), 403, "forbidden")


async def test_apply_says_when_the_log_is_unavailable(
    signalbox: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise LogUnavailable("disk full")

    monkeypatch.setattr(signalbox.services.documents, "put", full)
    body = {"documents": [{"source": "a", "content": definition("a")}]}
    problem(await signalbox.client.post(f"{ORG}/apply", json=body), 503, "unavailable")


async def test_real_definitions_of_another_product(signalbox: RunningApi) -> None:
    if not WSO2.is_dir() and os.environ.get("SIGNALBOX_REQUIRE_REAL") != "1":
        pytest.skip("the shared data is not here")
    message = await apply(signalbox, (WSO2 / "petstore.v1.yaml").read_text(), deploy={"gateway": "local"})
    assert [i["result"] for i in message["items"]] == ["created"], message
    bad = await apply(signalbox, (WSO2 / "invalid.yaml").read_text())
    assert all(i["result"] == "invalid" for i in bad["items"])


GATEWAY = """\
apiVersion: signalbox.io/v1
kind: Gateway
metadata: {name: edge}
spec: {environment: edges, port: 8443}
---
apiVersion: signalbox.io/v1
kind: Environment
metadata: {name: edges}
spec: {}
"""


def _always(answer: bool) -> Any:
    async def is_new(*_: object) -> bool:
        return answer

    return is_new


async def test_a_new_gateway_is_registered_and_its_token_returned_once(signalbox: RunningApi) -> None:
    gateway, environment = (await apply(signalbox, GATEWAY))["items"]
    assert (gateway["result"], environment["result"]) == ("created", "created")
    token = gateway["token"]
    assert "token" not in environment
    (registered,) = await signalbox.log.read_subject("events", "organizations/default/gateways/edge")
    assert registered.envelope.data["token_digest"] == sha256_hex(token.encode())
    for topic in ("commands", "events", "outcomes"):
        assert all(
            token.encode() not in r.envelope.to_json() for r in await signalbox.log.read(topic, 0, 0, 999)
        )
    again = (await apply(signalbox, GATEWAY))["items"]
    assert [(i["result"], "token" in i) for i in again] == [("unchanged", False)] * 2
    (changed, _) = (await apply(signalbox, GATEWAY.replace("8443", "9443")))["items"]
    assert (changed["result"], "token" in changed) == ("changed", False)


async def test_a_gateway_that_read_models_do_not_know_yet_is_changed_and_one_they_still_know_is_made(
    signalbox: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(signalbox, GATEWAY)
    monkeypatch.setattr("api.routers.bulk_apply._is_new", _always(True))
    (changed, _) = (await apply(signalbox, GATEWAY.replace("8443", "9443")))["items"]
    assert (changed["result"], "token" in changed) == ("changed", False)
    await signalbox.delete(f"{ORG}/gateways/edge", If_Match="*")
    monkeypatch.setattr("api.routers.bulk_apply._is_new", _always(False))
    (made, _) = (await apply(signalbox, GATEWAY))["items"]
    assert (made["result"], made["token"].startswith("sbg_")) == ("created", True)


async def test_a_gateway_that_is_rejected_has_no_token(signalbox: RunningApi) -> None:
    (gateway,) = (await apply(signalbox, GATEWAY.partition("---")[0]))["items"]
    assert (gateway["result"], "token" in gateway) == ("rejected", False)
    assert gateway["problem"]["detail"]


async def test_a_gateway_that_is_not_decided_in_time_is_returned_with_its_token(
    signalbox: RunningApi,
) -> None:
    await signalbox.pause()
    async with signalbox.with_settings(Settings(apply_seconds=0.01)) as client:
        answer = await client.post(f"{ORG}/apply", json={"documents": [{"content": GATEWAY}]})
    gateway, _ = answer.json()["items"]
    assert (gateway["result"], gateway["token"].startswith("sbg_")) == ("pending", True)


async def test_tokens_are_returned_when_the_log_fails_before_the_deployments(
    signalbox: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = signalbox.commands.execute

    async def execute_and_fill_the_disk(
        envelopes: Sequence[Envelope], seconds: float
    ) -> dict[MessageKey, Outcome]:
        outcomes = await execute(envelopes, seconds)
        signalbox.commands.refuse = "database or disk is full"
        return outcomes

    monkeypatch.setattr(signalbox.commands, "execute", execute_and_fill_the_disk)
    message = await apply(signalbox, GATEWAY, definition("orders"), deploy={"gateway": "local"})
    gateway, _, orders = message["items"]
    assert gateway["token"].startswith("sbg_")
    assert (orders["result"], orders["deployment"]) == ("created", None)
    assert "disk is full" in orders["problem"]["detail"]
