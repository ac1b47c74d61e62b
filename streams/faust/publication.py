"""What follows from the read models, told on the status topic."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from schemas.envelope import Envelope
from streams.log import Log

K = TypeVar("K")
V = TypeVar("V")


async def publish(log: Log, envelopes: Sequence[Envelope], said: dict[K, V], new: Mapping[K, V]) -> None:
    """Appends `envelopes`, and notes in `said` what is `new` in them, before anybody can hear it.

    Raises what the log does; then nothing was said.
    """
    said.update(new)
    try:
        await log.append("status", envelopes)
    except BaseException:
        for key in new:
            said.pop(key, None)
        raise
