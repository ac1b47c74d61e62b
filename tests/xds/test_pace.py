"""Large messages are written concurrently up to a number of bytes, in their order."""

import asyncio
from typing import cast

import pytest

from xds.server import rpc


class Slow:
    """A client that receives only on request."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.received = asyncio.Event()

    async def write(self, message: bytes) -> None:
        self.written.append(message)
        await self.received.wait()


def writing(pace: rpc.Pace, client: Slow, size: int) -> asyncio.Task[None]:
    return asyncio.create_task(pace.write(cast(rpc.Context, client), b"x" * size))


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_large_messages_wait_for_the_bytes_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "LARGE_BYTES", 3 * rpc.LARGE)
    pace = rpc.Pace()
    first, second, third, small = (Slow() for _ in range(4))
    tasks = [writing(pace, first, rpc.LARGE), writing(pace, second, 5 * rpc.LARGE)]
    tasks += [writing(pace, third, rpc.LARGE), writing(pace, small, 10)]
    await turns()
    assert [len(one.written) for one in (first, second, third, small)] == [1, 0, 0, 1]
    first.received.set()
    await turns()
    assert [len(one.written) for one in (second, third)] == [1, 0], "larger than all bytes: it is alone"
    second.received.set()
    await turns()
    assert len(third.written) == 1
    third.received.set()
    small.received.set()
    await asyncio.gather(*tasks)


async def test_a_message_whose_stream_ends_while_it_waits_takes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rpc, "LARGE_BYTES", rpc.LARGE)
    pace = rpc.Pace()
    first, ended, ended_at_its_turn, last = (Slow() for _ in range(4))
    tasks = [writing(pace, client, rpc.LARGE) for client in (first, ended, ended_at_its_turn, last)]
    await turns()
    tasks[1].cancel()
    first.received.set()
    await tasks[0]
    tasks[2].cancel()
    await turns()
    assert [len(one.written) for one in (ended, last)] == [0, 1]
    last.received.set()
    await tasks[3]
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_slow_client_no_longer_delays_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "LARGE_BYTES", rpc.LARGE)
    monkeypatch.setattr(rpc, "PERMIT_SECONDS", 0.001)
    pace = rpc.Pace()
    slow, other = Slow(), Slow()
    other.received.set()
    waits = writing(pace, slow, rpc.LARGE)
    await writing(pace, other, rpc.LARGE)
    slow.received.set()
    await waits
