"""Blocking work in a thread of its own, and once more for as long as what it needs is unavailable."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from typing import TypeVar

from projections.failures import error_summary, unavailable
from streams.log import LogUnavailable

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_BACK_OFF = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds between attempts; the last one repeats."""


class StoreThread:
    """`trouble` says why nothing can be read or written at the moment, and is empty otherwise."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self.trouble = ""

    async def run(self, work: Callable[[], T]) -> T:
        """`work` in the thread; when cancelled, still waits for its end."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    async def run_with_retry(self, work: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        """`work` in the thread; after a failure of the store `again` instead, until it is done."""
        return await self.retry(lambda: self.run(work), lambda: self.run(again or work))

    async def retry(
        self, first: Callable[[], Awaitable[T]], again: Callable[[], Awaitable[T]] | None = None
    ) -> T:
        attempt = first
        for pause in chain(_BACK_OFF, repeat(_BACK_OFF[-1])):
            try:
                result = await attempt()
            except Exception as error:
                if not isinstance(error, LogUnavailable) and not unavailable(error):
                    raise
                if not self.trouble:
                    _LOG.warning("read models do not advance: %s", error_summary(error))
                self.trouble = error_summary(error)
                attempt = again or first
                await asyncio.sleep(pause)
            else:
                self.trouble = ""
                return result
        raise AssertionError("unreachable")

    def close(self) -> None:
        self._thread.shutdown(wait=True)
