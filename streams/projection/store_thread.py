"""Blocking work in a thread of its own, retried while the store or the log is unavailable."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from projections.failures import error_summary, unavailable
from streams.retry import Retry, log_unavailable
from streams.threads import ended

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


def store_or_log_unavailable(error: Exception) -> bool:
    return log_unavailable(error) or unavailable(error)


class StoreThread:
    """`trouble`: why nothing can be read or written at the moment, empty otherwise."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self.retry = Retry(
            "read models do not advance", _LOG, retryable=store_or_log_unavailable, describe=error_summary
        )

    @property
    def trouble(self) -> str:
        return self.retry.trouble

    async def run(self, work: Callable[[], T]) -> T:
        """Runs `work` in the thread; when cancelled, still waits for its end."""
        return await ended(asyncio.get_running_loop().run_in_executor(self._thread, work))

    async def run_with_retry(self, work: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        """Runs `work` in the thread; after a failure of the store runs `again` instead, until it succeeds."""
        return await self.retry(lambda: self.run(work), lambda: self.run(again or work))

    def close(self) -> None:
        self._thread.shutdown(wait=True)
