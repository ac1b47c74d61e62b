"""Limits the size and the duration of request bodies, and converts every error to a problem."""

import asyncio
import logging
from collections.abc import Mapping

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Problem, body_error, invalid_body, problem_of_status, unavailable
from projections.failures import ReadModelsUnavailable, error_summary
from projections.read_transactions import NotReady
from schemas.identity import uuid7
from streams.documents import DocumentDamaged
from streams.log import LogDamaged, LogUnavailable, MessageTooLarge
from streams.projection.waiters import RunnerStopped

logger = logging.getLogger("signalbox.api")

BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE", "TRACE"})
_CLOSE: Mapping[str, str] = {"Connection": "close"}


class Failures:
    """ASGI: responds to every error with a problem; unexpected errors are logged with an id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            logger.debug("%s %s: the client disconnected", scope["method"], scope["path"])
        except Exception as error:
            problem = problem_of_error(error, scope)
            if started:
                raise
            await problem.response()(scope, receive, send)


async def respond_to_error(request: Request, error: Exception) -> Response:
    """FastAPI exception handler."""
    return problem_of_error(error, request.scope).response()


def problem_of_error(error: Exception, scope: Scope) -> Problem:
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return _problem_of_request(error)
        case NotReady() | RunnerStopped():
            return unavailable("The read models are not ready.")
        case ReadModelsUnavailable():
            logger.warning(
                "%s %s: %s", scope["method"], scope["path"], error_summary(error.__cause__ or error)
            )
            return unavailable(str(error), **({"behind": error.behind} if error.behind else {}))
        case LogUnavailable():
            logger.warning("%s %s: %s", scope["method"], scope["path"], error)
            return unavailable(log_failure(error))
        case LogDamaged() | DocumentDamaged():
            logger.error("%s %s: %s", scope["method"], scope["path"], error)
            return Problem(
                500,
                "damaged",
                "The stored data is damaged and not served. `signalbox doctor` shows where.",
            )
        case MessageTooLarge():
            return Problem(413, "command-too-large", str(error))
        case HTTPException():
            return problem_of_status(error.status_code, headers=error.headers)
        case _:
            id = uuid7()
            logger.error("%s %s failed, error %s", scope["method"], scope["path"], id, exc_info=error)
            return Problem(500, "internal-error", "An unexpected error; it is logged with this id.", error=id)


def _problem_of_request(error: RequestValidationError) -> Problem:
    """The parameters (400) or the body (422) that FastAPI found invalid."""
    found = [(e["loc"][0], e["loc"][1:], e) for e in error.errors()]
    parameters = [
        {"parameter": str(loc[0])[:50], "detail": e["msg"]} for where, loc, e in found if where != "body"
    ]
    if parameters:
        detail = f"`{parameters[0]['parameter']}` is not valid."
        return Problem(400, "invalid-parameter", detail, errors=parameters)
    return invalid_body(*(body_error(loc, e["msg"], e["type"]) for _, loc, e in found))


def log_failure(error: LogUnavailable) -> str:
    """The error text for callers when the log cannot be used, without details of this machine."""
    reason = error.reason
    return (
        f"The log refuses writes: {reason}." if reason else "The log does not answer; see its own log files."
    )


class BodyLimit:
    """ASGI: refuses a body larger than `limit` bytes with 413, with or without Content-Length; one that takes
    longer than `seconds` with 408. It buffers nothing."""

    def __init__(self, app: ASGIApp, limit: int, seconds: float) -> None:
        self._app = app
        self._limit = limit
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in BODILESS:
            await self._app(scope, receive, send)
            return
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value) > self._limit):
                raise self._too_large()
        await self._app(scope, _BoundedReceive(receive, self), send)

    @property
    def limit(self) -> int:
        return self._limit

    @property
    def seconds(self) -> float:
        return self._seconds

    def _too_large(self) -> Problem:
        return too_large(self._limit)


def too_large(limit: int) -> Problem:
    return Problem(
        413, "body-too-large", f"A body may have up to {limit} bytes.", headers=_CLOSE, limit=limit
    )


class _BoundedReceive:
    """A `receive` that counts bytes, and time until the body is complete."""

    def __init__(self, receive: Receive, bounds: BodyLimit) -> None:
        self._receive = receive
        self._bounds = bounds
        self._left = bounds.limit
        self._until = 0.0
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        if not self._until:
            self._until = asyncio.get_running_loop().time() + self._bounds.seconds
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError as error:
            raise Problem(
                408,
                "body-too-slow",
                f"The body did not arrive within {self._bounds.seconds:g} s.",
                headers=_CLOSE,
            ) from error
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise too_large(self._bounds.limit)
            self._complete = not message.get("more_body", False)
        return message
