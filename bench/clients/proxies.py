"""Proxies outside of Signalbox: delta streams of one resource type that acknowledge everything.

    python -I bench/clients/proxies.py PORT COUNT GATEWAY TOKEN TYPE

The streams share few connections, as behind a load balancer. Whenever all of them have received one more
response, it writes a line to stdout: the machine's monotonic time. HTTP/2 and gRPC are written out here, so
that the proxies take as little as possible of the processor that they share with the server. It imports the
standard library only, and ends with an error if the server ends a stream.
"""

import selectors
import socket
import struct
import sys
import time
from collections.abc import Iterator

CONNECTIONS = 8
WINDOW = 0x7FFFFFFF
PATH = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
DATA, HEADERS, RESET, SETTINGS, PING, GO_AWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM = ACK = 0x1
END_HEADERS = 0x4


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!IBI", len(payload) << 8 | kind, flags, stream) + payload


def literal(text: str) -> bytes:
    """A string of HPACK without Huffman coding."""
    data = text.encode()
    assert len(data) < 0x7F
    return bytes((len(data),)) + data


def field(number: int, data: bytes) -> bytes:
    """A length-delimited field of Protobuf."""
    length, rest = bytearray(), len(data)
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((number << 3 | 2, *length, rest)) + data


def message(data: bytes) -> bytes:
    """A message of gRPC, not compressed."""
    return struct.pack("!BI", 0, len(data)) + data


class Connection:
    """The streams on one connection; `answers` are the bytes to be sent."""

    def __init__(self, port: int, type: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = bytearray(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.answers += frame(SETTINGS, 0, 0, struct.pack("!HI", 4, WINDOW))
        self.answers += frame(WINDOW_UPDATE, 0, 0, struct.pack("!I", WINDOW - 0xFFFF))
        self._type = type
        self._received = bytearray()
        self._messages: dict[int, bytearray] = {}

    def open(self, node: str, gateway: str, token: str) -> None:
        stream = 2 * len(self._messages) + 1
        self._messages[stream] = bytearray()
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": PATH,
            ":authority": "localhost",
            "content-type": "application/grpc",
            "te": "trailers",
            "authorization": f"Bearer {token}",
        }
        block = b"".join(b"\0" + literal(name) + literal(value) for name, value in headers.items())
        first = field(1, field(1, node.encode()) + field(2, gateway.encode())) + field(2, self._type)
        self.answers += frame(HEADERS, END_HEADERS, stream, block)
        self.answers += frame(DATA, 0, stream, message(first))

    def send(self) -> None:
        self.socket.sendall(self.answers)
        self.answers.clear()

    def receive(self) -> int:
        """Reads what has arrived, and returns the number of responses that are complete now."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._received += data
        responses = 0
        for kind, flags, stream, payload in self._frames():
            if kind == DATA:
                responses += self._more(stream, payload)
            elif kind in (SETTINGS, PING) and not flags & ACK:
                self.answers += frame(kind, ACK, 0, payload if kind == PING else b"")
            elif kind in (RESET, GO_AWAY) or (kind == HEADERS and flags & END_STREAM):
                raise ConnectionError(f"the server ended stream {stream}: {payload!r}")
        return responses

    def _frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        at, received = 0, bytes(self._received)
        while len(received) - at >= 9:
            head, flags, stream = struct.unpack_from("!IBI", received, at)
            end = at + 9 + (head >> 8)
            if end > len(received):
                break
            yield head & 0xFF, flags, stream, received[at + 9 : end]
            at = end
        del self._received[:at]

    def _more(self, stream: int, payload: bytes) -> int:
        """Adds to the message of a stream, and acknowledges it when it is complete; how many were."""
        received = self._messages[stream]
        received += payload
        responses = 0
        while len(received) >= 5 and len(received) >= (end := 5 + int.from_bytes(received[1:5], "big")):
            # The nonce follows the type, as the last field of a response without removals.
            after = received.rindex(self._type, 0, end) + len(self._type)
            nonce = bytes(received[after + 2 : after + 2 + received[after + 1]])
            self.answers += frame(DATA, 0, stream, message(field(2, self._type) + field(6, nonce)))
            del received[:end]
            responses += 1
        return responses


def main(port: str, count: str, gateway: str, token: str, type: str) -> None:
    ready = selectors.DefaultSelector()
    connections = [Connection(int(port), type.encode()) for _ in range(CONNECTIONS)]
    for index in range(int(count)):
        connections[index % CONNECTIONS].open(f"node-{index}", gateway, token)
    for connection in connections:
        connection.send()
        ready.register(connection.socket, selectors.EVENT_READ, connection)
    responses = rounds = 0
    while True:
        for key, _ in ready.select():
            connection = key.data
            responses += connection.receive()
            if connection.answers:
                connection.send()
        for _ in range(rounds, responses // int(count)):
            print(time.monotonic(), flush=True)
        rounds = responses // int(count)


if __name__ == "__main__":
    main(*sys.argv[1:])
