"""Group commit: all waiting requests become durable in one transaction.

One thread owns the writing connection. While it waits for the disk, further requests queue up, so that all
of them share the cost of one sync.
"""

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Generic, Protocol, TypeVar

from streams.log import LogError, LogUnavailable
from streams.sqlite.database import Kind, connect, explained, is_of_request

logger = logging.getLogger(__name__)

MAX_BATCH = 1024
IDLE_SECONDS = 0.2
"""Seconds without work after which the journal is written back, so that no caller waits for it."""
RETRY_SECONDS = 1.0
"""Seconds between test writes while writes are refused and there are no requests."""

Request = TypeVar("Request")
Result = TypeVar("Result")
Request_contra = TypeVar("Request_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


class Unit(Protocol[Request_contra, Result_co]):
    """One transaction in preparation. Used on the writer's thread; discarded when it fails."""

    def add(self, request: Request_contra) -> Result_co:
        """Adds a request; if it raises, the other requests are unaffected."""
        ...

    def write(self, db: sqlite3.Connection) -> None:
        """Writes all added requests, with few statements of many rows: after every statement this thread
        must get the interpreter lock back from a busy event loop."""
        ...

    def committed(self) -> None:
        """Called on the writer's thread when the transaction is durable, before callers are notified."""
        ...

    def announce(self) -> None:
        """Called on the event loop's thread when the transaction is durable. Must not raise."""
        ...


class UnitDefaults:
    """For units that need neither notification."""

    def committed(self) -> None:
        return

    def announce(self) -> None:
        return


@dataclass(slots=True)
class _Waiting(Generic[Request, Result]):
    request: Request
    answer: asyncio.Future[Result]


class GroupCommit(Generic[Request, Result]):
    """Executes requests in units of `new_unit`, on its own thread."""

    def __init__(
        self, kind: Kind, path: Path, new_unit: Callable[[], Unit[Request, Result]], name: str
    ) -> None:
        """Create it on the event loop that will use it. Raises LogUnavailable, LogDamaged."""
        self._kind = kind
        self._path = path
        self._new_unit = new_unit
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Waiting[Request, Result] | None] = SimpleQueue()
        self._db: sqlite3.Connection | None = self._connected()
        self._closed = False
        self._journaled = True
        self.refusing = ""
        """Why writes are refused at the moment, without a file's name; empty when they are accepted."""
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self.transactions = 0
        """The number of committed transactions."""
        self.committed_in: Callable[[float], None] = _unmeasured
        """Called on the writer's thread with the seconds of each commit."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def submit(self, request: Request) -> Result:
        """Returns when the request is durable. The request of a cancelled caller may still be executed.

        Raises the errors of its unit's `add`, LogUnavailable, LogDamaged.
        """
        return await self.enqueue(request)

    def enqueue(self, request: Request) -> asyncio.Future[Result]:
        """As `submit`; the request is in the queue when this returns."""
        answer: asyncio.Future[Result] = self._loop.create_future()
        if self._closed:
            answer.set_exception(LogUnavailable(f"{self._path} is closed"))
        else:
            self._queue.put(_Waiting(request, answer))
        return answer

    async def close(self) -> None:
        """Executes the submitted requests, writes the journal back and ends the thread."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    def _connected(self) -> sqlite3.Connection:
        try:
            return connect(self._kind, self._path, write=True)
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    def _run(self) -> None:
        more = True
        try:
            while more:
                batch, more = self._gather()
                if batch:
                    self._process(batch)
        finally:
            self._disconnect()
            self._on_loop(self._end)

    def _end(self) -> None:
        self._ended.set_result(None)

    def _gather(self) -> tuple[list[_Waiting[Request, Result]], bool]:
        """All waiting requests (at least one, unless the writer is closed), and whether more may come."""
        batch: list[_Waiting[Request, Result]] = []
        try:
            waiting = self._queue.get(timeout=IDLE_SECONDS) if self._journaled else self._queue.get_nowait()
        except Empty:
            waiting = self._idle()
        while waiting is not None:
            batch.append(waiting)
            if len(batch) == MAX_BATCH:
                return batch, True
            try:
                waiting = self._queue.get_nowait()
            except Empty:
                return batch, True
        return batch, False

    def _idle(self) -> _Waiting[Request, Result] | None:
        """Waits for the next request. Meanwhile the journal is written back, or a refused write is tried
        again."""
        if self._journaled:
            self._write_back()
        while self.refusing:
            try:
                return self._queue.get(timeout=RETRY_SECONDS)
            except Empty:
                self._retry()
        return self._queue.get()

    def _retry(self) -> None:
        try:
            if self._db is None:
                self._db = self._connected()
            self._db.execute("BEGIN IMMEDIATE")
            # An unchanged value: SQLite writes the page nevertheless.
            self._db.execute(f"PRAGMA user_version={self._kind.version}")
            self._db.execute("COMMIT")
        except (sqlite3.Error, LogError) as error:
            self._disconnect()
            logger.debug("still refusing to write: %s", error)
        else:
            self._accept()

    def _accept(self) -> None:
        if self.refusing:
            self.refusing = ""
            logger.info("writing again: %s", self._path)

    def _process(self, batch: Sequence[_Waiting[Request, Result]]) -> None:
        unit = self._new_unit()
        done: list[tuple[_Waiting[Request, Result], Result]] = []
        failed: list[tuple[_Waiting[Request, Result], Exception]] = []
        for waiting in batch:
            try:
                done.append((waiting, unit.add(waiting.request)))
            except Exception as error:
                failed.append((waiting, error))
        try:
            if done:
                self._commit(unit)
        except LogError as error:
            if not self.refusing:
                logger.error("refusing to write: %s", error)
            reason = error.reason if isinstance(error, LogUnavailable) else "its file is damaged"
            self.refusing = reason or "the file cannot be written"
            # The rejected ones too: they were checked against a state that did not become durable.
            failed = [(waiting, type(error)(*error.args)) for waiting in batch]
            done = []
        except Exception as error:
            if len(batch) > 1:
                # A request that causes an error itself must not fail the others.
                for waiting in batch:
                    self._process([waiting])
                return
            failed, done = [(batch[0], error)], []
        self._on_loop(partial(_answer, unit, done, failed))

    def _commit(self, unit: Unit[Request, Result]) -> None:
        """Raises LogError when the store caused the error, other errors when a request did."""
        if self._db is None:
            self._db = self._connected()
        began = perf_counter()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            unit.write(self._db)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._disconnect()
            if is_of_request(error):
                raise
            raise explained(error, self._path) from error
        except BaseException:
            self._disconnect()
            raise
        self.transactions += 1
        self.committed_in(perf_counter() - began)
        self._journaled = True
        self._accept()
        unit.committed()

    def _write_back(self) -> None:
        self._journaled = False
        if self._db is not None:
            try:
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            except sqlite3.Error as error:
                logger.warning("the journal was not written back: %s", explained(error, self._path))

    def _disconnect(self) -> None:
        """Discards an open transaction. The next request connects again: some faults persist in a
        connection."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _on_loop(self, call: Callable[[], None]) -> None:
        # The loop may be closed when its owner never closed the writer: then there are no callers to notify.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)


def _unmeasured(seconds: float) -> None:
    """The default: durations are not recorded."""


def _answer(
    unit: Unit[Request, Result],
    done: Sequence[tuple[_Waiting[Request, Result], Result]],
    failed: Sequence[tuple[_Waiting[Request, Result], Exception]],
) -> None:
    # First, so that subscribers are notified before the caller continues.
    if done:
        unit.announce()
    for waiting, error in failed:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
    for waiting, result in done:
        if not waiting.answer.done():
            waiting.answer.set_result(result)
