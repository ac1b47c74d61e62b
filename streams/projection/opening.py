"""Opens the store of a log, and no store that was computed from another log."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from projections.source_log import OtherLog, SourceLog, Unidentified
from projections.store import Store, open_store
from streams.log import TOPICS, Log, LogError
from streams.threads import ended

T = TypeVar("T", Path, str)


class StoreOfOtherLog(LogError):
    """The read models were computed from another log. The message has both logs and the remedy."""


async def open_store_of(log: Log, target: T, opening: Callable[[T, SourceLog], Store] = open_store) -> Store:
    """The store at `target`, opened in a thread. A store of release 0.1.0 names no log: it is assumed to be
    of `log` if its checkpoints are within the ends of `log`.

    Raises StoreOfOtherLog, LogUnavailable, and the errors of `opening`.
    """
    source = await log.identity()
    try:
        try:
            return await _opened(opening, target, source)
        except Unidentified:
            ends: dict[tuple[str, int], int] = {
                (topic, partition): await log.end(topic, partition)
                for topic in TOPICS
                for partition in range(log.partitions)
            }
            return await _opened(opening, target, replace(source, ends=ends))
    except OtherLog as error:
        raise StoreOfOtherLog(str(error)) from error


async def _opened(opening: Callable[[T, SourceLog], Store], target: T, source: SourceLog) -> Store:
    work = asyncio.ensure_future(asyncio.to_thread(opening, target, source))
    try:
        return await ended(work)
    except asyncio.CancelledError:
        if work.exception() is None:
            work.result().close()
        raise
