"""Odd HTTP requests, as bytes on a socket: methods, paths, headers, bodies and framings, in any combination.

No answer may be a server error (5xx), and no caller may read data of another organization.
"""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import orjson

from tests.support.connection import HANG_SECONDS

AT_ONCE = 20
MARKER = "what-only-its-organization-may-read"
"""Display name of the project `secret` of the organization `default`."""

LAST = b"GET /healthz/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Pad: " + b"x" * 3_000 + b"\r\n\r\n"
"""Ends the connection; long enough to complete a body that was announced and not sent."""

METHODS = (
    "GET",
    "GET",
    "GET",
    "HEAD",
    "PUT",
    "POST",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "get",
    "G\x00T",
)
ORGANIZATIONS = ("default", "acme")
USUAL = ("secret", "local", "default", "new", "resources", "1")
NAMES = (
    *(
        "default",
        "acme",
        "secret",
        "resources",
        "local",
        "1",
        "0",
        "-1",
        "*",
        "a" * 101,
        "a" * 3_000,
        "",
        ".",
    ),
    *(
        "..",
        "%2e%2e",
        "%2F",
        "%00",
        "%0d%0aX: y",
        "%ff",
        "%",
        "a%",
        "a;b=c",
        "a b",
        "\u00e9",
        "a\x00b",
        "\\",
        "~",
    ),
    *("organizations", "commands", "metrics", "default%2Fprojects%2Fsecret", "acme/../default"),
)
QUERIES = (
    *(
        "",
        "",
        "",
        "?",
        "?limit=1",
        "?limit=0",
        "?limit=1&limit=2",
        "?limit=99999999999999999999",
        "?cursor=W10",
    ),
    *(
        "?cursor=WyJhIl0",
        "?cursor=%00",
        "?as_of=1",
        "?as_of=9999-12-31T23:59:59Z",
        "?as_of=0000-00-00T00:00:00Z",
    ),
    *(
        "?min_position=0:0",
        "?after=0",
        "?after=999999999999999999",
        "?follow=false",
        "?type=x",
        "?subject=%00",
    ),
    *(
        "?to=&to=",
        "?" + "to=&" * 500,
        "?a" * 40,
        "?organization=default",
        "?deploy=true&to=..",
        "?limit=%F0%9F%9A",
    ),
)
HEADERS = (
    *("Accept: */*", "Accept: text/html", "Accept: ;;;,,q=", "Accept: " + "a/b;q=0.1," * 400, "Accept:"),
    *(
        "Content-Type: application/json",
        "Content-Type: application/yaml",
        "Content-Type: application/cloudevents+json",
    ),
    *("Content-Type: application/cloudevents-batch+json", "Content-Type: \xff", "Content-Encoding: gzip"),
    *(
        "If-Match: *",
        'If-Match: "1"',
        "If-Match: W/",
        'If-Match: "-1","99999999999999999999"',
        "If-None-Match: *",
    ),
    *(
        "Prefer: wait=0",
        "Prefer: wait=-1",
        "Prefer: wait=99999999999",
        "Idempotency-Key: a",
        'Idempotency-Key: "',
    ),
    *("Idempotency-Key: ../..", "Last-Event-ID: x", "Range: bytes=0-1", "Expect: 100-continue", "Expect: x"),
    *("Host: b", "X-Forwarded-Host: default", "X-Original-URL: /metrics", "X-HTTP-Method-Override: DELETE"),
    *(
        "Forwarded: for=1",
        "traceparent: x",
        "traceparent: 00-" + "0" * 32 + "-" + "0" * 16 + "-00",
        "ce-id: a",
    ),
    *("ce-specversion: 1.0", "ce-type: io.signalbox.project.command.define.v1", "ce-source: /", "ce-id: %00"),
    *("Upgrade: websocket\r\nConnection: Upgrade", "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings"),
    *(
        "Connection: close",
        "Connection: keep-alive",
        "Cookie: " + "a" * 20_000,
        "X: " + "a" * 70_000,
        "X : a",
        ": a",
    ),
    *(
        "X: a\r\n b",
        "X: a\x00b",
        "X: a\rb",
        "X: a\nY: b",
        "Authorization: Bearer other",
        "Authorization: Basic eDp5",
    ),
)
BODIES = (
    *(
        b"",
        b"{}",
        b"[]",
        b"null",
        b"0",
        b'"a"',
        b"{",
        b"\xff",
        b"\x00",
        b"NaN",
        b"1e999",
        b"[" * 500,
        b"{}" * 2,
    ),
    *(
        b'{"display_name": "a"}',
        b'{"display_name": "\\ud800"}',
        b'{"display_name": null, "x": 1}',
        b'{"name": ".."}',
    ),
    *(
        b'{"organization": "default"}',
        b'{"spec": {}}',
        b'{"documents": [{"content": "kind: API"}]}',
        b'{"wait": 0}',
    ),
    *(b'{"specversion": "1.0", "id": "a", "source": "/", "type": "x", "data": {}}', b'[{"specversion": 1}]'),
    *(b"kind: API\n", b"a: &a [*a]\n", b"? {}\n: b\n", b"%YAML 9\n---\n", b"- " * 300, b"x" * 2_000),
    orjson.dumps({"a" * 50 + str(i): i for i in range(20)}),
)


@dataclass(frozen=True, slots=True)
class Caller:
    """`entitled`: whether it may read the marked data."""

    authorization: str
    entitled: bool = False


@dataclass(slots=True)
class Seen:
    """Counts of answers, and the requests of failures and leaks."""

    statuses: Counter[int] = field(default_factory=Counter[int])
    failures: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    leaks: list[bytes] = field(default_factory=list[bytes])


def framed(body: bytes, chance: random.Random) -> tuple[list[str], bytes]:
    """Headers for the length of the body, mostly correct, and its bytes."""
    size, chunk = len(body), b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    if chance.random() < 0.7:
        return ([f"Content-Length: {size}"] if body else []), body
    return chance.choice(
        [
            ([f"Content-Length: {size}", f"Content-Length: {size}"], body),
            ([f"Content-Length: {size}", f"Content-Length: {size + 1}"], body),
            ([f"Content-Length: {size}, {size}"], body),
            ([f"Content-Length: {size + 100}"], body),
            ([f"Content-Length: +{size}"], body),
            (["Content-Length: -1"], body),
            (["Content-Length: 0x10"], body),
            (["Content-Length: 99999999999999999999"], body),
            (["Content-Length: "], body),
            (["Transfer-Encoding: chunked"], chunk if body else b"0\r\n\r\n"),
            (["Transfer-Encoding: chunked", f"Content-Length: {size}"], chunk),
            (["Transfer-Encoding: chunked, identity"], chunk),
            (["Transfer-Encoding: xchunked"], chunk),
            (["Transfer-Encoding : chunked"], chunk),
            (["Transfer-Encoding: chunked"], b"1;a=b\r\nx\r\n0\r\nAuthorization: Bearer x\r\n\r\n"),
            (["Transfer-Encoding: chunked"], b"ffffffffffffffff1\r\nx\r\n0\r\n\r\n"),
            (["Transfer-Encoding: chunked"], b"-1\r\nx\r\n0\r\n\r\n"),
            (["Transfer-Encoding: chunked"], b"1\nx\n0\n\n"),
        ]
    )


def _name(parameter: str, chance: random.Random) -> str:
    """A value for a path parameter; mostly an existing name, or every answer would be 404."""
    if chance.random() < 0.3:
        return chance.choice(NAMES)
    return chance.choice(ORGANIZATIONS if parameter == "org" else USUAL)


def odd_request(
    paths: Sequence[str], callers: Sequence[Caller], chance: random.Random
) -> tuple[Caller, bytes]:
    caller = chance.choice(callers)
    path = re.sub(r"\{(\w+)\}", lambda match: _name(match[1], chance), chance.choice(paths))
    query = chance.choice(QUERIES) if chance.random() < 0.5 else ""
    if chance.random() < 0.1:
        path = chance.choice(("/", "//", "/.", "/%2e%2e", "http://other", "*", "")) + path
    headers = [] if chance.random() < 0.05 else ["Host: a"]
    if caller.authorization:
        headers.append(f"Authorization: {caller.authorization}")
    headers += chance.sample(HEADERS, chance.choice((0, 0, 1, 1, 2, 3)))
    body = chance.choice(BODIES) if chance.random() < 0.5 else b""
    framing, sent = framed(body, chance)
    headers += framing
    chance.shuffle(headers)
    version = (
        "HTTP/1.1"
        if chance.random() < 0.95
        else chance.choice(("HTTP/1.0", "HTTP/2.0", "HTTP/1.2", "", "HTP/1.1"))
    )
    line = f"{chance.choice(METHODS)} {path}{query} {version}"
    head = "\r\n".join([line, *headers]) + "\r\n\r\n"
    return caller, head.encode("utf-8", "surrogateescape") + sent


async def ask(port: int, request: bytes) -> bytes:
    """The bytes of all answers until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    answer = bytearray()
    try:
        async with asyncio.timeout(HANG_SECONDS):
            with suppress(ConnectionError):
                writer.write(request + LAST)
                await writer.drain()
            with suppress(ConnectionError):
                while piece := await reader.read(1 << 16):
                    answer += piece
    finally:
        writer.transport.abort()
    return bytes(answer)


async def attack(
    port: int, count: int, callers: Sequence[Caller], paths: Sequence[str], *, seed: int = 1
) -> Seen:
    """Sends `count` requests. Raises TimeoutError when one connection does not end."""
    chance, seen = random.Random(seed), Seen()
    left = count

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            caller, request = odd_request(paths, callers, chance)
            answer = await ask(port, request)
            statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
            seen.statuses.update(statuses)
            if any(status >= 500 for status in statuses):
                seen.failures.append((request, answer))
            if MARKER.encode() in answer and not caller.entitled:
                seen.leaks.append(request)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return seen


def paths_of(document: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The path templates of an OpenAPI document; those with marked data more often."""
    paths = [path for path in document["paths"] if not path.endswith("/rebuild")]
    marked = [path for path in paths if "/projects" in path or path.endswith("/events")]
    return [*paths, *marked * 6]
