"""Fan-out of one change to all proxies, which are a process of its own: `bench/clients/proxies.py`."""

import asyncio
import sys
import time
from pathlib import Path

from bench.figure import Figure, median
from gateways.config_resource import ConfigResource, content_version
from xds.server.discovery import DiscoveryServer
from xds.store import ResourceStore
from xds.types import CLUSTER

GATEWAY = "organizations/bench/gateways/fanout"
PROXIES = Path(__file__).parent / "clients" / "proxies.py"


def entry(index: int, content: int) -> ConfigResource:
    body = f"{content:08}".encode() * 60
    return ConfigResource(GATEWAY, "envoy", CLUSTER, f"clusters/{index:05}", content_version(body), 1, body)


async def changes(clients: int, resources: int, rounds: int) -> list[float]:
    """Milliseconds from one resource's change until all clients have it, per round.

    The clock is the machine's monotonic one, which both processes share.
    """
    store = ResourceStore()
    server = DiscoveryServer(store, lambda gateway, token: (gateway, token) == (GATEWAY, "bench"))
    port = await server.start("127.0.0.1", 0)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", PROXIES, str(port), str(clients), GATEWAY, "bench", CLUSTER),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        rounds_ended = process.stdout
        # the clients connect to an empty gateway, and get the resources in portions: a storm of first
        # responses is measured elsewhere
        await rounds_ended.readline()
        for start in range(0, resources, 500):
            store.apply([entry(index, 0) for index in range(start, min(start + 500, resources))])
            await rounds_ended.readline()
        times: list[float] = []
        for number in range(rounds):
            begun = time.monotonic()
            store.apply([entry(number % resources, number + 1)])
            times.append((float(await rounds_ended.readline()) - begun) * 1000)
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
