"""`as_of` and `min_position`: parsed, and waited for, so that no answer is from before that moment."""

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
    """Waits, bounded, until the read model of resources has seen a position of one of these partitions.

    Raises Problem 400, and 503 when it does not get there in time.
    """
    if text is None:
        return
    given = partition_of_position(text)
    if given is not None and given not in partitions:
        raise other_partition("min_position", given, *partitions)
    chosen = partitions if given is None else (given,)
    position = parse_position(text, "min_position", given)
    ends = {partition: await call.services.log.end("events", partition) for partition in chosen}
    if position > (last := max(ends.values(), default=0)):
        raise beyond_end("min_position", last)
    for partition, end in ends.items():
        if not await wait_for_read_model(
            call, partition, min(position, end), call.services.settings.position_seconds
        ):
            raise not_reached(f"The read model has not seen position {position} yet.")


def not_reached(detail: str) -> Problem:
    return Problem(503, "position-not-reached", detail, headers={"Retry-After": "1"})


async def resolve_as_of(call: Call, text: str | None, partitions: Sequence[int]) -> AsOf:
    """The moment asked for, once the read model of resources knows it in these partitions.

    Waits up to `Settings.position_seconds`. Raises Problem 400 for what is no moment, for a position of
    another partition and for one in the future; 503 when the read model does not get there in time.
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
    for partition in partitions:
        await _wait_for_position(call, partition, at, seconds, alone=len(partitions) == 1)
    return at


async def _wait_for_time(time: str, seconds: float) -> None:
    """Clocks differ: a time that is a little ahead of ours is waited for."""
    ahead = (datetime.fromisoformat(time) - datetime.now(UTC)).total_seconds()
    if ahead > seconds:
        raise invalid_parameter("as_of", "`as_of` is a time in the future.", f"{time} has not come yet")
    if ahead > 0:
        await asyncio.sleep(ahead)


async def _wait_for_position(
    call: Call, partition: int, at: int | str, seconds: float, *, alone: bool
) -> None:
    """For a time that has passed, the present end of the log is waited for: nothing is added before it.

    A position is waited for beyond the end in the one partition it can be of only.
    """
    end = await call.services.log.end("events", partition)
    wanted = end if isinstance(at, str) else at if alone else min(at, end)
    if await wait_for_read_model(call, partition, wanted, seconds, READ_MODEL):
        return
    end = await call.services.log.end("events", partition)
    if wanted > end:
        raise invalid_parameter(
            "as_of",
            "`as_of` is a position in the future.",
            f"the log ends at {end}; {wanted} has not come yet",
        )
    raise not_reached(f"The read model has not seen position {wanted} yet.")
