"""A client outside of Signalbox: sends commands, and polls the gateway until it answers by the change.

    python -I bench/clients/change.py API_PORT GATEWAY_PORT

Reads a change per line of stdin, as JSON: `commands`, each a list of method, path, header fields by name and
body, sent one after another on one connection; `expected`, the value of `x-signalbox-revision` in the answer
to a GET of `path` at `host`. Writes a JSON array per line to stdout: the milliseconds from the start of the
first command to the answer to the last, and to the first answer of the gateway with the expected value. It
imports the standard library only, and ends with an error if a command is not answered with 200, 201 or 202.
"""

import json
import socket
import sys
import time
from typing import Any

LIMIT_SECONDS = 120.0
PAUSE_SECONDS = 0.0002
"""Between two requests to the gateway."""


class Connection:
    """Keep-alive HTTP/1.1; the answers have a content-length."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Status, head in lower case and body of the answer."""
        self._socket.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        lower = head.lower() + b"\r\n"
        _, found, rest = lower.partition(b"\r\ncontent-length: ")
        length = int(rest[: rest.index(b"\r\n")]) if found else 0
        while len(body) < length:
            body += self._more()
        return int(head[9:12]), lower, body

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 16)
        if not data:
            raise ConnectionError("closed")
        return data


def encoded(method: str, path: str, fields: dict[str, str], body: str) -> bytes:
    content = body.encode()
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def measured(api: Connection, gateway: Connection, change: dict[str, Any]) -> tuple[float, float]:
    """Milliseconds until the last command is answered, and until the gateway answers by the change."""
    commands = [encoded(*command) for command in change["commands"]]
    poll = f"GET {change['path']} HTTP/1.1\r\nhost: {change['host']}\r\n\r\n".encode()
    expected = f"\r\nx-signalbox-revision: {change['expected']}\r\n".lower().encode()
    sent = time.perf_counter()
    for command in commands:
        status, _, body = api.exchange(command)
        if status not in (200, 201, 202):
            raise RuntimeError(f"{command[:100]!r}: {status} {body[:300]!r}")
    accepted = time.perf_counter()
    while True:
        status, head, _ = gateway.exchange(poll)
        answered = time.perf_counter()
        if status == 200 and expected in head:
            return (accepted - sent) * 1000, (answered - sent) * 1000
        if answered - sent > LIMIT_SECONDS:
            raise TimeoutError(f"{change['path']} is not answered by {change['expected']}")
        time.sleep(PAUSE_SECONDS)


def main(api_port: str, gateway_port: str) -> None:
    api, gateway = Connection(int(api_port)), Connection(int(gateway_port))
    for line in sys.stdin:
        print(json.dumps(measured(api, gateway, json.loads(line))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
