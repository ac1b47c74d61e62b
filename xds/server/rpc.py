"""gRPC with encoded messages: the only module with type parameters that grpc-stubs leave unknown."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnnecessaryIsInstance=false

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

import grpc
import grpc.aio

from xds.server.limits import LIMITS, Limits

Context = grpc.aio.ServicerContext[bytes, bytes]
Method = Callable[[object, Context], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Keepalive:
    """A peer is pinged after `after_ms` without data; the connection closes if it does not answer within
    `within_ms`."""

    after_ms: int = 15_000
    within_ms: int = 10_000

    def options(self) -> tuple[tuple[str, int], ...]:
        return (
            ("grpc.keepalive_time_ms", self.after_ms),
            ("grpc.keepalive_timeout_ms", self.within_ms),
            # Without it gRPC waits a minute for the answer to a ping, whatever the keepalive timeout.
            ("grpc.http2.ping_timeout_ms", self.within_ms),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
        )


KEEPALIVE = Keepalive()

LARGE = 64 << 10
"""Messages with at least this many bytes are written concurrently up to LARGE_BYTES in total."""
LARGE_BYTES = 128 << 20
PERMIT_SECONDS = 1.0

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


def server(
    services: Mapping[str, Mapping[str, Method]], keepalive: Keepalive = KEEPALIVE, limits: Limits = LIMITS
) -> grpc.aio.Server:
    """A server of bidirectional methods, by service and method name. A method is called when the metadata of
    a stream has arrived; messages are only read by `read`."""
    made = grpc.aio.server(options=(*_OPTIONS, *limits.options(), *keepalive.options()))
    for service, methods in services.items():
        handlers = {name: grpc.stream_stream_rpc_method_handler(method) for name, method in methods.items()}
        made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    return made


@dataclass(frozen=True, slots=True)
class Identity:
    """Private key and certificate chain of a TLS server, both in PEM."""

    key: bytes = field(repr=False)
    certificates: bytes


def listen(server: grpc.aio.Server, address: str, identity: Identity | None) -> int:
    """Binds the server to `address`; returns the port. Raises RuntimeError if it cannot be bound."""
    if identity is None:
        return server.add_insecure_port(address)
    credentials = grpc.ssl_server_credentials([(identity.key, identity.certificates)])
    return server.add_secure_port(address, credentials)


class Pace:
    """Limits the bytes of large messages that are written concurrently, since gRPC keeps a copy of each until
    the client has received it. A client slower than PERMIT_SECONDS no longer delays the others."""

    def __init__(self) -> None:
        self._free = LARGE_BYTES
        self._waiting = deque[tuple[int, asyncio.Future[None]]]()

    async def write(self, context: Context, message: bytes) -> None:
        size = min(len(message), LARGE_BYTES)
        if size < LARGE:
            await context.write(message)
            return
        await self._acquire(size)
        permit = Permit(lambda: self._release(size))
        timer = asyncio.get_running_loop().call_later(PERMIT_SECONDS, permit.release)
        try:
            await context.write(message)
        finally:
            timer.cancel()
            permit.release()

    async def _acquire(self, size: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(size)
            raise

    def _release(self, size: int) -> None:
        self._free += size
        self._admit()

    def _admit(self) -> None:
        """Admits messages in their order, as far as there are bytes for them."""
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= size
                turn.set_result(None)


class Permit:
    """Releases what it permits once."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release()


async def read(context: Context) -> bytes | None:
    """The next request; None after the last."""
    data: object = await context.read()
    return data if isinstance(data, bytes) else None


def peer(context: Context) -> str:
    """The address of the caller, without its port."""
    scheme, _, place = unquote(context.peer()).partition(":")
    return place.rpartition(":")[0].strip("[]") if scheme in ("ipv4", "ipv6") else context.peer()


def bearer_token(context: Context) -> str | None:
    """The token of `authorization: Bearer <token>`."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str):
            scheme, _, token = value.partition(" ")
            return token.strip() if scheme.lower() == "bearer" else None
    return None
