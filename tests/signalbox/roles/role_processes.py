"""A harness with a real Kafka: a decider, the roles of a test, and all status messages of gateways."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from schemas.aggregates.environment import DefineEnvironment
from schemas.aggregates.gateway import RegisterGateway
from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from schemas.codecs.canonical import sha256_hex
from schemas.message import Command
from schemas.status import DeliveryReported, NodeReported, Status
from signalbox.data_directory.tokens import kept_secret
from signalbox.roles.runner import RoleRunner
from signalbox.settings import Address, Settings
from streams.decider.decider import Decider
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.status_messages import status_of
from tests.commands.shop import ORG
from tests.streams.decider_cases import envelope
from tests.support.free_ports import free_port
from tests.support.hang_guard import HANG_SECONDS

EAST = f"organizations/{ORG}/gateways/east"
NODE = "east-1"


@dataclass
class RoleProcesses:
    directory: Path
    log: KafkaLog
    gateway: Address
    running: dict[str, AsyncExitStack] = field(default_factory=dict[str, AsyncExitStack])
    statuses: list[Status] = field(default_factory=list[Status])
    position: int = 0

    async def run(self, role: str, name: str = "", xds: Address | None = None) -> None:
        """One role in a process's stead, which `stop` ends; returns when it does its work."""
        settings = Settings(
            data=self.directory / (name or role),
            secrets=self.directory / "secrets",
            engine="kafka",
            kafka=self.log.settings,
            gateway=self.gateway,
            xds=xds or Settings().xds,
        )
        self.running[name or role] = stack = AsyncExitStack()
        roles = await stack.enter_async_context(RoleRunner(settings, [role]))
        async with asyncio.timeout(HANG_SECONDS):
            await roles.started()

    async def stop(self, name: str) -> None:
        await self.running.pop(name).aclose()

    async def command(self, *commands: Command, ids: Sequence[str] = ()) -> None:
        named = list(ids) or [None] * len(commands)
        await self.log.append("commands", [envelope(c, i) for c, i in zip(commands, named, strict=True)])

    async def delivered(self, deployment: str, fact: str) -> DeliveryReported:
        """The status message of a deployment, when it is published."""

        def fits(status: Status) -> bool:
            return isinstance(status, DeliveryReported) and (status.deployment, status.fact) == (
                deployment,
                fact,
            )

        found = await self.until(fits)
        assert isinstance(found, DeliveryReported)
        return found

    async def connections(self, number: int) -> None:
        """Returns once the node has had so many connections."""

        def enough(_: Status) -> bool:
            return (
                len({s.connection for s in self.statuses if isinstance(s, NodeReported) and s.node == NODE})
                >= number
            )

        await self.until(enough)

    async def until(self, fits: Callable[[Status], bool]) -> Status:
        async with asyncio.timeout(HANG_SECONDS):
            while (found := next(filter(fits, self.statuses), None)) is None:
                await self.log.wait("status", 0, self.position)
                for record in await self.log.read("status", 0, self.position, 1000):
                    self.position = record.position
                    if (status := status_of(record)) is not None:
                        self.statuses.append(status)
        return found


@asynccontextmanager
async def role_processes(directory: Path, settings: KafkaSettings) -> AsyncIterator[RoleProcesses]:
    """Organization acme with the gateway `east`, and nothing that runs but a decider."""
    async with AsyncExitStack() as stack:
        log = await KafkaLog.open(settings, directory / "test")
        stack.push_async_callback(log.close)
        decider = Decider(log, 0, "/test", lambda decisions, seconds: None)
        await decider.start()
        deciding = asyncio.create_task(decider.run())
        made = RoleProcesses(directory, log, Address("127.0.0.1", free_port()))
        secrets = directory / "secrets"
        secrets.mkdir()
        await made.command(
            DefineOrganization(organization=ORG, name=ORG),
            DefineProject(organization=ORG, name="shop"),
            DefineEnvironment(organization=ORG, name="development"),
            RegisterGateway(
                organization=ORG,
                name="east",
                environment="development",
                port=made.gateway.port,
                address=made.gateway.host,
                token_digest=sha256_hex(kept_secret(secrets / "gateway.token", "sbg_").encode()),
            ),
        )
        try:
            yield made
        finally:
            for name in reversed(list(made.running)):
                await made.stop(name)
            deciding.cancel()
            await asyncio.gather(deciding, return_exceptions=True)
            await decider.stop()
