"""What the client needs of a way to Signalbox."""

from typing import Protocol

from schemas.envelope import Envelope
from schemas.outcome import Outcome


class Unreachable(Exception):
    """Nobody there at the moment, or not in a state to answer; the same may be tried again."""


class Transport(Protocol):
    """A way to Signalbox. All methods raise Unreachable for what passes, Rejected for what does not."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def send(self, envelope: Envelope, seconds: float, *, again: bool) -> Outcome | None:
        """Returns when the command is durable; with its outcome, when that came within `seconds`.

        `again`: the id is not new, so that the command may have been decided before. The same command may
        be sent any number of times. Raises MessageTooLarge before anything is sent.
        """
        ...

    async def answer(self, id: str, seconds: float) -> Outcome | None:
        """What became of a command; None when that is not known within `seconds`."""
        ...
