"""First sync: the time until proxies that connect at once have everything, and the memory of the server.

Server and clients run in separate processes. The clients are raw delta streams over few channels, as behind
a load balancer, and acknowledge everything.
"""

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

import grpc
import grpc.aio

from bench.fanout import GATEWAY, entry
from bench.figure import Figure
from xds.server.discovery import SERVICE, DiscoveryServer
from xds.store import ResourceStore
from xds.types import CLUSTER

CHANNELS = 8
METHOD = f"/{SERVICE}/DeltaAggregatedResources"
_NAME = b"\x1a\x0eclusters/"
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))


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


async def _server(resources: int) -> None:
    """Writes its port, serves until stdin ends, and writes its peak memory in MB."""
    store = ResourceStore()
    store.apply([entry(index, 0) for index in range(resources)])
    server = DiscoveryServer(store, lambda gateway, token: (gateway, token) == (GATEWAY, "bench"))
    print(await server.start("127.0.0.1", 0), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, flush=True)
    await server.stop(0)


async def _client(channel: grpc.aio.Channel, index: int, resources: int) -> grpc.aio.StreamStreamCall | None:
    """The stream once it has all resources; None if it was closed before."""
    call = channel.stream_stream(METHOD, None, None)(None, metadata=(("authorization", "Bearer bench"),))
    try:
        node = text(1, f"node-{index}".encode()) + text(2, GATEWAY.encode())
        await call.write(text(1, node) + text(2, CLUSTER.encode()))
        got = 0
        while got < resources:
            data: object = await call.read()
            if not isinstance(data, bytes):
                return None
            got += data.count(_NAME)
            await call.write(text(2, CLUSTER.encode()) + text(6, nonce(data)))
    except grpc.aio.AioRpcError:
        return None
    return call


async def _clients(port: int, count: int, resources: int) -> None:
    """Writes `[seconds until all have all, number of closed streams]` as JSON."""
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", _OPTIONS) for _ in range(CHANNELS)]
    began = time.monotonic()
    calls = await asyncio.gather(
        *(_client(channels[index % CHANNELS], index, resources) for index in range(count))
    )
    print(json.dumps([time.monotonic() - began, calls.count(None)]))
    await asyncio.gather(*(channel.close(None) for channel in channels))


def measured(clients: int, resources: int) -> tuple[float, float, int]:
    """Seconds until all have all, the peak memory of the server in MB, and the number of closed streams."""
    command = (sys.executable, "-m", "bench.first_sync")
    with subprocess.Popen(
        (*command, "server", str(resources)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        arguments = (*command, "clients", port, str(clients), str(resources))
        ran = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True, timeout=240)
        seconds, cut = json.loads(ran.stdout)
        server.stdin.close()
        memory = float(server.stdout.readline())
    return seconds, memory, cut


def run() -> list[Figure]:
    seconds, memory, cut = measured(1_000, 10_000)
    label = "first sync of 10,000 resources to 1,000 delta clients"
    figures = [
        Figure(label, seconds, "s", 15),
        Figure(f"{label}, memory of the server", memory, "MB", 400),
        Figure(f"{label}, streams cancelled", cut, "streams", 0),
    ]
    seconds, _, cut = measured(2_000, 10)
    label = "2,000 clients connect at once"
    return [
        *figures,
        Figure(label, seconds, "s"),
        Figure(f"{label}, streams cancelled", cut, "streams", 0),
    ]


def main(arguments: Sequence[str]) -> None:
    part, *numbers = arguments
    asyncio.run((_server if part == "server" else _clients)(*map(int, numbers)))


if __name__ == "__main__":
    main(sys.argv[1:])
