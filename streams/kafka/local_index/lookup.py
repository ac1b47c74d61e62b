"""Reads single records by their positions, adjacent ones with one fetch."""

import asyncio
from collections.abc import Sequence

from aiokafka import TopicPartition

from streams.kafka.fetcher import FETCH_BYTES, Fetcher, contents_size
from streams.kafka.partition_reader import Decode
from streams.log import LogDamaged, Record

NEAR = 500
"""Records up to so many positions apart are fetched together: about the content of one fetch."""
FEW_BYTES = 1 << 16


async def records_at(
    fetching: Fetcher, place: TopicPartition, positions: Sequence[int], decode: Decode
) -> dict[int, Record]:
    """The record at each position; all of them were read before.

    It does not use the partition readers, whose cached records are for followers of the topic. Raises
    LogUnavailable, and LogDamaged when the broker has lost a record.
    """
    read = await asyncio.gather(*(_read(fetching, place, some, decode) for some in ranges(positions)))
    return {position: record for some in read for position, record in some.items()}


def ranges(positions: Sequence[int]) -> list[list[int]]:
    """The positions in order, grouped by fetch."""
    groups: list[list[int]] = []
    for position in sorted(set(positions)):
        if groups and position - groups[-1][-1] <= NEAR:
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups


async def _read(
    fetching: Fetcher, place: TopicPartition, positions: Sequence[int], decode: Decode
) -> dict[int, Record]:
    wanted = set(positions)
    found: dict[int, Record] = {}
    at_once = FETCH_BYTES if len(positions) > 1 else FEW_BYTES
    async for fetched in fetching.through(place, positions[0] - 1, positions[-1], at_once=at_once):
        for message in fetched.messages:
            if message.offset + 1 in wanted:
                size = contents_size(message.value, message.headers)
                found[message.offset + 1] = decode(place, message, size)
    if missing := wanted - found.keys():
        raise LogDamaged(
            f"{place.topic}/{place.partition} no longer has the record at position {min(missing)}: the "
            "broker lost it. Restore its data, or the whole log from a backup."
        )
    return found
