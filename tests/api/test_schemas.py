"""The schemas of the topics are a public contract: anyone can fetch them."""

import hashlib
from collections.abc import AsyncIterator

import httpx
import orjson
import pytest

from schemas.aggregates.deployment import DeploymentStarted
from schemas.codecs.avro import PUBLISHED, URN, dataschema, published, writer_schema
from tests.api.problem import problem
from tests.api.running_api import RunningApi

ONE = "/schemas/io.signalbox.deployment.started.v1/1"


@pytest.fixture
async def anybody(signalbox: RunningApi) -> AsyncIterator[httpx.AsyncClient]:
    """Who has no token."""
    transport = httpx.ASGITransport(signalbox.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://signalbox") as client:
        yield client


async def test_the_list_names_every_version_and_where_it_is(anybody: httpx.AsyncClient) -> None:
    answer = await anybody.get("/schemas")
    items = answer.json()["items"]
    assert [(i["name"], i["version"]) for i in items] == [
        (name, version) for name, versions in published().items() for version in versions
    ]
    for item in items:
        fetched = await anybody.get(item["href"])
        assert fetched.json() == writer_schema(item["dataschema"])
        assert hashlib.sha256(fetched.content).hexdigest() == item["sha256"]
    assert dataschema(DeploymentStarted) in {item["dataschema"] for item in items}


async def test_a_schema_comes_byte_for_byte_and_may_be_kept_for_ever(anybody: httpx.AsyncClient) -> None:
    answer = await anybody.get(ONE)
    assert answer.content == (PUBLISHED / "io.signalbox.deployment.started.v1.1.avsc").read_bytes()
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'


@pytest.mark.parametrize("path", ["/schemas", ONE])
async def test_a_cached_schema_is_not_sent_again(anybody: httpx.AsyncClient, path: str) -> None:
    etag = (await anybody.get(path)).headers["etag"]
    again = await anybody.get(path, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)


@pytest.mark.parametrize(
    "path",
    ["io.signalbox.deployment.started.v1/2147483647", "io.signalbox.deployment.started.v1/01",
     "io.signalbox.deployment.started.v1/x", "io.signalbox.nothing.v1/1", "SHA256SUMS/1"],
)  # fmt: skip
async def test_an_unpublished_schema_is_not_found(anybody: httpx.AsyncClient, path: str) -> None:
    problem(await anybody.get(f"/schemas/{path}"), 404, "not-found")


async def test_nothing_else_of_the_disk_is_served(anybody: httpx.AsyncClient) -> None:
    for path in ("/schemas/..%2fapi/1", "/schemas/%2e%2e%2f%2e%2e%2fetc%2fpasswd/1"):
        assert (await anybody.get(path)).status_code == 404
    problem(await anybody.get("/schemas/x%00/1"), 400, "invalid-parameter")
    problem(await anybody.get("/schemasx"), 401, "unauthorized")
    problem(await anybody.get("/schemas.codecs.avro"), 401, "unauthorized")


async def test_a_message_leads_to_its_schema(anybody: httpx.AsyncClient) -> None:
    name, _, version = dataschema(DeploymentStarted).removeprefix(URN).rpartition(":")
    assert orjson.loads((await anybody.get(f"/schemas/{name}/{version}")).content) == writer_schema(
        dataschema(DeploymentStarted)
    )
