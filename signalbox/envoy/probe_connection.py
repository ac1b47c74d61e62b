"""One kept-alive HTTP/1.1 connection with one request in flight at a time."""

import asyncio
from dataclasses import dataclass

import httptools

LONGEST_ANSWER = 65_536
"""Bytes of headers, and of a body."""


class ProbeFailed(Exception):
    """There was no answer: the connection was refused or lost, or the answer was too slow or not HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The status, and the deployment that served the request (empty when the answer names none)."""

    status: int
    deployment: str


class ProbeConnection:
    """Connects at the first request, and again after a failure. `within` is the time limit per answer."""

    def __init__(self, host: str, port: int, within: float) -> None:
        self._host = host
        self._port = port
        self._within = within
        self._exchange: _Exchange | None = None

    async def ask(self, request: bytes) -> Answer:
        """Raises ProbeFailed."""
        exchange = self._exchange
        if exchange is not None and exchange.open:
            try:
                return await self._send(exchange, request)
            except ConnectionError:
                pass  # an idle connection may be closed by the other side at any time: retry once
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._within):
                transport, exchange = await loop.create_connection(_Exchange, self._host, self._port)
            exchange.over(transport)
            self._exchange = exchange
            return await self._send(exchange, request)
        except TimeoutError as error:
            raise ProbeFailed(f"no answer within {self._within:g} s") from error
        except OSError as error:
            raise ProbeFailed(f"no answer from {self._host}:{self._port} ({error})") from error

    async def _send(self, exchange: "_Exchange", request: bytes) -> Answer:
        loop = asyncio.get_running_loop()
        answered = exchange.ask(request, loop)
        late = loop.call_later(self._within, exchange.too_late)
        try:
            return await answered
        except TimeoutError as error:
            raise ProbeFailed(f"no answer within {self._within:g} s") from error
        finally:
            late.cancel()
            if not answered.done() or answered.cancelled():
                exchange.close()

    def close(self) -> None:
        if self._exchange is not None:
            self._exchange.close()


class _Exchange(asyncio.Protocol):
    """One connection. A body that is long or has no length is not read: the connection is closed.

    `on_…` are callbacks of httptools.
    """

    def __init__(self) -> None:
        self.open = False
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._received = 0
        self._short = False
        self._deployment = ""

    def ask(self, request: bytes, loop: asyncio.AbstractEventLoop) -> "asyncio.Future[Answer]":
        self._answered = loop.create_future()
        self._received, self._short, self._deployment = 0, False, ""
        if self._transport is None or self._transport.is_closing():
            self._answered.set_exception(ConnectionResetError("closed"))
        else:
            self._transport.write(request)
        return self._answered

    def too_late(self) -> None:
        self._fail(TimeoutError())

    def close(self) -> None:
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def over(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionResetError("connection closed"))

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._answered is None or self._answered.done():
            self.close()  # no request is in flight
        elif self._received > 2 * LONGEST_ANSWER:
            self._fail(ConnectionAbortedError("the answer is too long"))
        else:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserError:
                self._fail(ConnectionAbortedError("not HTTP/1.1"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-signalbox-deployment":
            self._deployment = value.decode("latin-1")
        elif name.lower() == b"content-length":
            self._short = int(value) <= LONGEST_ANSWER

    def on_headers_complete(self) -> None:
        if not self._short and self._parser.get_status_code() not in (204, 304):
            self.on_message_complete()
            self.close()

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.close()
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(Answer(self._parser.get_status_code(), self._deployment))

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)
