"""Ports on this machine: checks for free ones, and ports that are kept between starts."""

import errno
import os
import socket
from pathlib import Path

BACKLOG = 1024
TAKEN = frozenset({errno.EADDRINUSE})


class PortUnusable(Exception):
    """A port cannot be used. The message is one sentence with the remedy."""


def _bind(host: str, port: int) -> int:
    """Binds and closes a socket; returns the bound port. Raises OSError."""
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, proto) as probe:
        # As servers do, so that closed connections in TIME_WAIT do not count. Never SO_REUSEPORT:
        # with it a second Envoy would silently share the port and its traffic.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        return int(probe.getsockname()[1])


def listen(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A socket that listens; 0: on any free port. Raises OSError."""
    return socket.create_server((host, port), backlog=BACKLOG)


def require_free(host: str, port: int, *, what: str, option: str) -> None:
    """Raises PortUnusable unless `host:port` can be bound. `option`: the option to choose another."""
    try:
        _bind(host, port)
    except OSError as error:
        if error.errno in TAKEN:
            raise PortUnusable(
                f"{what}: port {port} on {host} is taken by another program; choose another with {option}"
            ) from error
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
        raise PortUnusable(
            f"{what}: cannot listen on {host}:{port} ({reason.lower()}); choose another with {option}"
        ) from error


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free at the moment."""
    return _bind(host, 0)


def remembered_port(file: Path, host: str = "127.0.0.1") -> int:
    """The port stored in `file`, if it is free; else a free one, which is stored there."""
    known = last_port(file)
    if known is not None:
        try:
            return _bind(host, known)
        except OSError as error:
            if error.errno not in TAKEN:
                raise
    port = free_port(host)
    file.write_text(f"{port}\n")
    return port


def last_port(file: Path) -> int | None:
    """The port stored in `file`, free or not; None without one."""
    try:
        text = file.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isdigit() and 0 < int(text) <= 65535 else None
