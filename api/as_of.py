"""`?as_of=`: parsed, and waited for, so that an answer is never from before the moment it is asked for."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime

from api.call import Call
from api.preconditions import other_partition, parse_as_of, partition_of_position
from api.problems import Problem
from api.submission import wait_for_read_model
from projections.pages import AsOf

READ_MODEL = "resources"


async def resolve_as_of(call: Call, text: str | None, partitions: Iterable[int]) -> AsOf:
    """The moment asked for, once the read model of resources knows it in these partitions.

    Waits up to `Settings.position_seconds`. Raises Problem 400 for what is no moment, for a position of
    another partition and for one in the future; 503 when the read model does not get there in time.
    """
    at = parse_as_of(text)
    if at is None or text is None:
        return None
    partitions = tuple(partitions)
    given = partition_of_position(text)
    if given is not None and len(partitions) == 1 and given != partitions[0]:
        raise other_partition("as_of", given, partitions[0])
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
        raise _invalid("`as_of` is a time in the future.", f"{time} has not come yet")
    if ahead > 0:
        await asyncio.sleep(ahead)


async def _wait_for_position(
    call: Call, partition: int, at: int | str, seconds: float, *, alone: bool
) -> None:
    """What is on the log by now is all there is up to a time that has passed.

    A position is waited for beyond the end in the one partition it can be of only.
    """
    end = await call.services.log.end("events", partition)
    wanted = end if isinstance(at, str) else at if alone else min(at, end)
    if await wait_for_read_model(call, partition, wanted, seconds, READ_MODEL):
        return
    end = await call.services.log.end("events", partition)
    if wanted > end:
        raise _invalid(
            "`as_of` is a position in the future.", f"the log ends at {end}; {wanted} has not come yet"
        )
    raise Problem(
        503,
        "position-not-reached",
        f"The read model has not seen position {wanted} yet.",
        headers={"Retry-After": "1"},
    )


def _invalid(text: str, detail: str) -> Problem:
    return Problem(400, "invalid-parameter", text, errors=[{"parameter": "as_of", "detail": detail}])
