"""Definitions as they were written, by their SHA-256: those of the organization's own APIs."""

import re
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from api.dependencies import ORGANIZATION, IfNoneMatch, OrganizationContext
from api.preconditions import matches
from api.problems import not_found
from api.responses import RawResponse
from api.routing.route import NOT_MODIFIED, ApiRoute, problems, response_headers

router = APIRouter(prefix=ORGANIZATION, tags=["documents"], route_class=ApiRoute)

_DIGEST = re.compile(r"[0-9a-f]{64}")


@router.get(
    "/documents/{sha256}",
    operation_id="get_document",
    summary="A definition as it was written",
    description="Of a revision of one of the organization's APIs.",
    response_class=RawResponse,
    response_description="Unchanged, byte for byte.",
    responses={
        200: {
            "content": {"*/*": {"schema": {}, "example": "kind: API\n"}},
            "headers": response_headers("ETag"),
        },
        **NOT_MODIFIED,
        **problems(404, 503),
    },
)
async def get_document(
    call: OrganizationContext,
    sha256: Annotated[
        str,
        Path(
            description="SHA-256 of the document.",
            json_schema_extra={
                "pattern": "^[0-9a-f]{64}$",
                "examples": ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
            },
        ),
    ],
    if_none_match: IfNoneMatch = None,
) -> Response:
    stored = await call.services.documents.get(sha256) if _DIGEST.fullmatch(sha256) else None
    # Documents are stored once for all organizations: the response does not disclose those of others.
    if stored is None or not await call.services.read_models.refers_to_document(call.organization, sha256):
        raise not_found(f"document {sha256[:64]!r}")
    content, media_type = stored
    headers = {
        "ETag": f'"{sha256}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    if matches(if_none_match, headers["ETag"]):
        return RawResponse(304, headers=headers)
    return RawResponse(200, content, headers, media_type)
