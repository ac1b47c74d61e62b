"""Listeners of Envoy that warm: they answer nobody, so the process is not ready."""

import asyncio
from pathlib import Path

import pytest

from signalbox.envoy_admin import EnvoyAdmin

STATS = "listener_manager.total_listeners_active: 3\nlistener_manager.total_listeners_warming: {}\n"


@pytest.mark.parametrize("warming", [0, 2])
async def test_it_counts_the_listeners_that_warm(tmp_path: Path, warming: int):
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(f"HTTP/1.1 200 OK\r\nserver: envoy\r\n\r\n{STATS.format(warming)}".encode())
        writer.close()

    socket = tmp_path / "admin.sock"
    async with await asyncio.start_unix_server(answer, str(socket)):
        assert await EnvoyAdmin(socket).warming() == warming
    assert b"/stats?filter=" in asked[0]


async def test_an_envoy_that_does_not_answer_has_none(tmp_path: Path):
    assert await EnvoyAdmin(tmp_path / "nobody.sock").warming() == 0
