"""A node with a gateway's token that rejects what it is sent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import grpc.aio

from tests.xds.proxies import SHORT, DeltaProxy


@contextlib.asynccontextmanager
async def rogue(
    server: str, gateway: str, token: str, node: str = "rogue", accepts: Sequence[str] = ()
) -> AsyncIterator[None]:
    """Connected to the xDS server at `host:port`; it accepts the types of `accepts` only, such as `CDS`."""
    accepted = {SHORT[type] for type in accepts}

    async def answer(proxy: DeltaProxy) -> None:
        while True:
            response = await proxy.next()
            error = None if response.type_url in accepted else "rejected"
            await proxy.ask(response.type_url, nonce=response.nonce, error=error)

    async with grpc.aio.insecure_channel(server) as channel:
        proxy = DeltaProxy(channel, node, gateway, token)
        for type in ("CDS", "LDS", "SRDS", "RDS"):
            await proxy.ask(type)
        answering = asyncio.create_task(answer(proxy))
        try:
            yield
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            await proxy.close()
