"""Answers, written with orjson and without detours."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

POSITION = "Signalbox-Position"
NO_STORE: Mapping[str, str] = {"Cache-Control": "no-store"}
"""Of answers that hold a secret, or may."""


class RawResponse:
    """A complete answer. Cheaper than Starlette's `Response`, which it stands in for in ASGI."""

    __slots__ = ("body", "headers", "media_type", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        media_type: str = "application/json",
    ) -> None:
        self.status = status
        self.body = body
        self.headers = dict(headers) if headers else {}
        self.media_type = media_type

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in self.headers.items()]
        if self.status not in (204, 304):
            raw.append((b"content-type", self.media_type.encode("latin-1")))
            raw.append((b"content-length", str(len(self.body)).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        body = b"" if scope["method"] == "HEAD" else self.body
        await send({"type": "http.response.body", "body": body})


def json_response(
    status: int, content: Any, headers: Mapping[str, str] | None = None, media_type: str = "application/json"
) -> RawResponse:
    return RawResponse(status, orjson.dumps(content), headers, media_type)
