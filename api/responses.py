"""Responses, written with orjson."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

JSON = "application/json"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
POSITION = "Signalbox-Position"
NO_STORE: Mapping[str, str] = {"Cache-Control": "no-store"}
"""For responses that hold a secret, or may."""


class RawResponse(Response):
    """A complete response. Cheaper than Starlette's, whose headers can be changed after it is created."""

    def __init__(
        self,
        status_code: int = 200,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        media_type: str = "application/json",
    ) -> None:
        self.status_code = status_code
        self.body = body
        self.background = None
        raw = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in (headers or {}).items()]
        if status_code not in (204, 304):
            raw.append((b"content-type", media_type.encode("latin-1")))
            raw.append((b"content-length", str(len(body)).encode()))
        self.raw_headers = raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = b"" if scope["method"] == "HEAD" else self.body
        await send({"type": "http.response.body", "body": body})


def json_response(
    status: int, content: Any, headers: Mapping[str, str] | None = None, media_type: str = "application/json"
) -> RawResponse:
    return RawResponse(status, orjson.dumps(content), headers, media_type)


def metrics_response(metrics: bytes) -> RawResponse:
    return RawResponse(200, metrics, NO_STORE, PROMETHEUS)
