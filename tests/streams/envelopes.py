"""Envelopes for tests of the log."""

from itertools import count
from typing import Any

from schemas.envelope import GENESIS, Envelope

_numbers = count(1)


def envelope(id: str = "", *, key: str = "acme", subject: str = "", data: Any = None) -> Envelope:
    number = next(_numbers)
    return Envelope(
        id=id or f"id-{number}",
        type="io.signalbox.api.command.publish.v1",
        source="/tests",
        subject=subject or f"organizations/{key}/apis/orders",
        time="2026-11-20T10:00:00.000000Z",
        partitionkey=key,
        data={"number": number} if data is None else data,
    )


def envelopes(many: int, *, key: str = "acme") -> list[Envelope]:
    return [envelope(key=key) for _ in range(many)]


def chained(many: int, *, key: str = "acme") -> list[Envelope]:
    """Events as a decider writes them: each with the hash of the one before."""
    events: list[Envelope] = []
    previous = GENESIS
    for number in range(1, many + 1):
        events.append(envelope(key=key).chained(number, previous))
        previous = events[-1].hash()
    return events
