"""One timer for many operations with the same time limit."""

import asyncio
from types import TracebackType


class SharedTimeout:
    """As `asyncio.timeout(seconds)` for every task that enters it: TimeoutError in those that take longer.

    A task enters it once at a time. The first entered expires first, so one timer serves all: a timer per
    command took a tenth of the time of a command.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadlines: dict[asyncio.Task[object], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._seconds
        self._deadlines[_current()] = deadline
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._expire)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = _current()
        if self._deadlines.pop(task, None) is not None:
            return
        # Cancelled by `_expire`; a count above 0 means that the task was cancelled from elsewhere too.
        if task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for task, deadline in list(self._deadlines.items()):
            if deadline > loop.time():
                self._timer = loop.call_at(deadline, self._expire)
                return
            del self._deadlines[task]
            task.cancel()


def _current() -> asyncio.Task[object]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a SharedTimeout is entered within a task")
    return task
