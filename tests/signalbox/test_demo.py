"""The demo service and the sample API in front of it."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import yaml

from signalbox.first_start.demo import LONGEST_BODY, Demo
from signalbox.first_start.sample import CONTEXT, NAME, sample
from signalbox.machine.ports import listen


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with Demo() as demo, httpx.AsyncClient(base_url=demo.url, trust_env=False) as client:
        yield client


async def test_answers_with_the_request(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/ada?x=1&y=", headers={"user-agent": "me", "cookie": "private"})).json()
    assert answer == {
        "message": "Hello, ada!",
        "method": "GET",
        "path": "/ada",
        "query": {"x": "1", "y": ""},
        "headers": {"accept": "*/*", "host": client.base_url.netloc.decode(), "user-agent": "me"},
    }
    assert (await client.get("/")).json()["message"] == "Hello, world!"


async def test_answers_with_any_body(client: httpx.AsyncClient) -> None:
    assert (await client.post("/echo", json={"a": [1]})).json()["body"] == {"a": [1]}
    assert (await client.post("/echo", content=b"plain")).json()["body"] == "plain"


async def test_reads_bodies_in_chunks(client: httpx.AsyncClient) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"in "
        yield b"parts"

    assert (await client.post("/echo", content=parts())).json()["body"] == "in parts"
    assert (await client.head("/")).content == b""
    assert (await client.get("/again")).json()["path"] == "/again"


async def test_refuses_a_request_that_is_too_large(client: httpx.AsyncClient) -> None:
    assert (await client.post("/echo", content=b"x" * (LONGEST_BODY + 1))).status_code == 413
    assert (await client.get("/", headers={"x": "y" * 70_000})).status_code == 431


@pytest.mark.parametrize(
    "text",
    [b"nonsense\r\n\r\n", b"GET / SPDY/3\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n"],
)
async def test_refuses_bytes_that_are_not_http(text: bytes) -> None:
    async with Demo() as demo:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(demo.url.rpartition(":")[2]))
        writer.write(text)
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()


async def test_the_sample_is_served_by_the_given_upstream() -> None:
    document = yaml.safe_load(sample("http://127.0.0.1:9"))
    assert document["metadata"]["name"] == NAME
    assert document["spec"]["context"] == CONTEXT
    assert document["spec"]["upstream"] == {"url": "http://127.0.0.1:9"}


async def test_requests_before_the_start_wait_for_it() -> None:
    with listen(0) as listening:
        port = listening.getsockname()[1]
        async with httpx.AsyncClient(trust_env=False) as early:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /ada HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            demo = Demo()
            await demo.start(listening)
            try:
                assert b"Hello, ada!" in await reader.read()
                assert (await early.get(f"{demo.url}/bob")).json()["message"] == "Hello, bob!"
            finally:
                writer.close()
                await demo.close()
