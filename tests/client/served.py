"""A Signalbox that clients reach over Kafka or over HTTP: the real decider, on the real log."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import time

from schemas.envelope import Envelope
from schemas.organization import DefineOrganization
from schemas.outcome import Outcome
from signalbox.client import Client, KafkaSettings
from signalbox.serving import HttpServer
from signalbox.settings import Address
from streams.deciding import Decider
from streams.kafka.authority import issued, open_authority
from streams.kafka.keys import signing_key
from streams.kafka.log import KafkaLog
from streams.log import Log
from tests.api.house import ADMIN, house

ORGANIZATION = "acme"


@dataclass
class Served:
    """`client` makes clients of the organization `acme`, which exists."""

    client: Callable[[], Client]
    log: Log
    decider: Decider
    _deciding: list["asyncio.Task[None]"] = field(default_factory=list["asyncio.Task[None]"])

    def resume(self) -> None:
        self._deciding.append(asyncio.create_task(self.decider.run()))

    async def pause(self) -> None:
        """No command is decided from here on."""
        for task in self._deciding:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._deciding.clear()

    async def events(self) -> list[Envelope]:
        return [r.envelope for r in await self.log.read("events", 0, 0, 1000)]


def nobody(decided: Sequence[tuple[Envelope, Outcome]], seconds: float) -> None:
    """Whoever asked follows the topic."""


@asynccontextmanager
async def over_kafka(settings: KafkaSettings, directory: Path) -> AsyncIterator[Served]:
    authority = open_authority(directory / "signing.jwk", directory / "trusted.jwks")
    async with AsyncExitStack() as stack:
        log = await KafkaLog.open(settings, directory, authority=authority)
        stack.push_async_callback(log.close)
        decider = Decider(log, 0, "/decider", nobody)
        await decider.start()
        token = service_token(directory)
        served = Served(lambda: Client.kafka(settings, token=token, organization=ORGANIZATION), log, decider)
        served.resume()
        stack.push_async_callback(served.pause)
        async with served.client() as client:
            await client.execute(DefineOrganization(organization=ORGANIZATION, name=ORGANIZATION))
        yield served


def service_token(directory: Path, *, organization: str = ORGANIZATION, seconds: float = 600.0) -> str:
    key = signing_key(directory / "signing.jwk")
    return issued(key, subject="billing", organizations=[organization], now=time(), seconds=seconds)


@asynccontextmanager
async def over_http(directory: Path) -> AsyncIterator[Served]:
    async with house(directory) as made:
        address = Address("127.0.0.1", free_port())
        server = HttpServer(made.app, address)
        await server.start()
        try:
            served = Served(
                lambda: Client.http(address.url, token=ADMIN, organization=ORGANIZATION),
                made.log,
                made.decider,
                [made.deciding],
            )
            yield served
            await served.pause()
        finally:
            await server.stop()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
