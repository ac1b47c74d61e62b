"""A keep-alive HTTP/1.1 connection that costs as little as possible."""

import contextlib
import socket
from pathlib import Path

HANG_SECONDS = 120.0
"""Waiting that takes longer is a hang. Work in progress is never ended, even on a slow machine."""

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers in lower case, body."""


class Connection:
    """Blocking; one request at a time. Raises ConnectionError, TimeoutError."""

    def __init__(self, where: int | Path, seconds: float = HANG_SECONDS) -> None:
        """`where` is a port on loopback, or a Unix socket."""
        if isinstance(where, Path):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(seconds)
            self._socket.connect(str(where))
            return
        self._socket = socket.create_connection(("127.0.0.1", where), seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(
        self, method: str, path: str, body: bytes = b"", /, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case, body."""
        lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return self.exchange("\r\n".join([*lines, "", ""]), body)

    def exchange(self, request: str, *body: bytes) -> Answer:
        """Sends a raw request; returns the answer even if the server refuses it before it is complete."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(request.encode() + (body[0] if body else b""))
            for more in body[1:]:
                self._socket.sendall(more)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, rest = received.partition(b"\r\n\r\n")
        status, *fields = head.decode("latin-1").split("\r\n")
        answer = {k.lower(): v for k, _, v in (f.partition(": ") for f in fields)}
        if answer.get("transfer-encoding") == "chunked":
            return int(status.split()[1]), answer, self._chunks(rest)
        length = int(answer.get("content-length", 0))
        while len(rest) < length:
            rest += self._more()
        return int(status.split()[1]), answer, rest

    def close(self) -> None:
        self._socket.close()

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 16)
        if not data:
            raise ConnectionError("closed")
        return data

    def _chunks(self, received: bytes) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in received:
                received += self._more()
            size, _, received = received.partition(b"\r\n")
            length = int(size, 16)
            while len(received) < length + 2:
                received += self._more()
            body += received[:length]
            received = received[length + 2 :]
            if not length:
                return body
