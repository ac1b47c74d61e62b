"""Definitions as they were written, by their SHA-256: those of the organization's own APIs."""

import re

from starlette.types import ASGIApp

from api.endpoint import Call
from api.preconditions import matches
from api.problems import not_found
from api.responses import RawResponse

_DIGEST = re.compile(r"[0-9a-f]{64}")


async def get(call: Call) -> ASGIApp:
    """The bytes, unchanged; never run or shown by a browser as anything but text."""
    digest = call.path("sha256")
    stored = await call.services.documents.get(digest) if _DIGEST.fullmatch(digest) else None
    # Documents are kept once for all organizations: that another one has it is not told.
    if stored is None or not await call.services.read_models.refers_to_document(call.organization, digest):
        raise not_found(f"document {digest[:64]!r}")
    content, media_type = stored
    headers = {
        "ETag": f'"{digest}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    if matches(call.header("if-none-match"), headers["ETag"]):
        return RawResponse(304, headers=headers)
    return RawResponse(200, content, headers, media_type)
