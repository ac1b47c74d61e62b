"""What the public suite ii/xds-test-harness drives: its adapter service, and the server under test.

The suite sets the state over `adapter.Adapter`, connects without a token and a gateway, and expects the
labels that it gave resources ("1", "2") as versions. Ours are content hashes. `Relay` stands between: it
adds the token and the gateway, and puts in place of a response's version the newest label that its
resources carry in their own bytes, so that a response with old content shows an old version.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import grpc
import grpc.aio
from envoy_data_plane.envoy.service.discovery.v3 import DeltaDiscoveryResponse, DiscoveryResponse

from gateways.config_resource import ConfigResource, content_version
from tests.xds.proxies import GATEWAY, KEEPALIVE_TYPE, TOKEN, DeltaProxy
from xds.server.discovery import DiscoveryServer
from xds.store import ResourceStore

_NAME, _LABEL = 1, 15000
"""Each of the four types has its name in field 1; no type has a field 15000, which readers skip."""

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True)
class Addresses:
    target: int
    adapter: int


@asynccontextmanager
async def served() -> AsyncIterator[Addresses]:
    """A discovery server of its own, behind a relay and an adapter."""
    store = ResourceStore()
    server = DiscoveryServer(store, lambda gateway, token: gateway == GATEWAY and token == TOKEN)
    async with AsyncExitStack() as stack:
        port = await server.start("127.0.0.1", 0)
        stack.push_async_callback(server.stop, 1)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        ports: list[int] = []
        for handler in (Relay(channel), Adapter(store, channel)):
            front = grpc.aio.server()
            front.add_generic_rpc_handlers((handler,))
            ports.append(front.add_insecure_port("127.0.0.1:0"))
            await front.start()
            stack.push_async_callback(front.stop, None)
        yield Addresses(*ports)


class Adapter(grpc.GenericRpcHandler):
    """`adapter.Adapter`: sets, clears and changes the resources of the one gateway.

    `channel` is the relay's: what the relay has handed on is taken in before a change is made.
    """

    def __init__(self, store: ResourceStore, channel: grpc.aio.Channel) -> None:
        self._store = store
        self._channel = channel
        self._methods: dict[str, Callable[[bytes], bytes]] = {
            "/adapter.Adapter/SetState": self._set,
            "/adapter.Adapter/ClearState": self._clear,
            "/adapter.Adapter/AddResource": self._put,
            "/adapter.Adapter/UpdateResource": self._put,
            "/adapter.Adapter/RemoveResource": self._remove,
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        method = self._methods.get(handler_call_details.method)
        if method is None:
            return None

        async def answer(request: bytes, context: object) -> bytes:
            await self._taken_in()
            return method(request)

        return grpc.unary_unary_rpc_method_handler(answer)

    async def _taken_in(self) -> None:
        """The way of a request is longer than that of a change: a question beside it waits for it."""
        probe = DeltaProxy(self._channel, "probe")
        await probe.ask(KEEPALIVE_TYPE, ["nothing"])
        await probe.next()
        await probe.close()

    def _set(self, request: bytes) -> bytes:
        label = _text(request, 2)
        packed = [value for number, value in _fields(request) if number == 3]
        self._store.apply([_resource(_text(one, 1), _text(_last(one, 2), _NAME), label) for one in packed])
        return b"\x08\x01"

    def _clear(self, request: bytes) -> bytes:
        held = self._store.entries(GATEWAY)
        self._store.apply([_removal(entry.type, entry.name) for entry in held])
        return b"\x0a\x02ok"

    def _put(self, request: bytes) -> bytes:
        self._store.apply([_resource(_text(request, 2), _text(request, 3), _text(request, 4))])
        return b"\x08\x01"

    def _remove(self, request: bytes) -> bytes:
        self._store.apply([_removal(_text(request, 2), _text(request, 3))])
        return b"\x08\x01"


class Relay(grpc.GenericRpcHandler):
    """Hands each stream on to the discovery server, as a proxy of the gateway."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = handler_call_details.method

        async def stream(_: object, context: Context) -> None:
            await self._serve(method, context)

        return grpc.stream_stream_rpc_method_handler(stream)

    async def _serve(self, method: str, context: Context) -> None:
        incremental = "/Delta" in method
        call = self._channel.stream_stream(method, None, None)(
            None, metadata=(("authorization", f"Bearer {TOKEN}"),)
        )
        requests = asyncio.create_task(_hand_on(context, call.write, call.done_writing, incremental))
        try:
            while isinstance(data := await call.read(), bytes):
                await context.write(_labelled_delta(data) if incremental else _labelled_state(data))
        finally:
            requests.cancel()
            call.cancel()
            with suppress(asyncio.CancelledError):
                await requests


async def _hand_on(
    context: Context,
    write: Callable[[bytes], Awaitable[None]],
    end: Callable[[], Awaitable[None]],
    incremental: bool,
) -> None:
    # A message field that comes twice is merged: the suite's node gets a cluster.
    node = _field(1 if incremental else 2, _field(2, GATEWAY.encode()))
    while isinstance(data := await context.read(), bytes):
        await write(data + node)
        node = b""
    await end()


def _labelled_delta(data: bytes) -> bytes:
    response = DeltaDiscoveryResponse.parse(data)
    response.system_version_info = _newest(r.resource.value for r in response.resources if r.resource)
    return bytes(response)


def _labelled_state(data: bytes) -> bytes:
    response = DiscoveryResponse.parse(data)
    response.version_info = _newest(resource.value for resource in response.resources)
    return bytes(response)


def _newest(bodies: Iterator[bytes]) -> str:
    return max((_text(body, _LABEL) for body in bodies), default="")


def _resource(type: str, name: str, label: str) -> ConfigResource:
    body = _field(_NAME, name.encode()) + _field(_LABEL, label.encode())
    return ConfigResource(GATEWAY, "envoy", type, name, content_version(body), 1, body)


def _removal(type: str, name: str) -> ConfigResource:
    return ConfigResource(GATEWAY, "envoy", type, name, "", 1, b"")


def _text(data: bytes, number: int) -> str:
    return _last(data, number).decode()


def _last(data: bytes, number: int) -> bytes:
    found: Sequence[bytes] = [value for key, value in _fields(data) if key == number]
    return found[-1] if found else b""


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message whose fields all have a length."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        assert tag & 7 == 2, f"field {tag >> 3} has no length"
        length, at = _varint(data, at)
        yield tag >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _field(number: int, data: bytes) -> bytes:
    return _number(number << 3 | 2) + _number(len(data)) + data


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))
