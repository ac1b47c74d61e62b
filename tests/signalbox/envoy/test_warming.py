"""An Envoy without an active listener answers no requests, so the process is not ready."""

import asyncio
from pathlib import Path

import pytest

from signalbox.envoy.admin import EnvoyAdmin


@pytest.mark.parametrize(
    ("listeners", "idle"),
    [("", True), ("gateways/b/listeners/main::127.0.0.1:8000\n", False)],
)
async def test_it_is_idle_when_no_listener_is_active(tmp_path: Path, listeners: str, idle: bool):
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(f"HTTP/1.1 200 OK\r\nserver: envoy\r\n\r\n{listeners}".encode())
        writer.close()

    socket = tmp_path / "admin.sock"
    async with await asyncio.start_unix_server(answer, str(socket)):
        assert await EnvoyAdmin(socket).idle() is idle
    assert b"GET /listeners " in asked[0]


async def test_an_envoy_that_does_not_answer_is_not_idle(tmp_path: Path):
    assert not await EnvoyAdmin(tmp_path / "nobody.sock").idle()
