"""What anybody may ask a process over HTTP: whether it lives, whether it is ready, its metrics."""

from collections.abc import Callable

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from api.health import PROMETHEUS

Trouble = Callable[[], str | None]


class HealthApp:
    """`/healthz/live`, `/healthz/ready` and, when there are `metrics`, `/metrics`.

    Everything else is 503 as long as there is a trouble, and then 404.
    """

    def __init__(self, trouble: Trouble, metrics: Callable[[], bytes] | None) -> None:
        self._trouble = trouble
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path, trouble = scope["path"], self._trouble()
        if path == "/healthz/live":
            await _answer(send, 200, {"status": "live"})
        elif path == "/healthz/ready" and trouble is None:
            await _answer(send, 200, {"status": "ready"})
        elif path == "/metrics" and self._metrics is not None:
            await _send(send, 200, PROMETHEUS, self._metrics())
        elif trouble is not None:
            await _problem(send, 503, "not-ready", trouble)
        else:
            await _problem(send, 404, "not-found", "There is /healthz/live, /healthz/ready and /metrics.")


class Door:
    """An application that is `waiting` until there is one `inside`."""

    def __init__(self, waiting: ASGIApp) -> None:
        self._waiting = waiting
        self.inside: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.inside or self._waiting)(scope, receive, send)


async def _answer(send: Send, status: int, body: object) -> None:
    await _send(send, status, "application/json", orjson.dumps(body))


async def _problem(send: Send, status: int, rule: str, detail: str) -> None:
    problem = {"type": f"urn:signalbox:problem:{rule}", "title": rule, "status": status, "detail": detail}
    await _send(send, status, "application/problem+json", orjson.dumps(problem))


async def _send(send: Send, status: int, media_type: str, body: bytes) -> None:
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    headers.append((b"cache-control", b"no-store"))
    if status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
