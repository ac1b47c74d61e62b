"""The Avro schemas of all messages, as they were published: the public contract of the topics."""

from functools import cache
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.dependencies import IfNoneMatch
from api.openapi.json_schemas import examples
from api.preconditions import matches
from api.problems import not_found
from api.responses import RawResponse, json_response
from api.routing.route import NOT_MODIFIED, ApiRoute, problems, response_headers
from schemas.codecs.avro import PUBLISHED, URN, published
from schemas.codecs.canonical import digest, sha256_hex

router = APIRouter(prefix="/schemas", tags=["schemas"], route_class=ApiRoute)

_EXAMPLE = "io.signalbox.api.published.v1"


class PublishedSchema(BaseModel):
    name: str = Field(description="The message's CloudEvents type.")
    version: int = Field(ge=1)
    dataschema: str = Field(description="The `dataschema` of a message written with it.")
    href: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class PublishedSchemaList(BaseModel):
    model_config = examples(
        {
            "items": [
                {
                    "name": _EXAMPLE,
                    "version": 1,
                    "dataschema": f"{URN}{_EXAMPLE}:1",
                    "href": f"/schemas/{_EXAMPLE}/1",
                    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                }
            ]
        }
    )

    items: list[PublishedSchema]


class AvroRecord(BaseModel):
    model_config = examples({"type": "record", "name": "io.signalbox.ApiPublished", "fields": []})

    type: Literal["record"]
    name: str
    fields: list[dict[str, Any]]


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
            "href": f"/schemas/{name}/{version}",
            "sha256": sha256_hex(content),
        }
        for (name, version), content in _files().items()
    ]


@router.get(
    "",
    operation_id="list_schemas",
    summary="All published versions of all messages' Avro schemas",
    description="Needs no token. A published version never changes; new versions are compatible with it.",
    response_model=PublishedSchemaList,
    response_description="By name and version.",
    responses={200: {"headers": response_headers("ETag")}, **NOT_MODIFIED},
)
async def list_schemas(if_none_match: IfNoneMatch = None) -> Response:
    headers = {"ETag": f'"{digest(_listed())}"', "Cache-Control": "public, no-cache"}
    if matches(if_none_match, headers["ETag"]):
        return RawResponse(304, headers=headers)
    return json_response(200, {"items": _listed()}, headers)


@router.get(
    "/{name}/{version}",
    operation_id="get_schema",
    summary="One version of a message's Avro schema, as it was published",
    description=f"The schema of messages with the `dataschema` `{URN}<name>:<version>`.",
    response_model=AvroRecord,
    response_description="It never changes.",
    responses={200: {"headers": response_headers("ETag")}, **NOT_MODIFIED, **problems(404)},
)
async def get_schema(
    name: Annotated[
        str,
        Path(
            description="The message's CloudEvents type.",
            json_schema_extra={"minLength": 1, "examples": [_EXAMPLE]},
        ),
    ],
    version: Annotated[
        str,
        Path(
            description="Its version, from 1.",
            json_schema_extra={"type": "integer", "minimum": 1, "examples": [1]},
        ),
    ],
    if_none_match: IfNoneMatch = None,
) -> Response:
    content = _files().get((name, version))
    if content is None:
        raise not_found(f"version {version[:20]!r} of a schema {name[:100]!r}")
    headers = {"ETag": f'"{sha256_hex(content)}"', "Cache-Control": "public, max-age=31536000, immutable"}
    if matches(if_none_match, headers["ETag"]):
        return RawResponse(304, headers=headers)
    return RawResponse(200, content, headers)
