"""uvicorn on the running event loop; socket and signals are handled by the caller."""

import asyncio
import contextlib
import socket
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp

from signalbox.http.connection import BoundedConfig, Bounds
from signalbox.machine import descriptors
from signalbox.machine.ports import listen
from signalbox.settings import Address

GRACE_SECONDS = 3


class HttpServer:
    """`start` returns when requests are answered; `stop` after the last answer."""

    def __init__(self, app: ASGIApp, address: Address, bounds: Bounds | None = None) -> None:
        """Default of `bounds`: the usual ones, with half of the process's descriptor limit as connections."""
        self.address = address
        """The port is known after `start` when it was 0."""
        self._server = _Server(
            BoundedConfig(
                app,
                bounds or Bounds(connections=min(Bounds().connections, descriptors.limit() // 2)),
                log_config=None,
                access_log=False,
                proxy_headers=False,  # nothing here depends on the caller's address
                lifespan="off",
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self, listening: socket.socket | None = None) -> None:
        """On the address, or a socket that listens. Raises OSError when the address cannot be bound."""
        listening = listening or listen(self.address.port, self.address.host)
        self.address = Address(self.address.host, listening.getsockname()[1])
        listening.setblocking(False)
        self._serving = asyncio.create_task(self._server.serve([listening]), name="http")
        up = asyncio.create_task(self._server.up.wait())
        await asyncio.wait([up, self._serving], return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if self._serving.done():
            self._serving.result()

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving


class _Server(uvicorn.Server):
    """A server that sets `up` when it has started, and does not handle signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
