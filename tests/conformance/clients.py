"""Clients of the four variants of xDS: state of the world or incremental, on one stream or one per type."""

from collections.abc import Sequence

import grpc.aio

from tests.xds.proxies import SHORT, DeltaProxy, StateProxy
from xds.server.discovery import SERVICE

METHODS = {
    "CDS": "/envoy.service.cluster.v3.ClusterDiscoveryService/{}Clusters",
    "EDS": "/envoy.service.endpoint.v3.EndpointDiscoveryService/{}Endpoints",
    "LDS": "/envoy.service.listener.v3.ListenerDiscoveryService/{}Listeners",
    "RDS": "/envoy.service.route.v3.RouteDiscoveryService/{}Routes",
}
AGGREGATED = f"/{SERVICE}/{{}}AggregatedResources"

Bodies = dict[str, str]
"""What a response holds: the bodies by name."""


class StateClient:
    """State of the world: each request names everything that is wanted; it also acknowledges."""

    def __init__(self, channel: grpc.aio.Channel, aggregated: bool) -> None:
        self._channel = channel
        self._aggregated = aggregated
        self._streams: dict[str, StateProxy] = {}
        self._wanted: dict[str, list[str]] = {}
        self._answered: dict[str, tuple[str, str]] = {}

    async def want(self, type: str, names: Sequence[str]) -> None:
        """Asks for these names and no others; none at first: for everything."""
        self._wanted[type] = list(names)
        nonce, version = self._answered.get(type, ("", ""))
        await self._stream(type).ask(type, names, nonce, version)

    async def gets(self, type: str) -> Bodies:
        """The resources of the next response, which is acknowledged. Their bodies are `name=…`."""
        response = await self._stream(type).next()
        assert response.type_url == SHORT[type]
        self._answered[type] = (response.nonce, response.version_info)
        await self.want(type, self._wanted[type])
        texts = [resource.value.decode() for resource in response.resources]
        assert len(texts) == len({text.partition("=")[0] for text in texts}), "a resource came twice"
        return dict(text.split("=", 1) for text in texts)

    async def rest(self) -> int:
        """How many responses come after all this. Ends the streams."""
        return sum([await _rest(stream) for stream in self._streams.values()])

    def _stream(self, type: str) -> StateProxy:
        service, method = ("", AGGREGATED) if self._aggregated else (type, METHODS[type])
        if service not in self._streams:
            self._streams[service] = StateProxy(self._channel, "node", method=method.format("Stream"))
        return self._streams[service]


class DeltaClient:
    """Incremental: requests say what is wanted from now on, or no more."""

    def __init__(self, channel: grpc.aio.Channel, aggregated: bool) -> None:
        self._channel = channel
        self._aggregated = aggregated
        self._streams: dict[str, DeltaProxy] = {}

    async def want(self, type: str, names: Sequence[str]) -> None:
        """Asks for these names too."""
        await self._stream(type).ask(type, names)

    async def leave(self, type: str, names: Sequence[str]) -> None:
        """Asks for these names no more."""
        await self._stream(type).ask(type, unsubscribe=names)

    async def gets(self, type: str) -> tuple[Bodies, set[str]]:
        """The resources of the next response, which is acknowledged, and the names of what is not there."""
        response = await self._stream(type).next()
        assert response.type_url == SHORT[type]
        await self._stream(type).ask(type, nonce=response.nonce)
        found: Bodies = {}
        for resource in response.resources:
            name, _, body = (resource.resource.value if resource.resource else b"").decode().partition("=")
            assert name == resource.name
            found[name] = body
        return found, set(response.removed_resources)

    async def rest(self) -> int:
        """How many responses come after all this. Ends the streams."""
        return sum([await _rest(stream) for stream in self._streams.values()])

    def _stream(self, type: str) -> DeltaProxy:
        service, method = ("", AGGREGATED) if self._aggregated else (type, METHODS[type])
        if service not in self._streams:
            self._streams[service] = DeltaProxy(self._channel, "node", method=method.format("Delta"))
        return self._streams[service]


async def _rest(stream: StateProxy | DeltaProxy) -> int:
    """The server answers all it has to answer before it ends a stream whose client sends no more."""
    await stream.call.done_writing()
    came = 0
    while isinstance(await stream.call.read(), bytes):
        came += 1
    return came
