"""Endpoints without authentication: liveness, readiness and metrics of a process."""

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import not_found, not_ready
from api.responses import RawResponse, json_response, metrics_response

Trouble = Callable[[], str | None]


class HealthApp:
    """`/healthz/live`, `/healthz/ready` and, when there are `metrics`, `/metrics`.

    Other paths are answered 503 while the process is not ready, else 404.
    """

    def __init__(self, trouble: Trouble, metrics: Callable[[], bytes] | None = None) -> None:
        self._trouble = trouble
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope["path"])(scope, receive, send)

    def _answer(self, path: str) -> RawResponse:
        trouble = self._trouble()
        if path == "/healthz/live":
            return json_response(200, {"status": "live"})
        if path == "/healthz/ready" and trouble is None:
            return json_response(200, {"status": "ready"})
        if path == "/metrics" and self._metrics is not None:
            return metrics_response(self._metrics())
        if trouble is not None:
            return not_ready(trouble).response()
        return not_found("such page; there are /healthz/live, /healthz/ready and /metrics").response()


class ReadinessGate:
    """Serves the application `waiting` until `application` is set."""

    def __init__(self, waiting: ASGIApp) -> None:
        self._waiting = waiting
        self.application: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.application or self._waiting)(scope, receive, send)
