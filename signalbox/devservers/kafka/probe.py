"""Probes a Kafka with some requests of its protocol, without a client library."""

import socket
import struct
from typing import Literal

from signalbox.devservers.kafka.scram import Scram, ScramFailed

METADATA, SASL_HANDSHAKE, SASL_AUTHENTICATE = 3, 17, 36
TIMEOUT = 2.0

State = Literal["away", "refused", "serves"]


def probe(host: str, port: int, username: str = "", password: str = "") -> State:
    """`serves` when the broker's metadata names a live broker and a controller, `refused` when it rejects
    the user (SCRAM-SHA-256; no authentication without a name)."""
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT) as connection:
            connection.settimeout(TIMEOUT)
            if username:
                _authenticate(connection, Scram(username, password))
            # No topics.
            answer = _ask(connection, METADATA, 1, struct.pack(">i", 0))
    except ScramFailed:
        return "refused"
    except (OSError, struct.error):
        return "away"
    return "serves" if live(answer) else "away"


def serves(host: str, port: int, username: str = "", password: str = "") -> bool:
    """Whether a client can use the broker as this user."""
    return probe(host, port, username, password) == "serves"


def _authenticate(connection: socket.socket, scram: Scram) -> None:
    """Raises ScramFailed, OSError, struct.error."""
    mechanism = scram.MECHANISM.encode()
    shaken = _ask(connection, SASL_HANDSHAKE, 1, struct.pack(">h", len(mechanism)) + mechanism)
    (code,) = struct.unpack_from(">h", shaken, 4)
    if code:
        raise ScramFailed(f"the broker does not support {scram.MECHANISM}")
    challenge = _sasl(connection, scram.first())
    scram.verify(_sasl(connection, scram.final(challenge)))


def _sasl(connection: socket.socket, message: bytes) -> bytes:
    """The broker's answer to a SASL message. Raises ScramFailed, OSError, struct.error."""
    answer = _ask(connection, SASL_AUTHENTICATE, 0, struct.pack(">i", len(message)) + message)
    code, text = struct.unpack_from(">hh", answer, 4)
    if code:
        raise ScramFailed(answer[8 : 8 + max(0, text)].decode(errors="replace"))
    at = 8 + max(0, text)
    (size,) = struct.unpack_from(">i", answer, at)
    return answer[at + 4 : at + 4 + size]


def _ask(connection: socket.socket, key: int, version: int, body: bytes) -> bytes:
    """The answer to a request, with its correlation id. Raises OSError when the connection ends."""
    # Request header v1: key, version, correlation id, client id.
    request = struct.pack(">hhih", key, version, 1, -1) + body
    connection.sendall(struct.pack(">i", len(request)) + request)
    (size,) = struct.unpack(">i", _exactly(connection, 4))
    return _exactly(connection, size)


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
            raise ConnectionError("the server closed the connection")
        parts += part
    return bytes(parts)
