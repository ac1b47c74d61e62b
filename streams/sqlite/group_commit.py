"""Group commit: all requests that wait become durable in one transaction.

One thread owns the writing connection. While it waits for the disk the next requests gather, so
the cost of a sync is shared by as many callers as there are.
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
"""After this long without work, the journal is written back, so that no caller waits for it."""
RETRY_SECONDS = 1.0
"""While writes are refused and nobody asks for any, one is tried this often: to know when they are not."""

Request = TypeVar("Request")
Result = TypeVar("Result")
Request_contra = TypeVar("Request_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


class Unit(Protocol[Request_contra, Result_co]):
    """One transaction being put together. Lives on the writer's thread; thrown away when it fails."""

    def add(self, request: Request_contra) -> Result_co:
        """Takes a request in, or raises and leaves the others as they were."""
        ...

    def write(self, db: sqlite3.Connection) -> None:
        """Writes all that was taken in. Few statements with many rows each: after every statement
        this thread has to win the interpreter back from a busy event loop."""
        ...

    def committed(self) -> None:
        """It is durable now. Still on the writer's thread, before any caller learns of it."""
        ...

    def announce(self) -> None:
        """It is durable, and this is the event loop's thread. Must not raise."""
        ...


@dataclass(slots=True)
class _Waiting(Generic[Request, Result]):
    request: Request
    answer: asyncio.Future[Result]


class GroupCommit(Generic[Request, Result]):
    """Runs requests through units of type `new_unit`, on a thread of its own."""

    def __init__(
        self, kind: Kind, path: Path, new_unit: Callable[[], Unit[Request, Result]], name: str
    ) -> None:
        """To be made on the event loop that will call it. Raises LogUnavailable, LogDamaged."""
        self._kind = kind
        self._path = path
        self._new_unit = new_unit
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Waiting[Request, Result] | None] = SimpleQueue()
        self._db: sqlite3.Connection | None = self._connected()
        self._closed = False
        self._journaled = True
        self.refusing = ""
        """Why writes are refused at the moment, without a file's name; empty when they are not."""
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self.transactions = 0
        """How many transactions were committed."""
        self.committed_in: Callable[[float], None] = _unmeasured
        """Told, on the writer's thread, how many seconds each of them took."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def submit(self, request: Request) -> Result:
        """Returns when the request is durable. A cancelled caller's request may still be carried out.

        Raises what its unit's `add` raises, LogUnavailable, LogDamaged.
        """
        if self._closed:
            raise LogUnavailable(f"{self._path} is closed")
        answer: asyncio.Future[Result] = self._loop.create_future()
        self._queue.put(_Waiting(request, answer))
        return await answer

    async def close(self) -> None:
        """Finishes what was submitted, writes the journal back and ends the thread."""
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
        """All requests that wait, at least one while more may come; and whether more may come."""
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
        """The next request. Meanwhile the journal is written back; while writes are refused, one is tried."""
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
            # As it is already: SQLite writes the page all the same.
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
            # Those refused too: they were measured against what did not happen.
            failed = [(waiting, type(error)(*error.args)) for waiting in batch]
            done = []
        except Exception as error:
            if len(batch) > 1:
                # A request that cannot be written for a reason of its own must not take others along.
                for waiting in batch:
                    self._process([waiting])
                return
            failed, done = [(batch[0], error)], []
        self._on_loop(partial(_answer, unit, done, failed))

    def _commit(self, unit: Unit[Request, Result]) -> None:
        """Raises LogError when the store is at fault, anything else when a request is."""
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
                logger.warning("the journal stays: %s", explained(error, self._path))

    def _disconnect(self) -> None:
        """Forgets an open transaction. The next request connects anew: some faults stick to a connection."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _on_loop(self, call: Callable[[], None]) -> None:
        # The loop may be gone when its owner never closed us: then nobody is left to be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)


def _unmeasured(seconds: float) -> None:
    """Nobody wants to know."""


def _answer(
    unit: Unit[Request, Result],
    done: Sequence[tuple[_Waiting[Request, Result], Result]],
    failed: Sequence[tuple[_Waiting[Request, Result], Exception]],
) -> None:
    # First, so that whoever is told hears of it before the caller goes on.
    if done:
        unit.announce()
    for waiting, error in failed:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
    for waiting, result in done:
        if not waiting.answer.done():
            waiting.answer.set_result(result)
