"""The discovery services over gRPC, in both variants: aggregated, and one per resource type.

The state machine of `xds.server.streams.stream` implements the protocol. Each stream has a reader task and a
writer task; a change of the gateway only sets the writers' events.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from time import time_ns
from typing import Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

import grpc
import grpc.aio

from gateways.config_resource import ConfigResource
from schemas.identity import uuid7
from xds.server import rpc
from xds.server.limits import LARGEST_FIRST_REQUEST, LIMITS, Limits
from xds.server.node import require_valid
from xds.server.observer import Connection, NullObserver, Observer, Progress, together
from xds.server.rpc import Context
from xds.server.services import AGGREGATED, SERVICES, Service, typed
from xds.server.streams.delta import DeltaStream
from xds.server.streams.state_of_the_world import StateStream
from xds.server.wire import DeltaRequest, Node, StateRequest, WireError, decode_delta, decode_state
from xds.store import ResourceStore
from xds.store.gateway import Gateway
from xds.types import ResourceKey

SERVICE = AGGREGATED.name

_UNAUTHENTICATED = "unknown gateway or wrong token"
_SHOWN = 200
"""Maximum number of characters of a caller's `node.cluster` in a log line."""

Authenticate = Callable[[str, str], bool]
"""Gateway's subject and token -> whether the token is that of the gateway."""

Denied = Callable[[str], None]
"""Called with the reason when a stream is refused; the token is left out."""


def _nothing(why: str) -> None:
    """The default: refusals are not reported."""


R = TypeVar("R", DeltaRequest, StateRequest)
R_contra = TypeVar("R_contra", DeltaRequest, StateRequest, contravariant=True)


class _Served(Protocol):
    """The interface of a stream, common to both variants."""

    @property
    def connection(self) -> Connection: ...

    def progress(self) -> Progress: ...

    def try_again(self, key: ResourceKey) -> None: ...


class _Machine(_Served, Protocol[R_contra]):
    def receive(self, request: R_contra) -> None: ...

    def responses(self) -> list[bytes]: ...

    def held_back(self) -> list[tuple[str, float]]: ...

    def release(self, type: str) -> None: ...

    def cursor(self, type: str) -> int: ...

    def may_take(self, key: ResourceKey, version: str) -> bool | None: ...


class _Releases(Generic[R]):
    """Releases the responses that a stream holds back, when they are due."""

    def __init__(self, stream: _Machine[R], wake: asyncio.Event) -> None:
        self._stream = stream
        self._wake = wake
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def schedule(self) -> None:
        for type, seconds in self._stream.held_back():
            if type in self._timers:
                self._timers[type].cancel()
            self._timers[type] = asyncio.get_running_loop().call_later(seconds, self._release, type)

    def cancel(self) -> None:
        for timer in self._timers.values():
            timer.cancel()

    def _release(self, type: str) -> None:
        self._stream.release(type)
        self._wake.set()


class DiscoveryServer:
    """Serves a store's gateways to their proxies.

    A proxy sends its gateway's subject as `node.cluster`, its own id as `node.id` and the gateway's token as
    `authorization: Bearer <token>`; otherwise the stream ends with UNAUTHENTICATED. No request is read from a
    stream unless `is_known` accepts its token.
    """

    def __init__(
        self,
        store: ResourceStore,
        authenticate: Authenticate,
        observer: Observer | None = None,
        keepalive: rpc.Keepalive = rpc.KEEPALIVE,
        *,
        is_known: Callable[[str], bool] = bool,
        limits: Limits = LIMITS,
        denied: Denied = _nothing,
    ) -> None:
        self._denied = denied
        self._keepalive = keepalive
        self._limits = limits
        self._is_known = is_known
        self._pace = rpc.Pace()
        self._first_requests: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._store = store
        self._authenticate = authenticate
        self._observer: Observer = observer or NullObserver()
        self._server: grpc.aio.Server | None = None
        self._streams: dict[asyncio.Event, _Served] = {}
        self._connections: Counter[Connection] = Counter()
        self._connected_ms = 0
        self._shared: dict[tuple[str, str], Connection] = {}
        self._stopping = False
        self.loaded = asyncio.Event()
        """Set once the store has everything: a proxy removes what is missing."""
        self._ending: set[asyncio.Event] = set()

    async def start(
        self, host: str, port: int, identity: rpc.Identity | None = None, *, loaded: bool = True
    ) -> int:
        """Listens, with TLS if `identity` is given; returns the port. Unless the store is `loaded`, streams
        wait for the event. Raises OSError if it cannot listen.
        """
        services = {service.name: self._methods(service) for service in SERVICES}
        server = rpc.server(services, self._keepalive, self._limits)
        try:
            bound = rpc.listen(server, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", identity)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {host}:{port}") from error
        if loaded:
            self.loaded.set()
        await server.start()
        self._server, self._stopping = server, False
        return bound

    async def stop(self, grace: float = 1.0) -> None:
        """Ends the streams gracefully; streams still open after `grace` seconds are aborted."""
        server, self._server = self._server, None
        if server is None:
            return
        self._stopping = True
        for wake in tuple(self._streams):
            wake.set()
        await server.stop(grace)

    def disconnect(self, gateway: str) -> None:
        """Ends the streams of a gateway. Its proxies reconnect if they are still authorized."""
        for wake, stream in self._streams.items():
            if stream.connection.gateway == gateway:
                self._ending.add(wake)
                wake.set()

    def offer_again(self, entry: ConfigResource) -> None:
        """Offers a version again to those proxies of the gateway that rejected it, on their streams."""
        key = (entry.type, entry.name)
        gateway = self._store.gateway(entry.gateway)
        gateway.retry(key)
        for stream in self._streams.values():
            if stream.connection.gateway == entry.gateway:
                stream.try_again(key)
        gateway.wake()

    def progress(self) -> Iterator[tuple[Connection, Progress]]:
        """The progress of each connected proxy."""
        found: dict[Connection, list[Progress]] = {}
        for stream in tuple(self._streams.values()):
            found.setdefault(stream.connection, []).append(stream.progress())
        for connection, several in found.items():
            yield connection, together(several)

    @property
    def streams(self) -> int:
        """Number of open streams."""
        return len(self._streams)

    def nodes(self, gateway: str) -> list[str]:
        """The connected nodes of a gateway."""
        connections = (stream.connection for stream in self._streams.values())
        return list(dict.fromkeys(c.node for c in connections if c.gateway == gateway))

    def quarantined(self, gateway: str) -> list[tuple[ConfigResource, str]]:
        """Versions that all connected proxies of the gateway rejected, with the redacted reason."""
        return self._store.quarantined(gateway)

    def _methods(self, service: Service) -> dict[str, rpc.Method]:
        methods: dict[str, rpc.Method] = {service.delta: partial(self._delta, service)}
        if service.state:
            methods[service.state] = partial(self._state, service)
        return methods

    async def _delta(self, service: Service, _: object, context: Context) -> None:
        def decode(data: bytes, first: bool) -> DeltaRequest:
            return typed(decode_delta(data, first), service)

        await self._serve(context, service, decode, DeltaStream)

    async def _state(self, service: Service, _: object, context: Context) -> None:
        def decode(data: bytes, first: bool) -> StateRequest:
            return typed(decode_state(data, first), service)

        await self._serve(context, service, decode, StateStream)

    async def _serve(
        self,
        context: Context,
        service: Service,
        decode: Callable[[bytes, bool], R],
        machine: Callable[[Gateway, Connection, Observer], _Machine[R]],
    ) -> None:
        await self.loaded.wait()
        token = rpc.bearer_token(context)
        data = await self._first_request(context, token)
        if data is None or token is None:
            return
        try:
            first = decode(data, True)
        except WireError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        node = first.node or Node()
        if not self._allowed(node, token):
            self._denied(
                f"xDS: a node at {rpc.peer(context)} is refused: its token is not that of the gateway "
                f"{node.cluster[:_SHOWN]!r}, or there is no such gateway (node.cluster)"
            )
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, _UNAUTHENTICATED)
        try:
            require_valid(node)
        except WireError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        gateway = self._store.gateway(node.cluster)
        wake = asyncio.Event()
        connection = self._connect(node, service)
        stream = machine(gateway, connection, self._observer)
        self._streams[wake] = stream
        gateway.watch(wake.set, stream)
        releases = _Releases(stream, wake)
        asked: deque[bytes] = deque()
        reader = asyncio.create_task(self._read(context, decode, stream, releases, wake, asked))
        try:
            stream.receive(first)
            await self._write(
                context, stream, releases, wake, reader, asked, lambda: self._allowed(node, token)
            )
        except WireError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            gateway.unwatch(wake.set)
            reader.cancel()
            releases.cancel()
            with contextlib.suppress(asyncio.CancelledError, WireError):
                await reader
            self._ending.discard(wake)
            del self._streams[wake]
            self._disconnect(connection)

    async def _first_request(self, context: Context, token: str | None) -> bytes | None:
        """Reads the first request if the token is valid; None if the client sends none."""
        if token is None or not self._is_known(token):
            what = "it sends no token" if token is None else "its token is that of no gateway"
            self._denied(f"xDS: a node at {rpc.peer(context)} is refused: {what}")
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, _UNAUTHENTICATED)
        turn = self._first_requests.get(token) or asyncio.Semaphore(self._limits.awaited)
        self._first_requests[token] = turn
        try:
            async with asyncio.timeout(self._limits.first_request_seconds), turn:
                data = await rpc.read(context)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "no request received")
        if data is not None and len(data) > LARGEST_FIRST_REQUEST:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the first request of a stream has {len(data)} bytes, the limit is {LARGEST_FIRST_REQUEST}",
            )
        return data

    async def _read(
        self,
        context: Context,
        decode: Callable[[bytes, bool], R],
        stream: _Machine[R],
        releases: "_Releases[R]",
        wake: asyncio.Event,
        asked: deque[bytes],
    ) -> None:
        """Handles requests. What they ask for is added to `asked`, for `_write`, unless that has something to
        write: most requests ask for nothing, and do not cost its turn."""
        try:
            while (data := await rpc.read(context)) is not None:
                stream.receive(decode(data, False))
                if not asked:
                    asked.extend(stream.responses())
                releases.schedule()
                if asked:
                    wake.set()
        finally:
            wake.set()

    async def _write(
        self,
        context: Context,
        stream: _Machine[R],
        releases: "_Releases[R]",
        wake: asyncio.Event,
        reader: "asyncio.Task[None]",
        asked: deque[bytes],
        allowed: Callable[[], bool],
    ) -> None:
        while not self._stopping and wake not in self._ending:
            wake.clear()
            asked.extend(stream.responses())
            releases.schedule()
            while asked:
                await self._pace.write(context, asked[0])
                asked.popleft()
            if reader.done():
                reader.result()
                return
            if not allowed():
                # The gateway was removed or has another token: the proxy is no longer authorized.
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is no longer valid")
            await wake.wait()

    def _allowed(self, node: Node, token: str) -> bool:
        return bool(node.cluster) and self._authenticate(node.cluster, token)

    def _connect(self, node: Node, service: Service) -> Connection:
        """A new connection, or that of the proxy's other streams if each carries one type."""
        key = (node.cluster, node.id)
        connection = self._shared.get(key) if service.type else None
        if connection is None:
            # Strictly increasing, even within a millisecond or after the clock was set back.
            self._connected_ms = max(self._connected_ms + 1, time_ns() // 1_000_000)
            connection = Connection(*key, uuid7(self._connected_ms), node.agent)
            if service.type:
                self._shared[key] = connection
            self._observer.connected(connection)
        self._connections[connection] += 1
        return connection

    def _disconnect(self, connection: Connection) -> None:
        self._connections[connection] -= 1
        if not self._connections[connection]:
            del self._connections[connection]
            key = (connection.gateway, connection.node)
            if self._shared.get(key) == connection:
                del self._shared[key]
            self._observer.disconnected(connection)
