"""Parses `as_of` and `min_position`, and waits until the read model has reached them."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from api.call import Call
from api.preconditions import beyond_end, other_partition, parse_as_of, parse_position, partition_of_position
from api.problems import Problem, invalid_parameter
from api.submission import wait_for_read_model
from projections.pages import AsOf

READ_MODEL = "resources"


async def wait_for_min_position(call: Call, text: str | None, partitions: Sequence[int]) -> None:
    """Waits, bounded, until the read model of resources has reached a position of one of these partitions.

    Raises Problem 400, and 503 when it does not reach it in time.
    """
    if text is None:
        return
    given = partition_of_position(text)
    if given is not None and given not in partitions:
        raise other_partition("min_position", given, *partitions)
    chosen = partitions if given is None else (given,)
    position = parse_position(text, "min_position", given)
    ends = await _ends(call, chosen)
    if position > (last := max(ends.values(), default=0)):
        raise beyond_end("min_position", last)
    for partition, end in ends.items():
        await _wait_for_position(call, partition, min(position, end), call.services.settings.position_seconds)


def not_reached(detail: str) -> Problem:
    return Problem(503, "position-not-reached", detail, headers={"Retry-After": "1"})


async def resolve_as_of(call: Call, text: str | None, partitions: Sequence[int]) -> AsOf:
    """The requested moment, once the read model of resources has reached it in these partitions.

    Waits up to `Settings.position_seconds`. Raises Problem 400 for what is no moment, for a position of
    another partition and for one beyond the end; 503 when the read model does not get there in time.
    """
    at = parse_as_of(text)
    if at is None or text is None:
        return None
    given = partition_of_position(text)
    if given is not None and len(partitions) == 1 and given != partitions[0]:
        raise other_partition("as_of", given, *partitions)
    seconds = call.services.settings.position_seconds
    if isinstance(at, str):
        await _wait_for_time(at, seconds)
    ends = await _ends(call, partitions)
    if isinstance(at, int) and at > (last := max(ends.values(), default=0)):
        raise beyond_end("as_of", last)
    for partition, end in ends.items():
        # For a time that has passed, the present end is waited for: nothing is added before it.
        wanted = min(at, end) if isinstance(at, int) else end
        await _wait_for_position(call, partition, wanted, seconds)
    return at


async def _wait_for_time(time: str, seconds: float) -> None:
    """Waits for a time that is slightly in the future, since clocks differ. Raises Problem 400."""
    ahead = (datetime.fromisoformat(time) - datetime.now(UTC)).total_seconds()
    if ahead > seconds:
        raise invalid_parameter("as_of", "`as_of` is a time in the future.", f"{time} is in the future")
    if ahead > 0:
        await asyncio.sleep(ahead)


async def _ends(call: Call, partitions: Sequence[int]) -> dict[int, int]:
    return {partition: await call.services.log.end("events", partition) for partition in partitions}


async def _wait_for_position(call: Call, partition: int, position: int, seconds: float) -> None:
    """Raises Problem 503."""
    if not await wait_for_read_model(call, partition, position, seconds, READ_MODEL):
        raise not_reached(f"The read model has not seen position {position} yet.")
