"""Entries to serve, an observer that remembers, and proxies that speak the protocol over real gRPC."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc.aio
from envoy_data_plane.envoy.config.core.v3 import Node
from envoy_data_plane.envoy.service.discovery.v3 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from envoy_data_plane.google.rpc import Status

from gateways.config_resource import ConfigResource, DeploymentRef, content_version
from tests.support.hang_guard import HANG_SECONDS
from xds.server.discovery import SERVICE
from xds.server.observer import Connection, Delivered, Progress
from xds.types import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SCOPED_ROUTES

GATEWAY = "organizations/acme/gateways/edge"
TOKEN = "let-me-in"
SHORT = {"CDS": CLUSTER, "EDS": ENDPOINTS, "LDS": LISTENER, "SRDS": SCOPED_ROUTES, "RDS": ROUTES}
KEEPALIVE_TYPE = "type.example/nothing"


def entry(
    type: str,
    name: str,
    body: str,
    requires: Sequence[tuple[str, str]] = (),
    deployment: str = "",
    gateway: str = "",
) -> ConfigResource:
    """A resource with a body that only these tests understand; an empty body removes."""
    data = body.encode()
    refs = (DeploymentRef(deployment, "api", 1, "/x"),) if deployment else ()
    needed = tuple((SHORT.get(kind, kind), needed) for kind, needed in requires)
    return ConfigResource(
        gateway or GATEWAY,
        "envoy",
        SHORT.get(type, type),
        name,
        content_version(data) if data else "",
        1,
        data,
        needed,
        refs,
    )


@dataclass
class Remembering:
    """All notifications of the server, as (kind, node, names, reason)."""

    notified: list[tuple[str, str, tuple[str, ...], str]] = field(default_factory=list)
    entries: list[tuple[str, ConfigResource]] = field(default_factory=list)
    deployments: list[tuple[str, str, str]] = field(default_factory=list)
    """What came to a node, what it lacks since it rejected it, and what is gone from it."""
    progress: list[tuple[str, Progress]] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns when a notification makes `condition` true."""
        async with asyncio.timeout(HANG_SECONDS):
            while not condition():
                self.more.clear()
                await self.more.wait()

    def _note(self, what: str, node: str, entries: Sequence[ConfigResource], reason: str = "") -> None:
        self.notified.append((what, node, tuple(sorted(e.name for e in entries)), reason))
        self.entries += [(what, e) for e in entries]
        self.more.set()

    def connected(self, connection: Connection) -> None:
        self.notified.append(("connected", connection.node, (connection.gateway,), connection.agent))
        self.more.set()

    def disconnected(self, connection: Connection) -> None:
        self.notified.append(("disconnected", connection.node, (connection.gateway,), ""))
        self.more.set()

    def sent(self, connection: Connection, entries: Sequence[ConfigResource]) -> None:
        self._note("sent", connection.node, entries)

    def acknowledged(
        self, connection: Connection, entries: Sequence[ConfigResource], came: Sequence[Delivered]
    ) -> None:
        self.deployments += [("came", connection.node, new.ref.deployment) for new in came]
        self._note("acknowledged", connection.node, entries)

    def rejected(
        self,
        connection: Connection,
        entries: Sequence[ConfigResource],
        reason: str,
        deployments: Sequence[Delivered],
    ) -> None:
        self.deployments += [("lacks", connection.node, new.ref.deployment) for new in deployments]
        self._note("refused", connection.node, entries, reason)

    def withdrawn(
        self, connection: Connection, entries: Sequence[ConfigResource], gone: Sequence[Delivered]
    ) -> None:
        self.deployments += [("gone", connection.node, left.ref.deployment) for left in gone]
        if entries:
            self._note("withdrawn", connection.node, entries)

    def progressed(self, connection: Connection, progress: Progress) -> None:
        self.progress.append((connection.node, progress))
        self.more.set()

    def names(self, what: str, node: str = "") -> list[str]:
        return [
            name
            for notified, who, names, _ in self.notified
            for name in names
            if notified == what and node in ("", who)
        ]

    def deployments_that(self, what: str) -> set[str]:
        return {ref.deployment for notified, e in self.entries if notified == what for ref in e.deployments}


class _Stream:
    method = ""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        node: str,
        gateway: str = GATEWAY,
        token: str = TOKEN,
        method: str = "",
    ) -> None:
        """`method` is the full name of another one than the aggregated service's."""
        self.node = Node(id=node, cluster=gateway, user_agent_name="envoy")
        self._first = True
        self.call = channel.stream_stream(method or f"/{SERVICE}/{self.method}", None, None)(
            None, metadata=(("authorization", f"Bearer {token}"),)
        )

    async def _write(self, request: DeltaDiscoveryRequest | DiscoveryRequest) -> None:
        if self._first:
            request.node = self.node
            self._first = False
        await self.call.write(bytes(request))

    async def receive(self) -> bytes:
        data = await self.call.read()
        assert isinstance(data, bytes), "the server ended the stream"
        return data

    async def close(self) -> None:
        self.call.cancel()


class DeltaProxy(_Stream):
    method = "DeltaAggregatedResources"

    async def ask(
        self,
        type: str,
        subscribe: Sequence[str] = (),
        unsubscribe: Sequence[str] = (),
        has: dict[str, str] | None = None,
        nonce: str = "",
        error: str | None = None,
    ) -> None:
        await self._write(
            DeltaDiscoveryRequest(
                type_url=SHORT.get(type, type),
                resource_names_subscribe=list(subscribe),
                resource_names_unsubscribe=list(unsubscribe),
                initial_resource_versions=has or {},
                response_nonce=nonce,
                error_detail=None if error is None else Status(code=13, message=error),
            )
        )

    async def next(self) -> DeltaDiscoveryResponse:
        return DeltaDiscoveryResponse.parse(await self.receive())


class StateProxy(_Stream):
    method = "StreamAggregatedResources"

    async def ask(
        self,
        type: str,
        names: Sequence[str] = (),
        nonce: str = "",
        version: str = "",
        error: str | None = None,
    ) -> None:
        await self._write(
            DiscoveryRequest(
                type_url=SHORT.get(type, type),
                resource_names=list(names),
                response_nonce=nonce,
                version_info=version,
                error_detail=None if error is None else Status(code=13, message=error),
            )
        )

    async def next(self) -> DiscoveryResponse:
        return DiscoveryResponse.parse(await self.receive())
