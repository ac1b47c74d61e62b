"""Envoy's admin interface: on a Unix socket that only its owner can reach, because it shows secrets.

It reports whether Envoy is ready, and drains Envoy before its end.
"""

import asyncio
import os
import re
from pathlib import Path

from signalbox.devservers.account import Account
from signalbox.devservers.errors import StartFailed
from signalbox.devservers.postgres.socket_directory import socket_directory

ANSWER_WITHIN = 2.0
POLL_SECONDS = 0.05
ACTIVE = "http.main.downstream_rq_active"
"""The gauge of requests in flight at the gateway's listener."""


class NoAnswer(Exception):
    """Envoy did not answer within `ANSWER_WITHIN`, or closed the connection."""


def admin_socket(directory: Path) -> Path:
    """The admin socket of the Envoy of `directory` (`DIR/envoy`); creates the private folder for it.

    Raises OSError when another user has access to that folder.
    """
    ourselves = Account("", os.geteuid(), os.getegid(), other=False)
    try:
        return socket_directory(directory.resolve(), ourselves) / "admin.sock"
    except StartFailed as error:
        raise PermissionError(str(error)) from error


class EnvoyAdmin:
    """Requests to the admin interface at `socket`, each with a time limit of `answer_within` seconds."""

    def __init__(self, socket: Path, answer_within: float = ANSWER_WITHIN) -> None:
        self._socket = socket
        self._answer_within = answer_within

    async def ready(self) -> bool:
        """Whether Envoy reports that it is initialised and serves."""
        try:
            return (await self._ask("GET", "/ready"))[0] == 200
        except NoAnswer:
            return False

    async def draining(self) -> bool:
        """Whether it drains, which cannot be undone. Raises NoAnswer."""
        return b"DRAINING" in (await self._ask("GET", "/ready"))[1]

    async def drain(self, within: float) -> bool:
        """Stops accepting connections, and waits at most `within` seconds for the requests in flight.

        Meanwhile responses have `Connection: close`. Returns whether none is in flight any more. Raises
        NoAnswer.
        """
        try:
            async with asyncio.timeout(within):
                await self._ask("POST", "/healthcheck/fail")
                await self._ask("POST", "/drain_listeners")
                while True:
                    if not await self._active():
                        return True
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            return False

    async def listening(self) -> bool:
        """Whether a listener is active: otherwise there is none yet, or all are warming.

        Raises NoAnswer. Does not use `/stats`, which takes Envoy's main thread 0.2 s at 10,000 APIs.
        """
        status, body = await self._ask("GET", "/listeners")
        return status != 200 or re.search(rb"\S+::\S+", body) is not None

    async def _active(self) -> int:
        _, body = await self._ask("GET", f"/stats?filter=^{ACTIVE}$")
        return sum(map(int, re.findall(rb"rq_active: (\d+)", body)))

    async def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        """Status and body, with chunked framing if it has any. Raises NoAnswer."""
        try:
            async with asyncio.timeout(self._answer_within):
                reader, writer = await asyncio.open_unix_connection(str(self._socket))
                try:
                    lines = (
                        f"{method} {path} HTTP/1.1",
                        "host: admin",
                        "content-length: 0",
                        "connection: close",
                    )
                    writer.write("\r\n".join([*lines, "", ""]).encode())
                    status = await reader.readline()
                    _, _, body = (await reader.read()).partition(b"\r\n\r\n")
                finally:
                    writer.close()
            return int(status.split()[1]), body
        except (OSError, TimeoutError, IndexError, ValueError) as error:
            raise NoAnswer(f"Envoy's admin interface at {self._socket} does not answer: {error!r}") from error
