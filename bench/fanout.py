"""Fan-out of one change to all proxies: raw delta clients in a separate process.

The clients share few channels, as many streams would through one load balancer, and answer everything.
"""

import asyncio
import struct
import sys
import time
from collections.abc import Sequence

import grpc
import grpc.aio

from bench.figure import Figure, median
from gateways.config_resource import ConfigResource, content_version
from xds.server.discovery import SERVICE, DiscoveryServer
from xds.store import ResourceStore
from xds.types import CLUSTER

GATEWAY = "organizations/bench/gateways/fanout"
CHANNELS = 8
METHOD = f"/{SERVICE}/DeltaAggregatedResources"
_ROUND = struct.Struct("!id")


def text(number: int, text: bytes) -> bytes:
    length = bytearray()
    rest = len(text)
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes((number << 3 | 2,)) + bytes(length) + text


def nonce(data: bytes) -> bytes:
    """The nonce of a response without removals: its last field."""
    at = data.rindex(CLUSTER.encode()) + len(CLUSTER)
    return data[at + 2 : at + 2 + data[at + 1]]


def entry(index: int, content: int) -> ConfigResource:
    body = f"{content:08}".encode() * 60
    return ConfigResource(GATEWAY, "envoy", CLUSTER, f"clusters/{index:05}", content_version(body), 1, body)


class _Clients:
    """Streams that count together how many of them have received each response."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._got = 0
        self._rounds = asyncio.Queue[float]()

    async def follow(self, channel: grpc.aio.Channel, index: int) -> None:
        call = channel.stream_stream(METHOD, None, None)(None, metadata=(("authorization", "Bearer bench"),))
        node = text(1, f"node-{index}".encode()) + text(2, GATEWAY.encode())
        await call.write(text(1, node) + text(2, CLUSTER.encode()))
        while True:
            data: object = await call.read()
            if not isinstance(data, bytes):
                raise RuntimeError("the server ended a stream")
            self._got += 1
            if self._got % self._count == 0:
                self._rounds.put_nowait(time.monotonic())
            await call.write(text(2, CLUSTER.encode()) + text(6, nonce(data)))

    async def round(self) -> float:
        return await self._rounds.get()


async def _client_process(port: int, count: int) -> None:
    """Writes to stdout the time at which all clients had each round, after `count` connected."""
    options = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) for _ in range(CHANNELS)]
    clients = _Clients(count)
    tasks = [asyncio.create_task(clients.follow(channels[index % CHANNELS], index)) for index in range(count)]
    number = 0
    while True:
        done = asyncio.create_task(clients.round())
        finished, _ = await asyncio.wait([done, *tasks], return_when=asyncio.FIRST_COMPLETED)
        if done not in finished:
            for task in finished:
                task.result()
        sys.stdout.buffer.write(_ROUND.pack(number, done.result()))
        sys.stdout.buffer.flush()
        number += 1


async def changes(clients: int, resources: int, rounds: int) -> list[float]:
    """Milliseconds from one resource's change until all clients have it, per round.

    The clock is the machine's monotonic one, which both processes share.
    """
    store = ResourceStore()
    server = DiscoveryServer(store, lambda gateway, token: (gateway, token) == (GATEWAY, "bench"))
    port = await server.start("127.0.0.1", 0)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.fanout", str(port), str(clients), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        # the clients connect to an empty gateway, and get the resources in portions: a storm of first
        # responses is measured elsewhere
        await process.stdout.readexactly(_ROUND.size)
        for start in range(0, resources, 500):
            store.apply([entry(index, 0) for index in range(start, min(start + 500, resources))])
            await process.stdout.readexactly(_ROUND.size)
        times: list[float] = []
        for number in range(rounds):
            begun = time.monotonic()
            store.apply([entry(number % resources, number + 1)])
            _, ended = _ROUND.unpack(await process.stdout.readexactly(_ROUND.size))
            times.append((ended - begun) * 1000)
        return times
    finally:
        process.terminate()
        await process.wait()
        await server.stop(0)


def run(resources: int = 10_000, rounds: int = 30) -> list[Figure]:
    figures: list[Figure] = []
    for clients, target in ((100, 5), (1_000, 60)):
        times = asyncio.run(changes(clients, resources, rounds))
        label = f"one change to all of {clients:,} proxies with {resources:,} resources"
        figures.append(Figure(f"{label}, p50", median(times), "ms", target))
        figures.append(Figure(f"{label}, most", max(times), "ms"))
    return figures


def main(arguments: Sequence[str]) -> None:
    asyncio.run(_client_process(int(arguments[0]), int(arguments[1])))


if __name__ == "__main__":
    main(sys.argv[1:])
