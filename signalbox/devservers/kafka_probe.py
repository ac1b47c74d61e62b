"""Whether a Kafka answers: one request of its protocol, so that no client library is needed."""

import socket
import struct

METADATA, VERSION = 3, 1
TIMEOUT = 2.0


def serves(host: str, port: int) -> bool:
    """Whether the broker there has a live broker and a controller to tell clients about."""
    # Request header v1: key, version, correlation id, client id; body: no topics.
    body = struct.pack(">hhih", METADATA, VERSION, 1, -1) + struct.pack(">i", 0)
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT) as connection:
            connection.settimeout(TIMEOUT)
            connection.sendall(struct.pack(">i", len(body)) + body)
            (size,) = struct.unpack(">i", _exactly(connection, 4))
            answer = _exactly(connection, size)
    except OSError:
        return False
    return live(answer)


def live(answer: bytes) -> bool:
    """Whether this answer (Metadata v1, without its size) names a broker and a controller."""
    try:
        _, brokers = struct.unpack_from(">ii", answer)
        at = 8
        for _ in range(brokers):
            at += 4
            (host,) = struct.unpack_from(">h", answer, at)
            at += 2 + host + 4
            (rack,) = struct.unpack_from(">h", answer, at)
            at += 2 + max(0, rack)
        (controller,) = struct.unpack_from(">i", answer, at)
    except struct.error:
        return False
    return bool(brokers > 0 and controller >= 0)


def _exactly(connection: socket.socket, size: int) -> bytes:
    """Raises OSError when the connection ends before."""
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise ConnectionError("it hung up")
        parts += part
    return bytes(parts)
