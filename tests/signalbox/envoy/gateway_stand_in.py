"""A gateway's listener in process, for the prober, with scripted answers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Answers = Callable[["Seen"], bytes]


@dataclass(frozen=True)
class Seen:
    path: str
    headers: dict[str, str]


@dataclass
class StandIn:
    port: int = 0
    connections: int = 0
    seen: list[Seen] = field(default_factory=list[Seen])


def serving(deployment: str) -> bytes:
    return f"HTTP/1.1 204 No Content\r\nX-Signalbox-Deployment: {deployment}\r\n\r\n".encode()


def refusing(status: int = 404, body: bytes = b"no") -> bytes:
    return f"HTTP/1.1 {status} Not\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def gateway(answers: Answers, port: int = 0) -> AsyncIterator[StandIn]:
    stand_in = StandIn()
    open_writers: set[asyncio.StreamWriter] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stand_in.connections += 1
        open_writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
                headers = dict(line.split(": ", 1) for line in head[1:] if line)
                seen = Seen(head[0].split()[1], headers)
                stand_in.seen.append(seen)
                answer = answers(seen)
                if not answer:
                    return
                writer.write(answer)
        except asyncio.IncompleteReadError:
            return
        finally:
            open_writers.discard(writer)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    stand_in.port = server.sockets[0].getsockname()[1]
    try:
        yield stand_in
    finally:
        server.close()
        for writer in list(open_writers):
            writer.transport.abort()
        await server.wait_closed()
