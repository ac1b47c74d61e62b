"""An Envoy that does not answer, or has no active listener, answers no requests: the process is not ready."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from signalbox.envoy.admin import EnvoyAdmin, NoAnswer
from signalbox.envoy.listener_watch import UNANSWERED, WARMING, ListenerWatch

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def admin(socket: Path, answer: Answer, answer_within: float = 2.0) -> AsyncIterator[EnvoyAdmin]:
    async with await asyncio.start_unix_server(answer, str(socket)):
        yield EnvoyAdmin(socket, answer_within)


async def frozen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As a stopped process: the kernel accepts the connection, and nothing is answered."""
    await reader.read()
    writer.close()


@pytest.mark.parametrize(
    ("listeners", "listening"),
    [("", False), ("gateways/b/listeners/main::127.0.0.1:8000\n", True)],
)
async def test_it_listens_when_a_listener_is_active(tmp_path: Path, listeners: str, listening: bool):
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(f"HTTP/1.1 200 OK\r\nserver: envoy\r\n\r\n{listeners}".encode())
        writer.close()

    async with admin(tmp_path / "admin.sock", answer) as envoy:
        assert await envoy.listening() is listening
    assert b"GET /listeners " in asked[0]


async def test_no_answer_is_not_taken_for_one(tmp_path: Path):
    absent = EnvoyAdmin(tmp_path / "nobody.sock")
    async with admin(tmp_path / "admin.sock", frozen, answer_within=0.01) as silent:
        for envoy in (absent, silent):
            assert not await envoy.ready()
            for asking in (envoy.listening(), envoy.draining(), envoy.drain(5.0)):
                with pytest.raises(NoAnswer):
                    await asking


async def test_an_envoy_that_does_not_answer_is_trouble_until_it_does(tmp_path: Path):
    answers = [NoAnswer(), NoAnswer(), True, NoAnswer()]

    async def listening() -> bool:
        answer = answers.pop(0)
        if isinstance(answer, NoAnswer):
            raise answer
        return answer

    watch = ListenerWatch(listening, connected=lambda: False)
    found: list[str | None] = []
    while answers:
        await watch.look()
        found.append(watch.trouble)
    assert found == [None, UNANSWERED, None, None]


@pytest.mark.parametrize(("connected", "trouble"), [(True, WARMING), (False, None)])
async def test_a_listener_that_warms_for_longer_is_trouble(connected: bool, trouble: str | None):
    async def warms() -> bool:
        return False

    watch = ListenerWatch(warms, connected=lambda: connected)
    await watch.look()
    assert watch.trouble is None
    await watch.look()
    assert watch.trouble == trouble
