"""Blocking work in threads that do not outlive the task that waits for them."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `asyncio.to_thread`; when cancelled, still waits for the end of `function`.

    So nothing is written to a directory that was released meanwhile.
    """
    return await ended(asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs)))


async def ended(work: asyncio.Future[T]) -> T:
    """The result of `work`; when cancelled, still waits for its end."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # retrieved, so that asyncio does not log it
        raise
