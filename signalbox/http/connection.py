"""HTTP/1.1 connections with limits that apply before authentication: bytes, time, queued requests.

uvicorn parses everything that a socket read returned, in any number of requests, and limits neither size
nor duration of a request's head. Here the parser gets small pieces, and none while a request is answered:
data received meanwhile (at most one socket read) waits, and the socket is not read.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, cast

import httptools
import orjson
import uvicorn
from starlette.types import ASGIApp
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.problems import MEDIA_TYPE, Problem

logger = logging.getLogger("signalbox.http")

PIECE = 512
"""Bytes that the parser gets at once, unless they are part of one body. The smallest request has 16 bytes,
so a connection queues at most 32 requests."""
LINGER_BYTES = 1 << 20
LINGER_SECONDS = 1.0
"""After a refusal, up to that many bytes are read and dropped for that long: a reset would destroy the
answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """`head_bytes` also holds for chunk extensions and trailers; `head_seconds` also for connections that
    send nothing, and for the rest of a body after its answer; `stalled_seconds` is how long a client may
    read nothing of an answer. `connections` is for the whole server."""

    head_bytes: int = 64 * 1024
    head_seconds: float = 10.0
    stalled_seconds: float = 60.0
    connections: int = 4_096


class BoundedConfig(uvicorn.Config):
    """uvicorn's configuration with `bounds`, and the connections no request of which is being answered,
    the one that waits longest first."""

    def __init__(self, app: ASGIApp, bounds: Bounds, **options: Any) -> None:
        super().__init__(app, http=BoundedConnection, ws="none", **options)
        self.bounds = bounds
        self.waiting: dict[BoundedConnection, None] = {}


class _Flow(FlowControl):
    """Leaves uvicorn's flow control of reading to the connection."""

    def __init__(self, transport: asyncio.Transport, connection: "BoundedConnection") -> None:
        super().__init__(transport)
        self._connection = connection

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        self._connection.advance()

    def read(self, wanted: bool) -> None:
        if wanted:
            super().resume_reading()
        else:
            super().pause_reading()


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection within `Bounds`. Refuses requests with no or several Host headers too."""

    def __init__(
        self,
        config: BoundedConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounds = config.bounds
        self._waiting = config.waiting
        self._reading: _Flow | None = None
        self._received = b""
        self._at = 0
        self._overhead = 0  # bytes since the request began, or since its body last grew
        self._in_request = self._in_head = False
        self._body_left = 0  # of a body with Content-Length
        self._completing = False
        self._running: RequestResponseCycle | None = None
        self._last: RequestResponseCycle | None = None
        """The request that was parsed last: the running or a queued one."""
        self._refusal: Problem | None = None
        self._lingering: int | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._drained = 0  # how often the write buffer has become nearly empty

    # Callbacks of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self.flow = self._reading = _Flow(self.transport, self)
        if len(self.connections) > self._bounds.connections:
            oldest = next(iter(self._waiting), None)
            if oldest is None:
                self.transport.write(_answer(_full()))
                self.transport.close()
                return
            oldest.transport.abort()
            del self._waiting[oldest]
        self._waiting[self] = None
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.pop(self, None)
        self._received, self._at = b"", 0
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            # The base class notifies the request that was parsed last, which may be a queued one.
            self._running.disconnected = True
            self._running.message_event.set()
        self._deadline = _cancelled(self._deadline)
        self._stalled = _cancelled(self._stalled)
        self._unset_keepalive_if_required()
        self._reading = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._lingering is not None:
            self._lingering += len(data)
            if self._lingering > LINGER_BYTES and self._reading is not None:
                self._reading.read(False)
            return
        self._received = self._received[self._at :] + data if self._received else data
        self._at = 0
        self.advance()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_progress()

    def resume_writing(self) -> None:
        self._drained += 1
        super().resume_writing()

    # Parsing

    def advance(self) -> None:
        """Parses the received data as far as it is needed now, and resumes reading when all is parsed."""
        if self._completing or self._reading is None:
            return
        if self._at < len(self._received):
            self._unset_keepalive_if_required()
        while self._at < len(self._received) and not self._busy():
            self._parse(max(PIECE, self._body_left))
        if self._at >= len(self._received):
            self._received, self._at = b"", 0
        self._reading.read(not self._received)
        self._watch()

    def _busy(self) -> bool:
        """Whether a parsed request must be answered, or its body consumed, before more is parsed."""
        if self._refusal is not None or self._lingering is not None or self.transport.is_closing():
            return True
        last = self._last
        if last is None or last.response_complete:
            return False
        return bool(self.pipeline) or not last.more_body or len(last.body) > HIGH_WATER_LIMIT

    def _answering(self) -> bool:
        """Whether a request has not been answered yet."""
        running = self._running
        waiting = running is not None and not (running.response_complete or running.disconnected)
        return bool(self.pipeline) or waiting

    def _parse(self, size: int) -> None:
        parser = self.parser
        if parser is None:
            return
        piece = memoryview(self._received)[self._at : self._at + size]
        self._at += len(piece)
        self._overhead += len(piece)
        try:
            parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            # Upgrades to other protocols are ignored; the next request follows.
            self._at -= len(piece) - upgrade.args[0]
        except httptools.HttpParserError as error:
            self._refuse(self._refusal or _malformed(error))
            return
        if self._overhead > self._bounds.head_bytes:
            self._refuse(_too_large(self._bounds.head_bytes))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._overhead = 0
        self._in_request = self._in_head = True
        self._body_left = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are dropped: code that reads the headers may have done so already.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        parser = self.parser
        if parser is not None and (fault := _fault(parser.get_http_version(), self.headers)):
            self._refusal = _bad(fault)
            raise self._refusal
        self._in_head = False
        self._overhead = 0
        self._body_left = next((int(value) for name, value in self.headers if name == b"content-length"), 0)
        self._waiting.pop(self, None)
        super().on_headers_complete()
        self._last = self.cycle

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        self._body_left = max(0, self._body_left - len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._overhead = 0
        self._in_request = False
        self._body_left = 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        if self.transport.get_write_buffer_size():
            self._expect_progress()
        self._completing = True
        super().on_response_complete()
        self._completing = False
        if not self._answering():
            self._waiting[self] = None
            if self._refusal is not None:
                self._refuse(self._refusal)
        self.advance()

    # Refusals

    def _watch(self) -> None:
        """`head_seconds` apply to a head that has begun, to a connection's first head, and to the rest of a
        request that is already answered."""
        idle = self._last is not None and not self._in_request and not self._overhead
        if not idle and not self._answering():
            if self._deadline is None and self._lingering is None:
                self._deadline = self.loop.call_later(self._bounds.head_seconds, self._too_slow)
        elif self._lingering is None:
            self._deadline = _cancelled(self._deadline)

    def _too_slow(self) -> None:
        if self._in_request and self._in_head:
            self._refuse(_slow(self._bounds.head_seconds))
        else:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Answers `problem` after the earlier requests, and closes the connection."""
        self._refusal = problem
        if self._in_request and not self._in_head:
            self._give_up_last()
        if self._answering() or self._lingering is not None or self.transport.is_closing():
            return
        logger.debug("refused a request of %s: %s", self.client, problem.detail)
        unread = len(self._received) - self._at
        self._lingering = unread
        self._received, self._at = b"", 0
        self._waiting.pop(self, None)
        self._deadline = _cancelled(self._deadline)
        self._unset_keepalive_if_required()
        self.transport.write(_answer(problem))
        self.transport.write_eof()
        self._deadline = self.loop.call_later(LINGER_SECONDS, self.transport.abort)
        if self._reading is not None:
            self._reading.read(unread <= LINGER_BYTES)

    def _give_up_last(self) -> None:
        """Disconnects the request that was parsed last: its body will never be complete."""
        last = self._last
        self._in_request = False
        if last is None:
            return
        last.disconnected = True
        last.message_event.set()
        if self.pipeline:
            self.pipeline.popleft()
            self._last = self.pipeline[0][0] if self.pipeline else self._running
        elif last.response_started and not last.response_complete:
            self.transport.close()

    def _expect_progress(self) -> None:
        if self._stalled is None:
            seen = self._drained, self.transport.get_write_buffer_size()
            self._stalled = self.loop.call_later(self._bounds.stalled_seconds, self._check_progress, *seen)

    def _check_progress(self, drained: int, before: int) -> None:
        self._stalled = None
        left = self.transport.get_write_buffer_size()
        if drained == self._drained and left >= before:
            logger.debug("%s reads no answer", self.client)
            self.transport.abort()
        elif left:
            self._expect_progress()


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _answer(problem: Problem) -> bytes:
    body = orjson.dumps(problem.document())
    head = (
        f"HTTP/1.1 {problem.status} {problem.rule}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


def _fault(version: str, headers: list[tuple[bytes, bytes]]) -> str:
    """The error of a request that the parser accepted; empty when it is valid."""
    if version not in ("1.0", "1.1"):
        return f"HTTP/{version} is not supported; use HTTP/1.1."
    hosts = sum(name == b"host" for name, _ in headers)
    if hosts > 1 or (not hosts and version == "1.1"):
        return "A request has exactly one Host header."
    encodings = [value for name, value in headers if name == b"transfer-encoding"]
    if encodings and b",".join(encodings).strip().lower() != b"chunked":
        return "Transfer-Encoding may only be chunked."
    return ""


def _bad(detail: str) -> Problem:
    return Problem(400, "bad-request", detail)


def _malformed(error: Exception) -> Problem:
    callback = isinstance(error, httptools.HttpParserCallbackError)
    return _bad("The request target is not valid." if callback else f"The request is not valid: {error}.")


def _too_large(most: int) -> Problem:
    return Problem(
        431, "request-header-fields-too-large", f"Request line and headers may have up to {most:,} bytes."
    )


def _slow(seconds: float) -> Problem:
    return Problem(408, "request-timeout", f"Request line and headers did not arrive within {seconds:g} s.")


def _full() -> Problem:
    return Problem(503, "unavailable", "All connections are in use. Try again later.")
