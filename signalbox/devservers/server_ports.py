"""The port that a server keeps between its starts."""

import random
from pathlib import Path

from signalbox.machine.ports import PortUnusable, last_port, require_free

LOWEST, HIGHEST = 21_000, 30_999
"""Below the kernel's ports for outgoing connections: such a connection could take the port while the server
is down, even that of a client that tries to connect to it (it would connect to itself)."""

ATTEMPTS = 200


def kept_port(file: Path, wanted: int | None, *, what: str, option: str) -> int:
    """`wanted`, else the port stored in `file` if it is free, else a free one; stores it there.

    Raises PortUnusable when `wanted` is taken.
    """
    if wanted is not None:
        require_free("127.0.0.1", wanted, what=what, option=option)
        port = wanted
    else:
        known = last_port(file)
        port = known if known is not None and _free(known) else _any_free()
    file.write_text(f"{port}\n")
    return port


def _any_free() -> int:
    for _ in range(ATTEMPTS):
        port = random.randint(LOWEST, HIGHEST)
        if _free(port):
            return port
    raise PortUnusable(f"no port from {LOWEST} to {HIGHEST} is free on 127.0.0.1; name one with --port")


def _free(port: int) -> bool:
    try:
        require_free("127.0.0.1", port, what="", option="")
    except PortUnusable:
        return False
    return True
