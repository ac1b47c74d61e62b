"""A Signalbox that clients reach over Kafka or over HTTP: the real decider, on the real log."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from time import time

from schemas.aggregates.organization import DefineOrganization
from schemas.envelope import Envelope
from schemas.outcome import Outcome
from signalbox.http.server import HttpServer
from signalbox.roles.decider import partition_deciders
from signalbox.settings import Address
from signalbox_client import Client
from signalbox_client import KafkaSettings as ClientSettings
from streams.decider.decider import Decider
from streams.kafka.log import KafkaLog
from streams.kafka.security.authority import issued, open_authority
from streams.kafka.security.binding import TOKEN_KEY, with_secret
from streams.kafka.security.keys import kept_text, signing_key
from streams.kafka.settings import KafkaSettings
from streams.log import Log
from tests.api.running_api import ADMIN, running_api
from tests.support.free_ports import free_port

ORGANIZATION = "acme"


@dataclass
class Served:
    """`client` makes clients of the organization `acme`, which exists.

    No command is decided between `pause` and `resume`. `url` is the API's address, empty over Kafka.
    """

    client: Callable[[], Client]
    log: Log
    pause: Callable[[], Awaitable[None]]
    resume: Callable[[], Awaitable[None]]
    url: str = ""

    async def events(self) -> list[Envelope]:
        return [r.envelope for r in await self.log.read("events", 0, 0, 1000)]


def no_listener(decided: Sequence[tuple[Envelope, Outcome]], seconds: float) -> None:
    """Whoever asked follows the topic."""


@asynccontextmanager
async def over_kafka(settings: KafkaSettings, directory: Path) -> AsyncIterator[Served]:
    authority = open_authority(directory / "signing.jwk", directory / "trusted.jwks")
    async with AsyncExitStack() as stack:
        integrity_key = directory / "integrity.key"
        log = await KafkaLog.open(settings, directory, authority=authority, integrity_key=integrity_key)
        stack.push_async_callback(log.close)
        deciding = partition_deciders(
            lambda partition: Decider(log, partition, "/test", no_listener, answer_again=True), log
        )
        await deciding.assigned(0)
        stack.push_async_callback(deciding.revoked, 0)
        token = service_token(directory)
        served = Served(
            lambda: Client.kafka(client_settings(settings), token=token, organization=ORGANIZATION),
            log,
            lambda: deciding.revoked(0),
            lambda: deciding.assigned(0),
        )
        async with served.client() as client:
            await client.execute(DefineOrganization(organization=ORGANIZATION, name=ORGANIZATION))
        yield served


def client_settings(settings: KafkaSettings) -> ClientSettings:
    """How a client reaches the same broker and topics."""
    return ClientSettings(**{f.name: getattr(settings, f.name) for f in fields(ClientSettings)})


def service_token(directory: Path, *, organization: str = ORGANIZATION, seconds: float = 600.0) -> str:
    """As `signalbox token create` prints it."""
    key = signing_key(directory / "signing.jwk")
    made = issued(key, subject="billing", organizations=[organization], now=time(), seconds=seconds)
    return with_secret(kept_text(directory / TOKEN_KEY), made)


@asynccontextmanager
async def over_http(directory: Path) -> AsyncIterator[Served]:
    async with running_api(directory) as made:
        address = Address("127.0.0.1", free_port())
        server = HttpServer(made.app, address)
        await server.start()

        async def resume() -> None:
            made.resume()

        try:
            yield Served(
                lambda: Client.http(address.url, token=ADMIN, organization=ORGANIZATION),
                made.log,
                made.pause,
                resume,
                address.url,
            )
        finally:
            await server.stop()
