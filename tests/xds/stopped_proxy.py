"""A proxy in a process of its own, to be stopped: `python -m tests.xds.stopped_proxy PORT`."""

import asyncio
import sys

import grpc.aio

from tests.xds.proxies import DeltaProxy


async def main(port: str) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        proxy = DeltaProxy(channel, "node-1")
        await proxy.ask("CDS")
        while True:
            await proxy.next()


asyncio.run(main(sys.argv[1]))
