"""The Avro schemas of all messages, as they were published: the contract of the topics, for everybody."""

from collections.abc import Iterator
from functools import cache

from starlette.types import ASGIApp

from api.endpoint import JSON, Call, Endpoint, ResponseDoc, Schema
from api.parameters import IF_NONE_MATCH, in_path
from api.preconditions import matches
from api.problems import not_found
from api.responses import RawResponse, json_response
from schemas.avro import PUBLISHED, URN, published
from schemas.canonical import digest, sha256_hex

PATH = "/schemas"

_EXAMPLE = "io.signalbox.api.published.v1"
_LISTED: Schema = {
    "type": "object",
    "required": ["items"],
    "properties": {
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "version", "dataschema", "href", "sha256"],
                "properties": {
                    "name": {"type": "string", "description": "The message's CloudEvents type."},
                    "version": {"type": "integer", "minimum": 1},
                    "dataschema": {"type": "string", "description": "What a message written with it says."},
                    "href": {"type": "string"},
                    "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                },
            },
        }
    },
}
_AVRO: Schema = {
    "type": "object",
    "required": ["type", "name", "fields"],
    "properties": {
        "type": {"const": "record"},
        "name": {"type": "string"},
        "fields": {"type": "array", "items": {"type": "object"}},
    },
}


@cache
def _files() -> dict[tuple[str, str], bytes]:
    """The published files by name and version, as they are; all of them are small."""
    return {
        (name, str(version)): (PUBLISHED / f"{name}.{version}.avsc").read_bytes()
        for name, versions in published().items()
        for version in versions
    }


@cache
def _listed() -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "version": int(version),
            "dataschema": f"{URN}{name}:{version}",
            "href": f"{PATH}/{name}/{version}",
            "sha256": sha256_hex(content),
        }
        for (name, version), content in _files().items()
    ]


async def list_schemas(call: Call) -> ASGIApp:
    """Every version of every message."""
    headers = {"ETag": f'"{digest(_listed())}"', "Cache-Control": "public, no-cache"}
    if matches(call.header("if-none-match"), headers["ETag"]):
        return RawResponse(304, headers=headers)
    return json_response(200, {"items": _listed()}, headers)


async def get(call: Call) -> ASGIApp:
    """One version, byte for byte as it was published; it never changes."""
    name, version = call.path("name"), call.path("version")
    content = _files().get((name, version))
    if content is None:
        raise not_found(f"version {version[:20]!r} of a schema {name[:100]!r}")
    headers = {"ETag": f'"{sha256_hex(content)}"', "Cache-Control": "public, max-age=31536000, immutable"}
    if matches(call.header("if-none-match"), headers["ETag"]):
        return RawResponse(304, headers=headers)
    return RawResponse(200, content, headers)


def endpoints() -> Iterator[Endpoint]:
    unchanged = ResponseDoc(description="Not changed.", headers=("ETag",))
    [shown] = [item for item in _listed() if (item["name"], item["version"]) == (_EXAMPLE, 1)]
    yield Endpoint(
        method="GET",
        path=PATH,
        id="list_schemas",
        tag="schemas",
        summary="All published versions of all messages' Avro schemas",
        handle=list_schemas,
        parameters=(IF_NONE_MATCH,),
        responses={
            200: ResponseDoc(
                description="By name and version.",
                content={JSON: (_LISTED, {"items": [shown]})},
                headers=("ETag",),
            ),
            304: unchanged,
        },
        public=True,
    )
    example: Schema = {"type": "record", "name": "io.signalbox.ApiPublished", "fields": []}
    yield Endpoint(
        method="GET",
        path=f"{PATH}/{{name}}/{{version}}",
        id="get_schema",
        tag="schemas",
        summary="One version of a message's Avro schema, as it was published",
        description=f"What a message with the `dataschema` `{URN}<name>:<version>` was written with.",
        handle=get,
        parameters=(
            in_path("name", "The message's CloudEvents type.", _EXAMPLE, {"type": "string", "minLength": 1}),
            in_path("version", "Its version, from 1.", 1, {"type": "integer", "minimum": 1}),
            IF_NONE_MATCH,
        ),
        responses={
            200: ResponseDoc(
                description="It never changes.", content={JSON: (_AVRO, example)}, headers=("ETag",)
            ),
            304: unchanged,
        },
        problems=(404,),
        public=True,
    )
