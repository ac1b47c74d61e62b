"""Ports for servers that are started, stopped and started again, while other runs do the same."""

import contextlib
import fcntl
import os
import random
import socket
from pathlib import Path

LOWEST, HIGHEST = 10_000, 20_999
"""Below the ports that systems assign to outgoing connections and that development servers use."""

_reserved: dict[int, int] = {}
"""A descriptor of a locked file for each port of this process."""


def free_port() -> int:
    """A port that is free on loopback, and reserved for this process until it ends."""
    while True:
        port = random.randint(LOWEST, HIGHEST)
        if _reserve(port) and _is_free(port):
            return port


def _reserve(port: int) -> bool:
    if port in _reserved:
        return False
    directory = Path("/tmp", f"signalbox-ports-{os.getuid()}")  # one for all runs, whatever TMPDIR each has
    directory.mkdir(exist_ok=True)
    file = os.open(directory / str(port), os.O_CREAT | os.O_WRONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    _reserved[port] = file
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
