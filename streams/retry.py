"""The retry policy: the pauses between attempts, and the failures that are retried."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from streams.log import LogUnavailable

T = TypeVar("T")
BACK_OFF = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds between attempts; the last one repeats."""


def back_off(failures: int) -> float:
    """Seconds to wait after this number of consecutive failures (at least one)."""
    return BACK_OFF[min(failures, len(BACK_OFF)) - 1]


def log_unavailable(error: Exception) -> bool:
    return isinstance(error, LogUnavailable)


class Retry:
    """Retries as long as failures are `retryable`; any other failure is raised.

    `trouble`: why the last attempt failed, empty after a success. The first failure of an outage that is not
    `expected` is logged: `subject` is the beginning of that line, `describe` the error's text.
    """

    def __init__(
        self,
        subject: str,
        logger: logging.Logger,
        *,
        retryable: Callable[[Exception], bool] = log_unavailable,
        describe: Callable[[Exception], str] = str,
        expected: Callable[[Exception], bool] = lambda error: False,
    ) -> None:
        self._subject = subject
        self._logger = logger
        self._describe = describe
        self._expected = expected
        self._failures = 0
        self._logged = False
        self.retryable = retryable
        self.trouble = ""

    def failed(self, error: Exception) -> float:
        """Records a failure; returns the seconds to wait before the next attempt."""
        if not self._logged and not self._expected(error):
            self._logger.warning("%s: %s", self._subject, self._describe(error))
            self._logged = True
        self.trouble = self._describe(error) or type(error).__name__
        self._failures += 1
        return back_off(self._failures)

    def succeeded(self) -> None:
        self._failures, self._logged, self.trouble = 0, False, ""

    async def __call__(
        self, attempt: Callable[[], Awaitable[T]], again: Callable[[], Awaitable[T]] | None = None
    ) -> T:
        """The result of `attempt`; after a failure, that of `again` if given."""
        while True:
            try:
                result = await attempt()
            except Exception as error:
                if not self.retryable(error):
                    raise
                pause = self.failed(error)
            else:
                self.succeeded()
                return result
            attempt = again or attempt
            await asyncio.sleep(pause)
