"""What a client may make the HTTP server hold before it is authenticated, and what others notice of it."""

import asyncio
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from starlette.types import Message, Receive, Scope, Send
from uvicorn.server import ServerState

from signalbox.http.connection import PIECE, BoundedConfig, BoundedConnection, Bounds
from signalbox.http.server import HttpServer
from signalbox.settings import Address
from tests.client.served import free_port
from tests.support.hang_guard import HANG_SECONDS

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
SHORT = Bounds(head_seconds=0.5, stalled_seconds=0.5)


@dataclass
class App:
    """Answers the path; `/wait` when `go` is set, `/body` with the size of the body, `/stream` for ever."""

    asked: list[str] = field(default_factory=list[str])
    headers: list[dict[bytes, bytes]] = field(default_factory=list[dict[bytes, bytes]])
    arrived: asyncio.Queue[str] = field(default_factory=asyncio.Queue[str])
    go: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope["path"])
        self.headers.append(dict(scope["headers"]))
        self.arrived.put_nowait(scope["path"])
        content = scope["path"].encode()
        match scope["path"]:
            case "/wait":
                await self.go.wait()
            case "/disconnect":
                while (await receive())["type"] != "http.disconnect":
                    pass
                self.left.set()
                return
            case "/body":
                size, more = 0, True
                while more:
                    message = await receive()
                    size += len(message.get("body", b""))
                    more = message.get("more_body", False)
                content = str(size).encode()
            case "/stream":
                await self.stream(receive, send)
                return
            case "/flood":
                await send(_start())
                gone = asyncio.create_task(_gone(receive))
                while not gone.done():
                    await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                    await asyncio.sleep(0)
                self.left.set()
                return
            case _:
                pass
        await send(_start(content))
        await send({"type": "http.response.body", "body": content})

    async def stream(self, receive: Receive, send: Send) -> None:
        await send(_start())
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await self.go.wait()
        await send({"type": "http.response.body", "body": b"second", "more_body": False})


def _start(content: bytes | None = None) -> Message:
    headers = [] if content is None else [(b"content-length", str(len(content)).encode())]
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: bytes) -> bytes:
        self.writer.write(request)
        return await self.answer()

    async def answer(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(
            (line.partition(b":")[2] for line in head.split(b"\r\n") if line.startswith(b"content-length:")),
            b"0",
        )
        return head + await self.reader.readexactly(int(length))

    async def closed(self) -> bytes:
        """What the server still says until it ends the connection."""
        return await self.reader.read()


class Served:
    def __init__(self, app: App, port: int) -> None:
        self.app = app
        self.port = port
        self._clients: list[Client] = []

    async def client(self) -> Client:
        made = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self._clients.append(made)
        return made

    def close(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()


@asynccontextmanager
async def served(bounds: Bounds | None = None) -> AsyncIterator[Served]:
    app, address = App(), Address("127.0.0.1", free_port())
    server = HttpServer(app, address, bounds)
    await server.start()
    made = Served(app, address.port)
    try:
        async with asyncio.timeout(HANG_SECONDS):
            yield made
    finally:
        made.close()
        await server.stop()


async def test_a_head_larger_than_64_kb_is_refused_and_the_connection_ends() -> None:
    async with served() as server:
        client = await server.client()
        client.writer.write(b"GET /1 HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000)
        answer = await client.closed()
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"application/problem+json" in answer and b"65,536 bytes" in answer
        assert server.app.asked == []


async def test_a_head_of_60_kb_is_accepted() -> None:
    async with served() as server:
        client = await server.client()
        value = b"x" * 60_000
        answer = await client.ask(b"GET /1 HTTP/1.1\r\nHost: a\r\nX: " + value + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert server.app.headers[0][b"x"] == value


@pytest.mark.parametrize("endless", [b"1;ext=" + b"x" * 200_000, b"0\r\nTrailer: " + b"x" * 200_000])
async def test_chunk_extensions_and_trailers_are_bounded_like_a_head(endless: bytes) -> None:
    async with served() as server:
        client = await server.client()
        head = b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.writer.write(head + endless)
        assert (await client.closed()).startswith(b"HTTP/1.1 431 ")


async def test_a_body_that_turns_out_to_be_malformed_is_refused_and_its_request_ends() -> None:
    async with served() as server:
        client = await server.client()
        head = b"POST /disconnect HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.writer.write(head + b"1\r\nx\r\n")
        await server.app.arrived.get()
        client.writer.write(b"nonsense\r\n")
        assert (await client.closed()).startswith(b"HTTP/1.1 400 ")
        await server.app.left.wait()


async def test_a_head_that_is_never_complete_is_refused_after_its_time() -> None:
    async with served(SHORT) as server:
        client, silent = await server.client(), await server.client()
        client.writer.write(b"GET /1 HTTP/1.1\r\nHost: a\r\n")
        assert (await client.closed()).startswith(b"HTTP/1.1 408 ")
        assert await silent.closed() == b""


async def test_a_second_head_that_is_never_complete_is_refused_too() -> None:
    async with served(SHORT) as server:
        client = await server.client()
        assert (await client.ask(GET % 1 + b"GET /2 HT")).endswith(b"/1")
        assert (await client.closed()).startswith(b"HTTP/1.1 408 ")


async def test_the_rest_of_a_body_after_its_answer_has_the_same_time() -> None:
    async with served(SHORT) as server:
        client = await server.client()
        answer = await client.ask(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
        assert answer.endswith(b"/1")
        assert await client.closed() == b""


async def test_answers_that_take_longer_than_a_head_may_survive() -> None:
    """A stream and a long poll, while a connection that began later runs out of time."""
    async with served(SHORT) as server:
        stream, poll = await server.client(), await server.client()
        stream.writer.write(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        poll.writer.write(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        await stream.reader.readuntil(b"first")
        late = await server.client()
        late.writer.write(b"GET")
        assert b" 408 " in await late.closed()
        server.app.go.set()
        await stream.reader.readuntil(b"second")
        assert (await poll.answer()).endswith(b"/wait")


def test_requests_that_are_not_answered_yet_queue_up_to_a_bound() -> None:
    """Whatever one socket read returned."""

    async def queue() -> None:
        app = App()
        config = BoundedConfig(app, Bounds(), lifespan="off", log_config=None)
        config.load()
        connection = BoundedConnection(config, ServerState(), {})
        transport = Transport()
        connection.connection_made(transport)
        wanted = b"GET /disconnect HTTP/1.1\r\nHost: a\r\n\r\n"
        connection.data_received(wanted + b"GET / HTTP/1.0\r\n\r\n" * 14_000)
        await app.arrived.get()
        await asyncio.sleep(0)  # it waits for a disconnect, for which it wants to read
        assert len(connection.pipeline) <= PIECE // 16
        assert transport.paused
        connection.connection_lost(None)
        await asyncio.gather(*connection.tasks)
        assert app.left.is_set()

    asyncio.run(queue())


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with served() as server:
        client = await server.client()
        client.writer.write(b"".join(GET % i for i in range(2_000)))
        for i in range(2_000):
            assert (await client.answer()).endswith(b"/%d" % i)


async def test_a_body_is_followed_by_the_next_request() -> None:
    async with served() as server:
        client = await server.client()
        length = 300_000
        client.writer.write(
            b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length
            + b"x" * length
            + b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"3\r\nabc\r\n" * 10_000
            + b"0\r\n\r\n"
            + GET % 3
        )
        assert (await client.answer()).endswith(b"\r\n\r\n300000")
        assert (await client.answer()).endswith(b"\r\n\r\n30000")
        assert (await client.answer()).endswith(b"/3")


async def test_an_unsupported_upgrade_is_answered_and_so_is_the_next_request() -> None:
    async with served() as server:
        client = await server.client()
        upgrade = b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        assert (await client.ask(upgrade + GET % 2)).endswith(b"/1")
        assert (await client.answer()).endswith(b"/2")


async def test_a_request_that_cannot_be_read_is_refused_after_those_before_it() -> None:
    async with served() as server:
        client = await server.client()
        client.writer.write(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n")
        await server.app.arrived.get()
        server.app.go.set()
        assert (await client.answer()).endswith(b"/wait")
        assert (await client.closed()).startswith(b"HTTP/1.1 400 ")


async def test_at_most_so_many_connections_and_those_that_ask_nothing_go_first() -> None:
    async with served(Bounds(connections=10)) as server:
        busy = await server.client()
        busy.writer.write(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        await server.app.arrived.get()
        idle = await server.client()
        assert (await idle.ask(GET % 1)).endswith(b"/1")
        halves: list[Client] = []
        for _ in range(30):
            half = await server.client()
            half.writer.write(b"GET /half HTTP/1.1\r\nHost: a\r\n")
            halves.append(half)
        asking = await server.client()
        assert (await asking.ask(GET % 2)).endswith(b"/2")
        with suppress(ConnectionError):
            assert await halves[0].closed() == b""
        server.app.go.set()
        assert (await busy.answer()).endswith(b"/wait")


async def test_when_every_connection_is_being_answered_a_new_one_gets_503() -> None:
    async with served(Bounds(connections=2)) as server:
        for _ in range(2):
            (await server.client()).writer.write(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(2):
            await server.app.arrived.get()
        assert (await (await server.client()).closed()).startswith(b"HTTP/1.1 503 ")


async def test_a_client_that_reads_nothing_of_its_answer_is_disconnected() -> None:
    async with served(SHORT) as server:
        client = await server.client()
        cast("asyncio.Transport", client.writer.transport).pause_reading()
        client.writer.write(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
        await server.app.left.wait()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /1 HTTP/1.1\r\n\r\n",
        b"GET /1 HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET /1 HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
        b"GET /1 HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /1 HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /1 HTTP/1.1\r\n Host: a\r\n\r\n",
        b"GET /1 HTTP/2.7\r\nHost: a\r\n\r\n",
        b"GET /1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /1 HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        b"GET /1 HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\na",
        b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
        b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\na",
        b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
        b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n",
    ],
)
async def test_framings_that_others_may_read_differently_are_refused(request_: bytes) -> None:
    async with served() as server:
        client = await server.client()
        client.writer.write(request_ + GET % 2)
        assert (await client.closed()).startswith(b"HTTP/1.1 400 ")
        assert server.app.asked == []


async def test_trailers_are_no_headers() -> None:
    async with served() as server:
        client = await server.client()
        answer = await client.ask(
            b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"1\r\nx\r\n0\r\nAuthorization: Bearer smuggled\r\n\r\n"
        )
        assert answer.endswith(b"\r\n\r\n1")
        assert b"authorization" not in server.app.headers[0]


async def test_the_headers_are_the_same_however_the_bytes_arrive() -> None:
    """A header is cut by the pieces that are parsed, at every place."""
    async with served() as server:
        client = await server.client()
        for size in range(440, 520, 3):
            head = b"GET /1 HTTP/1.1\r\nHost: a\r\nPad: " + b"p" * size + b"\r\nEmpty:\r\nName: value\r\n\r\n"
            assert (await client.ask(head)).endswith(b"/1")
        for headers in server.app.headers:
            assert (headers[b"host"], headers[b"empty"], headers[b"name"]) == (b"a", b"", b"value")


def test_the_limit_of_descriptors_is_raised_to_the_hard_one() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 2_000)
    program = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (256, {wanted}))\n"
        "from signalbox.machine.descriptors import raise_limit\n"
        "print(raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(wanted)] * 3


class Transport(asyncio.Transport):
    """Takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = False

    def write(self, data: Any) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
