"""A small service behind the sample API: it answers every request with the request itself, as JSON."""

import socket
from http import HTTPStatus
from urllib.parse import parse_qsl

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from signalbox.http.server import HttpServer
from signalbox.settings import Address

LONGEST_BODY = 1_000_000
SHOWN = ("accept", "content-type", "host", "traceparent", "user-agent", "x-forwarded-for", "x-request-id")


class Demo:
    """An HTTP/1.1 server on loopback. `async with Demo(port)`, or `start` and `close`."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self._server = HttpServer(_serve, Address(host, port))

    @property
    def url(self) -> str:
        """Its URL, such as `http://127.0.0.1:9000`."""
        return self._server.address.url

    async def start(self, listening: socket.socket | None = None) -> None:
        """On the port, or a socket that listens already. Raises OSError when the port cannot be bound."""
        await self._server.start(listening)

    async def close(self) -> None:
        await self._server.stop()

    async def __aenter__(self) -> "Demo":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _serve(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope, receive)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > LONGEST_BODY:
                break
    except ClientDisconnect:
        return
    status, answer = HTTPStatus.OK, echo(request, bytes(body))
    if len(body) > LONGEST_BODY:
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        answer = {"error": status.phrase}
    content = orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE)
    await Response(content, status, media_type="application/json")(scope, receive, send)


def echo(request: Request, body: bytes) -> dict[str, object]:
    """The demo's answer to a request."""
    path = request.scope["raw_path"].decode("latin-1")
    answer: dict[str, object] = {
        "message": f"Hello, {path.strip('/').split('/')[-1] or 'world'}!",
        "method": request.method,
        "path": path,
        "query": dict(parse_qsl(request.url.query, keep_blank_values=True)),
        "headers": {name: request.headers[name] for name in SHOWN if name in request.headers},
    }
    if body:
        try:
            answer["body"] = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer["body"] = body.decode(errors="replace")
    return answer
