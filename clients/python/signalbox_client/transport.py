"""The port between the client and Kafka or HTTP."""

from typing import Protocol

from schemas.envelope import Envelope
from schemas.outcome import Outcome


class Unreachable(Exception):
    """Signalbox cannot be reached or is not ready at the moment; the call may be retried."""


class Transport(Protocol):
    """Methods raise Unreachable for temporary failures, Rejected for permanent ones."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def send(self, envelope: Envelope, seconds: float, *, again: bool) -> Outcome | None:
        """Returns when the command is durable; with its outcome if that came within `seconds`.

        `again`: the id is not new, so the command may have been decided before. The same command may be
        sent any number of times. Raises MessageTooLarge before anything is sent.
        """
        ...

    async def answer(self, id: str, seconds: float) -> Outcome | None:
        """The outcome of a command; None when it is not known within `seconds`."""
        ...
