"""A small service behind the sample API: it answers every request with what it was asked, as JSON."""

import asyncio
import logging
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

import orjson

LONGEST_BODY = 1_000_000
IDLE = 300.0
SHOWN = ("accept", "content-type", "host", "traceparent", "user-agent", "x-forwarded-for", "x-request-id")
logger = logging.getLogger("signalbox.demo")


class BadRequest(Exception):
    """What was received is not a request we answer."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Demo:
    """An HTTP/1.1 server on loopback. `async with Demo(port)`, or `start` and `close`."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where it is, such as `http://127.0.0.1:9000`."""
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Raises OSError when the port cannot be had."""
        self._server = await asyncio.start_server(self._connected, self._host, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        await self._server.wait_closed()

    async def __aenter__(self) -> "Demo":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                async with asyncio.timeout(IDLE):
                    request = await _read(reader)
                writer.write(_respond(HTTPStatus.OK, echo(request), head=request.method == "HEAD"))
                await writer.drain()
                if request.headers.get("connection", "").lower() == "close":
                    break
        except BadRequest as error:
            writer.write(_respond(error.status, {"error": error.status.phrase}, close=True))
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            logger.debug("a connection to the demo service ended")
        finally:
            self._writers.discard(writer)
            writer.close()


def echo(request: Request) -> dict[str, object]:
    """What the demo answers."""
    url = urlsplit(request.target)
    said = url.path.strip("/").split("/")[-1]
    answer: dict[str, object] = {
        "message": f"Hello, {said or 'world'}!",
        "method": request.method,
        "path": url.path,
        "query": dict(parse_qsl(url.query, keep_blank_values=True)),
        "headers": {name: request.headers[name] for name in SHOWN if name in request.headers},
    }
    if request.body:
        try:
            answer["body"] = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            answer["body"] = request.body.decode(errors="replace")
    return answer


async def _read(reader: asyncio.StreamReader) -> Request:
    """The next request. Raises BadRequest, asyncio.IncompleteReadError."""
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.LimitOverrunError as error:
        raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from error
    match lines[0].split(" "):
        case [method, target, version] if version.startswith("HTTP/1."):
            pass
        case _:
            raise BadRequest(HTTPStatus.BAD_REQUEST)
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])
    }
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return Request(method, target, headers, await _chunks(reader))
    length = _number(headers.get("content-length", "0"), 10)
    if length > LONGEST_BODY:
        raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return Request(method, target, headers, await reader.readexactly(length))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := _number((await reader.readuntil(b"\r\n")).partition(b";")[0].strip().decode("latin-1"), 16):
        if len(body) + size > LONGEST_BODY:
            raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers
    return bytes(body)


def _number(text: str, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST) from error
    if number < 0:
        raise BadRequest(HTTPStatus.BAD_REQUEST)
    return number


def _respond(
    status: HTTPStatus, answer: dict[str, object], *, head: bool = False, close: bool = False
) -> bytes:
    body = orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE)
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n{'connection: close' if close else 'connection: keep-alive'}\r\n\r\n"
    )
    return lines.encode() + (b"" if head else body)
