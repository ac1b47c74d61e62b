"""The prober against a listener in process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop

from schemas.identity import timestamp
from signalbox.envoy.prober import Listener, Prober, Target
from tests.signalbox.envoy.gateway_stand_in import Seen, gateway, refusing, serving
from tests.support.free_ports import free_port
from tests.support.hang_guard import HANG_SECONDS

Proved = tuple[str, str, str, str]


def target(deployment: str = "D-1", *, context: str = "/orders/v1", host: str = "*") -> Target:
    return Target(deployment, "orders", 3, context, host)


class Notifications:
    """What the prober reported."""

    def __init__(self) -> None:
        self.proved: asyncio.Queue[Proved] = asyncio.Queue()
        self.given_up: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def serving(self, target: Target, gateway: str, node: str, at: str) -> None:
        self.proved.put_nowait((target.deployment, gateway, node, at))

    def gave_up(self, target: Target, reason: str) -> None:
        self.given_up.put_nowait((target.deployment, reason))


@asynccontextmanager
async def probing(port: int, **settings: float) -> AsyncIterator[tuple[Prober, Notifications]]:
    received = Notifications()
    listener = Listener("local", "node-1", "127.0.0.1", port, "the-secret")
    prober = Prober(
        listener,
        received.serving,
        on_given_up=received.gave_up,
        give_up_after=settings.get("give_up_after", HANG_SECONDS),
        answer_within=settings.get("answer_within", HANG_SECONDS),
        connections=int(settings.get("connections", 8)),
        capacity=int(settings.get("capacity", 100)),
    )
    running = asyncio.create_task(prober.run())
    try:
        yield prober, received
    finally:
        await prober.close()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_deployment_that_answers_is_serving() -> None:
    async with gateway(lambda _: serving("D-1")) as listener, probing(listener.port) as (prober, received):
        began = timestamp()
        assert prober.submit(target(host="*.example.com"))
        deployment, name, node, at = await received.proved.get()
        assert (deployment, name, node) == ("D-1", "local", "node-1")
        assert began <= at <= timestamp()
        assert listener.seen == [
            Seen("/orders/v1", {"host": "probe.example.com", "x-signalbox-probe": "the-secret"})
        ]
        assert len(prober) == 0


async def test_asks_again_until_the_right_deployment_answers() -> None:
    answers = iter([refusing(), serving("D-0"), refusing(503, b""), serving("D-1")])
    async with gateway(lambda _: next(answers)) as listener, probing(listener.port) as (prober, received):
        prober.submit(target())
        assert (await received.proved.get())[0] == "D-1"
        assert len(listener.seen) == 4


async def test_survives_a_connection_closed_between_two_questions() -> None:
    answers = iter([serving("D-1").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), serving("D-2")])
    async with (
        gateway(lambda _: next(answers)) as listener,
        probing(listener.port, connections=1) as (prober, received),
    ):
        prober.submit(target("D-1"))
        assert (await received.proved.get())[0] == "D-1"
        prober.submit(target("D-2"))
        assert (await received.proved.get())[0] == "D-2"
        assert listener.connections == 2


async def test_asks_again_after_an_answer_without_length_or_none_at_all() -> None:
    answers = iter(
        [
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\nuntil it is closed",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n",
            b"",
            b"SSH-2.0 ?\r\n\r\n",
            serving("D-1"),
        ]
    )
    async with (
        gateway(lambda _: next(answers)) as listener,
        probing(listener.port, connections=1) as (prober, received),
    ):
        prober.submit(target())
        assert (await received.proved.get())[0] == "D-1"


async def test_many_targets_share_few_connections() -> None:
    async with (
        gateway(lambda seen: serving(seen.path[1:])) as listener,
        probing(listener.port, capacity=1000) as (prober, received),
    ):
        expected = {f"d-{n}" for n in range(500)}
        for name in expected:
            prober.submit(target(name, context=f"/{name}"))
        assert {(await received.proved.get())[0] for _ in range(500)} == expected
        assert listener.connections <= 8


async def test_proves_it_once_a_gateway_that_was_away_comes_back() -> None:
    port = free_port()
    async with probing(port) as (prober, received):
        prober.submit(target())
        async with gateway(lambda _: serving("D-1"), port):
            assert (await received.proved.get())[0] == "D-1"


async def test_gives_up_with_the_last_answer() -> None:
    async with (
        gateway(lambda _: serving("D-0")) as listener,
        probing(listener.port, give_up_after=0.02) as (prober, received),
    ):
        prober.submit(target())
        assert await received.given_up.get() == ("D-1", "answered with 204 by deployment D-0")
        assert len(prober) == 0
        assert received.proved.empty()


async def test_gives_up_on_a_gateway_that_never_answers() -> None:
    async with probing(free_port(), give_up_after=0.02) as (prober, received):
        prober.submit(target())
        deployment, reason = await received.given_up.get()
        assert deployment == "D-1"
        assert reason.startswith("no answer from 127.0.0.1:")


async def test_an_answer_that_does_not_come_is_no_answer() -> None:
    held: list[asyncio.StreamWriter] = []

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with probing(port, answer_within=0.02, give_up_after=0.01) as (prober, received):
        prober.submit(target())
        assert await received.given_up.get() == ("D-1", "no answer within 0.02 s")
    server.close()
    for writer in held:
        writer.close()


async def test_a_forgotten_deployment_is_asked_for_no_more() -> None:
    def answers(seen: Seen) -> bytes:
        return refusing() if seen.path == "/old" else serving("D-2")

    async with gateway(answers) as listener, probing(listener.port, connections=1) as (prober, received):
        prober.submit(target("D-1", context="/old"))
        prober.forget("D-1")
        prober.submit(target("D-2", context="/new"))
        assert (await received.proved.get())[0] == "D-2"
        assert len(prober) == 0
        assert [seen.path for seen in listener.seen] == ["/new"]


async def test_more_than_the_capacity_are_refused_and_logged() -> None:
    async with probing(free_port(), capacity=1) as (prober, received):
        assert prober.submit(target("D-1"))
        assert not prober.submit(target("D-2"))
        deployment, reason = await received.given_up.get()
        assert (deployment, reason) == ("D-2", "1 other deployments are waiting to be probed")


async def test_the_secret_is_not_printed() -> None:
    assert "the-secret" not in repr(Listener("local", "node-1", "127.0.0.1", 1, "the-secret"))


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_works_on_either_loop(run: "object") -> None:
    async def scenario() -> str:
        async with (
            gateway(lambda _: serving("D-1")) as listener,
            probing(listener.port) as (prober, received),
        ):
            prober.submit(target())
            return (await received.proved.get())[0]

    assert callable(run)
    assert run(scenario()) == "D-1"
