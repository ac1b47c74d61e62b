"""The OpenAPI 3.1 document: FastAPI's, with error responses and examples."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from api.call import Schema
from api.openapi.json_schemas import REF
from api.problems import MEDIA_TYPE, TYPE, title
from schemas.catalog import AGGREGATES

HEADERS: Mapping[str, Schema] = {
    "Location": {"description": "The operation, or the resource.", "schema": {"type": "string"}},
    "ETag": {
        "description": "The resource's version, quoted.",
        "schema": {"type": "string"},
        "example": '"3"',
    },
    "Signalbox-Position": {
        "description": "`<partition>:<position>` of the state that was read, or of the change.",
        "schema": {"type": "string", "pattern": "^[0-9]+:[0-9]+$"},
        "example": "0:17",
    },
    "Link": {"description": "`rel=next` when there is more.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}},
}

_RULES: Mapping[int, tuple[str, str]] = {
    400: ("invalid-parameter", "`limit` is a whole number from 1 to 1000."),
    401: ("unauthorized", "Send `Authorization: Bearer <token>`."),
    403: ("forbidden", "The token is not good for the organization 'acme'."),
    404: ("not-found", "There is no api 'orders'."),
    406: ("not-acceptable", "Answers here are application/json."),
    408: ("body-too-slow", "The body did not arrive within 30 s."),
    409: ("context-taken", "API 'shop' has /orders on gateway 'local'."),
    412: ("stale-version", "organizations/default/apis/orders is at version 3, not 2."),
    413: ("body-too-large", "A body may have up to 10485760 bytes."),
    415: ("unsupported-media-type", "Send one of: application/json."),
    422: ("unknown-reference", "There is no gateway 'edge'."),
    428: ("precondition-required", "api 'orders' exists: send If-Match with its ETag, or `*`."),
    500: ("internal-error", "An unexpected error; it is logged with this id."),
    503: ("unavailable", "The log refuses writes: disk full"),
}


_DESCRIPTION = """\
Every change is a command: it is appended to a log, decided, and recorded as events. A request that changes a
resource answers 202 when the command is durable, or waits for the decision with `Prefer: wait=<seconds>`.
Errors are problem details (RFC 9457), with a `type` for each rule.
"""

_TAGS: Mapping[str, str] = {
    **{aggregate.plural: aggregate.summary for aggregate in AGGREGATES},
    "apply": "Many definitions in one request.",
    "commands": "Any command as a CloudEvent, and the outcome of each command.",
    "documents": "Definitions, as they were written.",
    "events": "The event log: in pages, or live.",
    "process": "Health, statistics and maintenance of this Signalbox.",
    "schemas": "The published Avro schemas of all messages.",
}


def document(routes: Sequence[BaseRoute], schemas: Mapping[str, Schema], version: str) -> dict[str, Any]:
    """FastAPI's document of `routes`, with the `schemas` that generated resources refer to."""
    made = get_openapi(
        title="Signalbox",
        version=version,
        summary="An event-sourced control plane for APIs and the gateways that serve them.",
        description=_DESCRIPTION,
        contact={"name": "The operator of this Signalbox"},
        license_info={"name": "Apache 2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/"}],
        routes=routes,
        separate_input_output_schemas=False,
    )
    components = made.setdefault("components", {})
    components["schemas"] = dict(sorted({**components.get("schemas", {}), **schemas}.items()))
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["responses"] = {f"Problem{status}": _problem(status) for status in _RULES}
    tags: dict[str, None] = {}
    for operations in made["paths"].values():
        for operation in operations.values():
            _complete(operation, components["schemas"])
            tags |= dict.fromkeys(operation["tags"])
    return {
        **made,
        "security": [{"bearer": []}],
        "tags": [{"name": tag, "description": _TAGS[tag]} for tag in tags],
    }


def _complete(operation: dict[str, Any], components: Mapping[str, Schema]) -> None:
    """Adds the examples of the schemas, and an empty `security` to operations that need no token."""
    operation.setdefault("security", [])
    responses = operation["responses"]
    for status, response in list(responses.items()):
        if "$ref" in response:
            responses[status] = {"$ref": response["$ref"]}
        elif "HTTPValidationError" in str(response):
            del responses[status]
    for described in (operation.get("requestBody", {}), *responses.values()):
        for content in described.get("content", {}).values():
            name = content["schema"].get("$ref", "").removeprefix(REF)
            if name and "example" not in content:
                content["example"] = components[name]["examples"][0]


def _problem(status: int) -> dict[str, Any]:
    rule, detail = _RULES[status]
    example = {"type": TYPE + rule, "title": title(rule), "status": status, "detail": detail}
    response: dict[str, Any] = {
        "description": HTTPStatus(status).phrase + ".",
        "content": {MEDIA_TYPE: {"schema": {"$ref": REF + "Problem"}, "example": example}},
    }
    headers = {401: "WWW-Authenticate", 412: "ETag", 428: "ETag", 503: "Retry-After"}
    if status in headers:
        response["headers"] = {headers[status]: HEADERS[headers[status]]}
    return response
