"""Hand-written codec of discovery requests and responses: only the fields a server needs.

Source: envoy/service/discovery/v3/discovery.proto, config/core/v3/base.proto, google/rpc/status.proto.
Requests are decoded without building message objects; responses are joined from pieces that were
encoded once per resource and are shared by all clients.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gateways.config_resource import ConfigResource
from xds.server.limits import LONGEST_REASON
from xds.server.streams.resource_deployments import NO_DEPLOYMENTS, ResourceDeployments


class WireError(ValueError):
    """The bytes are not a protobuf message of the expected kind."""


@dataclass(slots=True)
class Node:
    """The sender: `cluster` is the gateway's subject; `agent` such as `envoy 1.40.0`."""

    id: str = ""
    cluster: str = ""
    agent_name: str = ""
    agent_version: str = ""

    @property
    def agent(self) -> str:
        return f"{self.agent_name} {self.agent_version}".strip()


@dataclass(slots=True)
class ErrorDetail:
    """`error_detail`: its presence, and nothing else, makes a request a NACK."""

    code: int = 0
    message: str = ""


@dataclass(slots=True)
class DeltaRequest:
    node: Node | None = None
    type: str = ""
    subscribe: list[str] = field(default_factory=list[str])
    unsubscribe: list[str] = field(default_factory=list[str])
    initial_versions: dict[str, str] = field(default_factory=dict[str, str])
    nonce: str = ""
    error_detail: ErrorDetail | None = None


@dataclass(slots=True)
class StateRequest:
    """A state-of-the-world request."""

    node: Node | None = None
    type: str = ""
    names: list[str] = field(default_factory=list[str])
    version: str = ""
    nonce: str = ""
    error_detail: ErrorDetail | None = None


Span = tuple[int, int]


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise WireError("a varint of more than ten bytes")
    raise WireError("a varint is cut off")


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, Span | None]]:
    """Field number, varint (0 for other wire types), span of length-delimited bytes (None for others)."""
    while at < end:
        tag, at = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise WireError("field number 0")
        if kind == 2:
            length, at = _varint(data, at, end)
            if length > end - at:
                raise WireError(f"field {number} is cut off")
            yield number, 0, (at, at + length)
            at += length
        elif kind == 0:
            value, at = _varint(data, at, end)
            yield number, value, None
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
            if at > end:
                raise WireError(f"field {number} is cut off")
            yield number, 0, None
        else:
            raise WireError(f"field {number} has wire type {kind}")


def _text(data: bytes, span: Span) -> str:
    try:
        return data[span[0] : span[1]].decode()
    except UnicodeDecodeError as error:
        raise WireError("text is not UTF-8") from error


def _semantic_version(data: bytes, span: Span) -> str:
    numbers = [0, 0, 0]
    for number, _, build in _fields(data, *span):
        if number == 1 and build is not None:
            for part, value, length in _fields(data, *build):
                if 1 <= part <= 3 and length is None:
                    numbers[part - 1] = value
    return ".".join(map(str, numbers))


def _node(data: bytes, span: Span, node: Node) -> Node:
    for number, _, inner in _fields(data, *span):
        if inner is None:
            continue
        if number == 1:
            node.id = _text(data, inner)
        elif number == 2:
            node.cluster = _text(data, inner)
        elif number == 6:
            node.agent_name = _text(data, inner)
        elif number == 7:
            node.agent_version = _text(data, inner)
        elif number == 8:
            node.agent_version = _semantic_version(data, inner)
    return node


def _error_detail(data: bytes, span: Span, error_detail: ErrorDetail) -> ErrorDetail:
    for number, value, inner in _fields(data, *span):
        if number == 1 and inner is None:
            # int32: a negative number is sent as 64 bits of two's complement
            error_detail.code = (value & 0xFFFF_FFFF) - ((value & 0x8000_0000) << 1)
        elif number == 2 and inner is not None:
            error_detail.message = _text(data, inner)[:LONGEST_REASON]
    return error_detail


def _pair(data: bytes, span: Span) -> tuple[str, str]:
    key = value = ""
    for number, _, inner in _fields(data, *span):
        if inner is not None and number == 1:
            key = _text(data, inner)
        elif inner is not None and number == 2:
            value = _text(data, inner)
    return key, value


def decode_delta(data: bytes, with_node: bool = True) -> DeltaRequest:
    """Decodes a `DeltaDiscoveryRequest`, without its large node unless `with_node`. Raises WireError."""
    request = DeltaRequest()
    for number, _, span in _fields(data, 0, len(data)):
        if span is None:
            continue
        if number == 1:
            if with_node:
                request.node = _node(data, span, request.node or Node())
        elif number == 2:
            request.type = _text(data, span)
        elif number == 3:
            request.subscribe.append(_text(data, span))
        elif number == 4:
            request.unsubscribe.append(_text(data, span))
        elif number == 5:
            name, version = _pair(data, span)
            request.initial_versions[name] = version
        elif number == 6:
            request.nonce = _text(data, span)
        elif number == 7:
            request.error_detail = _error_detail(data, span, request.error_detail or ErrorDetail())
    return request


def decode_state(data: bytes, with_node: bool = True) -> StateRequest:
    """Decodes a `DiscoveryRequest`. Raises WireError."""
    request = StateRequest()
    for number, _, span in _fields(data, 0, len(data)):
        if span is None:
            continue
        if number == 1:
            request.version = _text(data, span)
        elif number == 2:
            if with_node:
                request.node = _node(data, span, request.node or Node())
        elif number == 3:
            request.names.append(_text(data, span))
        elif number == 4:
            request.type = _text(data, span)
        elif number == 5:
            request.nonce = _text(data, span)
        elif number == 6:
            request.error_detail = _error_detail(data, span, request.error_detail or ErrorDetail())
    return request


def _length(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, data: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _length(len(data)) + data


@dataclass(slots=True, eq=False)
class Ready:
    """A version of a resource to be sent. `stamp`: the gateway's change since which it is the version for
    clients; `deployments`: those that it carries."""

    entry: ConfigResource
    stamp: int
    deployments: ResourceDeployments = NO_DEPLOYMENTS

    @property
    def version(self) -> str:
        return self.entry.version

    @property
    def size(self) -> int:
        """The bytes of the resource in a response, but for a few."""
        entry = self.entry
        return len(entry.body) + len(entry.name) + len(entry.type) + len(entry.version)

    @property
    def head(self) -> bytes:
        """The bytes before the body in field 2 of a delta response. Not kept: all of them take 180 bytes for
        each resource, and most are needed once, for a response that streams share."""
        entry, packed = self.entry, self.packed_head
        named = _field(1, entry.version.encode()) + _field(3, entry.name.encode())
        return b"\x12" + _length(len(named) + len(packed) + len(entry.body)) + named + packed

    @property
    def packed_head(self) -> bytes:
        """The bytes before the body in field 2 of a state-of-the-world response: the body comes last in the
        packed resource."""
        size = len(self.entry.body)
        packed = _field(1, self.entry.type.encode()) + b"\x12" + _length(size)
        return b"\x12" + _length(len(packed) + size) + packed


def delta_response(
    type: str, nonce: str, resources: Iterable[Ready], removed: Sequence[str] = (), version: str = ""
) -> bytes:
    """A `DeltaDiscoveryResponse`; `version` is only for debugging."""
    parts = [_field(1, version.encode())] if version else []
    for resource in resources:
        parts += (resource.head, resource.entry.body)
    parts += (_field(4, type.encode()), _field(5, nonce.encode()))
    parts += (_field(6, name.encode()) for name in removed)
    return b"".join(parts)


def state_response(type: str, nonce: str, resources: Iterable[Ready], version: str) -> bytes:
    """A `DiscoveryResponse`."""
    parts = [_field(1, version.encode())]
    for resource in resources:
        parts += (resource.packed_head, resource.entry.body)
    parts += (_field(4, type.encode()), _field(5, nonce.encode()))
    return b"".join(parts)
