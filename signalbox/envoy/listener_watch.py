"""Checks regularly, for readiness, whether the Envoy on this machine answers and has an active listener."""

import asyncio
from collections.abc import Awaitable, Callable

from signalbox.envoy.admin import NoAnswer

LOOK_SECONDS = 2.0
WARMING = (
    "the gateway's listener is warming and answers no request: Envoy waits for a resource that it needs; "
    "`signalbox doctor` shows which one is missing"
)
UNANSWERED = (
    "the gateway's Envoy does not answer: its process is stopped or busy; "
    "if that lasts, a restart of Signalbox replaces it"
)


class ListenerWatch:
    """`listening` queries Envoy, and raises NoAnswer; `connected`: whether Envoy has an xDS connection.

    Only a finding of two checks in a row is reported: Envoy may be busy, or warm a listener, for a moment.
    """

    def __init__(
        self,
        listening: Callable[[], Awaitable[bool]],
        connected: Callable[[], bool],
        every: float = LOOK_SECONDS,
    ) -> None:
        self._listening = listening
        self._connected = connected
        self._every = every
        self._before: str | None = None
        self.trouble: str | None = None

    async def run(self) -> None:
        """Checks until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            await self.look()

    async def look(self) -> None:
        found: str | None = None
        try:
            # An Envoy that is not connected has been sent no listener.
            if not await self._listening() and self._connected():
                found = WARMING
        except NoAnswer:
            found = UNANSWERED
        self.trouble = found if found == self._before else None
        self._before = found
