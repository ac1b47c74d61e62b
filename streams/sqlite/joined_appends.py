"""Joins the appends of single messages of one turn of the event loop to one request of the writer.

Many callers continue in the same turn when a transaction is durable. A request for each took a seventh of
the time of a command.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from streams.log import LogError, Transaction
from streams.sqlite.writer import EncodedAppend, EncodedRow, EncodedTransaction, Positions, Stream

MOST = 256
"""Messages of one request, so that a transaction stays small."""

_NOTHING_ELSE = Transaction()
_Waiting = tuple[EncodedRow, asyncio.Future[int]]


class JoinedAppends:
    """For the event loop's thread only."""

    def __init__(self, enqueue: Callable[[EncodedTransaction], asyncio.Future[Positions]]) -> None:
        self._enqueue = enqueue
        self._waiting: dict[Stream, list[_Waiting]] = {}

    async def append(self, stream: Stream, row: EncodedRow) -> int:
        """The position, once the row is durable. Raises what `GroupCommit.submit` raises."""
        loop = asyncio.get_running_loop()
        waiting = self._waiting.get(stream)
        if waiting is None:
            waiting = self._waiting[stream] = []
            loop.call_soon(self._send_waiting, stream)
        answer: asyncio.Future[int] = loop.create_future()
        waiting.append((row, answer))
        if len(waiting) == MOST:
            self._send_waiting(stream)
        return await answer

    def waits(self, stream: Stream) -> bool:
        """Whether there are appends that the writer does not have yet."""
        return stream in self._waiting

    def send(self) -> None:
        """Hands all appends to the writer now."""
        for stream in tuple(self._waiting):
            self._send_waiting(stream)

    def _send_waiting(self, stream: Stream) -> None:
        if waiting := self._waiting.pop(stream, None):
            self._send(stream, waiting)

    def _send(self, stream: Stream, waiting: Sequence[_Waiting]) -> None:
        append = EncodedAppend(stream, [row for row, _ in waiting], None)
        done = self._enqueue(EncodedTransaction(_NOTHING_ELSE, [append]))
        done.add_done_callback(partial(self._answer, stream, waiting))

    def _answer(self, stream: Stream, waiting: Sequence[_Waiting], done: asyncio.Future[Positions]) -> None:
        error = done.exception()
        if error is None:
            for (_, answer), position in zip(waiting, done.result()[0], strict=True):
                if not answer.done():
                    answer.set_result(position)
        elif len(waiting) == 1 or isinstance(error, LogError):
            for _, answer in waiting:
                if not answer.done():
                    answer.set_exception(type(error)(*error.args))
        else:
            # A row that causes an error itself must not fail the others.
            for one in waiting:
                self._send(stream, [one])
