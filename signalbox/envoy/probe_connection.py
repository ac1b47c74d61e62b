"""One kept-alive HTTP/1.1 connection that asks a question at a time: as little work as can be."""

import asyncio
from dataclasses import dataclass

LONGEST_ANSWER = 65_536
DEPLOYMENT = b"\r\nx-signalbox-deployment:"
LENGTH = b"\r\ncontent-length:"


class ProbeFailed(Exception):
    """There was no answer: refused, broken off, too slow or not HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The status, and which deployment says it is serving (empty when none does)."""

    status: int
    deployment: str


class ProbeConnection:
    """Connects when asked, and again after a failure. `within` bounds each answer, in seconds."""

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
                pass  # an idle connection may be closed by the other side at any time: ask once more
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
    """The connection's bytes. An answer whose end cannot be told by its length ends the connection."""

    def __init__(self) -> None:
        self.open = False
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answered: asyncio.Future[Answer] | None = None

    def ask(self, request: bytes, loop: asyncio.AbstractEventLoop) -> "asyncio.Future[Answer]":
        self._answered = loop.create_future()
        self._buffer = b""
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
        if self._answered is None or self._answered.done():
            self.close()  # nothing was asked
            return
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > LONGEST_ANSWER:
                self._fail(ConnectionAbortedError("endless headers"))
            return
        head = self._buffer[: end + 2].lower()
        status = head[9:12]
        if not head.startswith(b"http/1.") or not status.isdigit():
            self._fail(ConnectionAbortedError("not HTTP/1.1"))
            return
        code = int(status)
        if code not in (204, 304):
            at, to = _header(head, LENGTH)
            length = head[at:to].strip()
            if not length.isdigit() or int(length) > LONGEST_ANSWER:
                self.close()
            elif len(self._buffer) < end + 4 + int(length):
                return
        if b"\r\nconnection: close" in head:
            self.close()
        at, to = _header(head, DEPLOYMENT)
        self._answered.set_result(Answer(code, self._buffer[at:to].strip().decode("latin-1")))

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)


def _header(head: bytes, name: bytes) -> tuple[int, int]:
    """Where the value of a header is in lower-cased `head`; an empty range when it is missing."""
    at = head.find(name)
    if at < 0:
        return 0, 0
    start = at + len(name)
    return start, head.index(b"\r\n", start)
