"""Resources printed with `-o yaml` are definitions: applying them changes nothing."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.aggregate import Aggregate
from schemas.aggregates.api import API
from schemas.catalog import AGGREGATES, DEPLOYMENT, ENVIRONMENT, GATEWAY, ORGANIZATION, PROJECT
from signalbox.cli.failure import Failure
from signalbox.cli.resources.definitions import definition, stream
from tests.api.running_api import ORG, RunningApi, running_api
from tests.signalbox.answers import api

RICH = """\
apiVersion: signalbox.io/v1
kind: API
metadata:
  name: orders
  project: shop
  labels: {team: "1.10"}
spec:
  context: /orders
  hosts: [api.example.com]
  upstreams:
    - {name: blue, url: "http://127.0.0.1:9000/v2", connectTimeout: 1500ms}
    - {name: green, endpoints: [{url: "http://127.0.0.1:9001", weight: 3}]}
  backends: [{upstream: blue, weight: 9}, {upstream: green}]
  operations:
    - {method: GET, path: "/orders/{id}", headers: [{name: x-a, value: "yes"}], resilience: {timeout: 2s}}
"""


@pytest.fixture
async def signalbox(tmp_path: Path) -> AsyncIterator[RunningApi]:
    """One resource of every kind, with more than the least that it needs."""
    async with running_api(tmp_path) as made:
        await made.put("/api/v1/organizations/default", {"display_name": "yes"}, If_Match="*")
        await made.put(f"{ORG}/projects/shop", {"display_name": "Shop", "description": "1\n2\n"})
        await made.put(f"{ORG}/environments/test", {"display_name": "null"})
        fields = {"name": "edge", "environment": "test", "address": "0.0.0.0", "port": 8443}
        await made.post(f"{ORG}/gateways", fields)
        await made.post(f"{ORG}/gateways", {**fields, "name": "edge-2", "revision_header": False})
        await applied(made, RICH)
        await made.post(f"{ORG}/deployments", {"name": "d-1", "api": "orders", "environment": "test"})
        await made.delete(f"{ORG}/deployments/d-1", If_Match="*")
        await made.post(f"{ORG}/deployments", {"name": "d-2", "api": "orders", "gateway": "edge"})
        yield made


async def applied(signalbox: RunningApi, content: str) -> list[dict[str, Any]]:
    answer = await signalbox.client.post(f"{ORG}/apply", json={"documents": [{"content": content}]})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


EXAMPLES = {ORGANIZATION: 2, PROJECT: 2, ENVIRONMENT: 2, GATEWAY: 3, API: 1, DEPLOYMENT: 2}


def test_every_kind_has_an_example_here() -> None:
    assert tuple(EXAMPLES) == AGGREGATES


@pytest.mark.parametrize("aggregate", AGGREGATES, ids=lambda a: a.name)
async def test_the_yaml_output_can_be_applied_and_changes_nothing(
    signalbox: RunningApi, aggregate: Aggregate
) -> None:
    where = "/api/v1/organizations" if aggregate.top else f"{ORG}/{aggregate.plural}"
    listed = (await signalbox.client.get(where)).json()["items"]
    assert len(listed) == EXAMPLES[aggregate]
    one = (await signalbox.client.get(f"{where}/{listed[0]['name']}")).json()
    documents = [definition(aggregate, resource) for resource in (*listed, one)]
    before = await signalbox.log.end("events", 0)
    for content in (stream(d for d in documents[:-1] if d), (documents[-1] or b"").decode()):
        items = await applied(signalbox, content)
        assert {i["result"] for i in items} == {"unchanged"}
        assert [i for i in items if i["findings"]] == []
    assert await signalbox.log.end("events", 0) == before


async def test_fields_outside_the_definition_are_its_status(signalbox: RunningApi) -> None:
    shown = (await signalbox.client.get(f"{ORG}/gateways/edge")).json()
    document = yaml.safe_load(definition(GATEWAY, shown) or b"")
    assert (document["kind"], document["metadata"]) == ("Gateway", {"name": "edge"})
    assert document["spec"] == {
        "environment": "test",
        "kind": "envoy",
        "displayName": "",
        "address": "0.0.0.0",
        "port": 8443,
        "revisionHeader": True,
        "escapedSlashes": "reject",
        "underscoreHeaders": "reject",
        "trustedProxies": 0,
        "allowedUpstreams": [],
    }
    assert document["status"]["version"] == 1
    assert document["status"]["nodes"] == []


async def test_a_status_that_was_edited_is_ignored(signalbox: RunningApi) -> None:
    shown = (await signalbox.client.get(f"{ORG}/projects/shop")).json()
    document = yaml.safe_load(definition(PROJECT, shown) or b"")
    document["status"] = ["anything"]
    (item,) = await applied(signalbox, yaml.safe_dump(document))
    assert (item["result"], item["findings"]) == ("unchanged", [])


async def test_a_deployment_is_not_made_from_a_file(signalbox: RunningApi) -> None:
    shown = (await signalbox.client.get(f"{ORG}/deployments/d-2")).json()
    document = yaml.safe_load(definition(DEPLOYMENT, shown) or b"")
    document["metadata"]["name"] = "d-3"
    (item,) = await applied(signalbox, yaml.safe_dump(document))
    assert item["result"] == "invalid"
    assert item["findings"][0]["detail"].startswith("there is no deployment 'd-3', and a file creates none")


async def test_a_deployment_that_was_edited_is_refused(signalbox: RunningApi) -> None:
    shown = (await signalbox.client.get(f"{ORG}/deployments/d-2")).json()
    document = yaml.safe_load(definition(DEPLOYMENT, shown) or b"")
    document["spec"]["revision"] = 7
    (item,) = await applied(signalbox, yaml.safe_dump(document))
    assert item["result"] == "invalid"
    (finding,) = item["findings"]
    assert (finding["pointer"], finding["rule"]) == ("/spec/revision", "immutable")
    assert finding["detail"] == (
        "revision of the deployment 'd-2' is 1, and a deployment does not change: "
        "deploy with `signalbox deploy`"
    )


async def test_an_organization_that_the_token_is_not_for_cannot_be_applied(signalbox: RunningApi) -> None:
    content = "apiVersion: signalbox.io/v1\nkind: Organization\nmetadata: {name: default}\nspec: {}\n"
    answer = await signalbox.client.post(
        "/api/v1/organizations/acme/apply",
        json={"documents": [{"content": content}]},
        headers={"Authorization": "Bearer acme-token"},
    )
    (item,) = answer.json()["items"]
    assert (item["result"], item["problem"]["status"]) == ("invalid", 403)


def test_a_resource_of_a_newer_server_is_not_written_wrongly() -> None:
    newer = api("orders")
    with pytest.raises(
        Failure, match="'orders' has fields that this version of the command line does not support"
    ):
        definition(API, newer)
