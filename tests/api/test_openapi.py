"""The published description: valid, complete, with examples that hold."""

from typing import Any

import httpx
import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.app import create_app
from api.openapi.document import document
from api.routes import api_routes
from schemas.catalog import AGGREGATES
from tests.api.running_api import RunningApi

DOCUMENT = document(*api_routes(), "0")
OPERATIONS = [
    pytest.param(operation, id=f"{method} {path}")
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


def test_the_document_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_operation_ids_are_unique() -> None:
    ids = [o["operationId"] for methods in DOCUMENT["paths"].values() for o in methods.values()]
    assert len(set(ids)) == len(ids)


def test_every_aggregate_is_there_with_all_its_routes() -> None:
    listed = {
        (method.upper(), operation["tags"][0])
        for methods in DOCUMENT["paths"].values()
        for method, operation in methods.items()
    }
    for aggregate in AGGREGATES:
        assert {
            ("GET", aggregate.plural),
            *((r.method, aggregate.plural) for r in aggregate.routes),
        } <= listed


@pytest.mark.parametrize("operation", OPERATIONS)
def test_examples_conform_to_their_schema(operation: dict[str, Any]) -> None:
    contents = [operation.get("requestBody", {}).get("content", {})]
    contents += [r.get("content", {}) for r in operation["responses"].values()]
    for content in contents:
        for media, message in content.items():
            assert "example" in message, media
            schema = {**message["schema"], "components": DOCUMENT["components"]}
            jsonschema.Draft202012Validator(schema).validate(message["example"])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_errors_are_documented(operation: dict[str, Any]) -> None:
    statuses = set(operation["responses"])
    assert {"406", "500"} <= statuses
    assert ("401" in statuses) == (operation.get("security") != [])


async def test_it_is_served(signalbox: RunningApi) -> None:
    served = (await signalbox.client.get("/openapi.json")).json()
    assert served["openapi"] == "3.1.0"
    assert set(DOCUMENT["paths"]) <= set(served["paths"])
    assert served["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert (await signalbox.client.get("/asyncapi.json")).json()["asyncapi"].startswith("3.")


async def test_an_application_starts_without_its_documents(signalbox: RunningApi) -> None:
    """They take longer than the start of a process may."""
    made: list[str] = []

    def asyncapi() -> dict[str, Any]:
        made.append("asyncapi")
        return {"asyncapi": "3.0.0"}

    app = create_app(signalbox.services, asyncapi)
    assert not made
    transport = httpx.ASGITransport(app)
    headers = signalbox.client.headers
    async with httpx.AsyncClient(transport=transport, base_url="http://signalbox", headers=headers) as client:
        answers = [(await client.get("/asyncapi.json")).json() for _ in range(2)]
    assert answers == [{"asyncapi": "3.0.0"}] * 2
    assert made == ["asyncapi"]
