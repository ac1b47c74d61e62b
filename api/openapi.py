"""The OpenAPI 3.1 document, from the endpoints."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from api.endpoint import Body, Endpoint, Parameter, ResponseDoc, Schema
from api.json_schemas import REF
from api.problems import MEDIA_TYPE, TYPE, title

_HEADERS: Mapping[str, Schema] = {
    "Location": {"description": "The operation, or the resource.", "schema": {"type": "string"}},
    "ETag": {
        "description": "The resource's version, quoted.",
        "schema": {"type": "string"},
        "example": '"3"',
    },
    "Signalbox-Position": {
        "description": "`<partition>:<position>`: what the answer is from, or the change is at.",
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
    405: ("method-not-allowed", "Allowed here: GET, HEAD."),
    406: ("not-acceptable", "Answers here are application/json."),
    408: ("body-too-slow", "The body did not arrive within 30 s."),
    409: ("context-taken", "API 'shop' has /orders on gateway 'local'."),
    412: ("stale-version", "organizations/default/apis/orders is at version 3, not 2."),
    413: ("body-too-large", "A body may have up to 10485760 bytes."),
    415: ("unsupported-media-type", "Send one of: application/json."),
    422: ("unknown-reference", "There is no gateway 'edge'."),
    428: ("precondition-required", "api 'orders' exists: send If-Match with its ETag, or `*`."),
    500: ("internal-error", "Something went wrong here. The id finds it in the log."),
    503: ("unavailable", "The log refuses writes: disk full"),
}


def document(endpoints: Iterable[Endpoint], schemas: Mapping[str, Schema], version: str) -> dict[str, Any]:
    """The whole document."""
    listed = list(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in listed:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Signalbox",
            "version": version,
            "summary": "An event-sourced control plane for APIs and the gateways that serve them.",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(e.tag for e in listed)],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "responses": {f"Problem{status}": _problem(status) for status in _RULES},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token; `DIR/admin.token` at first.",
                }
            },
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    problems = {406, 500, *endpoint.problems}
    if any(parameter.location in ("path", "query") for parameter in endpoint.parameters):
        problems.add(400)
    if not endpoint.public:
        problems.add(401)
        if "{org}" in endpoint.path:
            problems.add(403)
    responses = {str(status): _response(answer) for status, answer in endpoint.responses.items()}
    for status in sorted(problems):
        responses[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    operation: dict[str, Any] = {
        "operationId": endpoint.id,
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "responses": responses,
    }
    if endpoint.description:
        operation["description"] = endpoint.description
    if endpoint.parameters:
        operation["parameters"] = [_parameter(p) for p in endpoint.parameters]
    if endpoint.body is not None:
        operation["requestBody"] = _body(endpoint.body)
    if endpoint.public:
        operation["security"] = []
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.location,
        "description": parameter.description,
        "schema": parameter.schema,
    }
    if parameter.required:
        described["required"] = True
    if parameter.example is not None:
        described["example"] = parameter.example
    return described


def _content(content: Mapping[str, tuple[Schema, Any]]) -> dict[str, Any]:
    return {media: {"schema": schema, "example": example} for media, (schema, example) in content.items()}


def _body(body: Body) -> dict[str, Any]:
    return {"required": body.required, "content": _content(body.content)}


def _response(answer: ResponseDoc) -> dict[str, Any]:
    response: dict[str, Any] = {"description": answer.description}
    if answer.content:
        response["content"] = _content(answer.content)
    if answer.headers:
        response["headers"] = {name: _HEADERS[name] for name in answer.headers}
    return response


def _problem(status: int) -> dict[str, Any]:
    rule, detail = _RULES[status]
    example = {"type": TYPE + rule, "title": title(rule), "status": status, "detail": detail}
    response: dict[str, Any] = {
        "description": HTTPStatus(status).phrase + ".",
        "content": {MEDIA_TYPE: {"schema": {"$ref": REF + "Problem"}, "example": example}},
    }
    headers = {401: "WWW-Authenticate", 412: "ETag", 428: "ETag", 503: "Retry-After"}
    if status in headers:
        response["headers"] = {headers[status]: _HEADERS[headers[status]]}
    return response
