"""Read transactions on the live tables of the read models, in threads."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, and_, select
from sqlalchemy.exc import DBAPIError

from projections.deliveries.model import Deliveries
from projections.failures import ReadModelsUnavailable, missing_table, unavailable
from projections.store import CHECKPOINTS, GENERATIONS, Generation, Store

T = TypeVar("T")
QUERY_SECONDS = 6.0
"""Maximum duration of a query on PostgreSQL."""


class NotReady(Exception):
    """The read model has no tables yet: it has never run."""


@dataclass(frozen=True, slots=True)
class ReadTransaction:
    """One read transaction, with the prefix of the live tables and the positions of each read model."""

    connection: Connection
    prefixes: Mapping[str, str]
    positions: Mapping[tuple[str, int], int]

    def prefix(self, read_model: str) -> str:
        if read_model not in self.prefixes:
            raise NotReady(f"The read model {read_model!r} does not exist yet; the projector has not run.")
        return self.prefixes[read_model]


class ReadTransactions:
    """Runs up to `threads` queries at a time; `behind` returns the lag of each read model for
    ReadModelsUnavailable."""

    def __init__(self, store: Store, threads: int, behind: Callable[[], Mapping[str, int]]) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(threads, "read-models")
        self._most_overdue = threads
        self._overdue = 0
        self._behind = behind

    def close(self) -> None:
        self._threads.shutdown(wait=True)

    async def run(self, question: Callable[[ReadTransaction], T]) -> T:
        """The result of `question` from one transaction. Raises ReadModelsUnavailable and its own errors."""
        if not self._store.shared:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, self._run_twice_if_swapped, question
            )
        if self._overdue >= self._most_overdue:
            raise self._unavailable()
        answer = asyncio.get_running_loop().run_in_executor(
            self._threads, self._run_twice_if_swapped, question
        )
        try:
            async with asyncio.timeout(QUERY_SECONDS):
                return await asyncio.shield(answer)
        except TimeoutError as error:
            if not answer.done():  # the server hangs: the thread is blocked until it continues
                self._overdue += 1
                answer.add_done_callback(self._overdue_ended)
            raise self._unavailable() from error
        except Exception as error:
            if unavailable(error):
                raise self._unavailable() from error
            raise

    def _overdue_ended(self, answer: asyncio.Future[Any]) -> None:
        self._overdue -= 1
        if not answer.cancelled():
            answer.exception()  # retrieved, so that asyncio does not log it

    def _unavailable(self) -> ReadModelsUnavailable:
        return ReadModelsUnavailable(dict(self._behind()))

    def _run_twice_if_swapped(self, question: Callable[[ReadTransaction], T]) -> T:
        try:
            return self._run_once(question)
        except DBAPIError as error:
            # The connection is from before a restart, or another generation has become live meanwhile.
            if not error.connection_invalidated and not missing_table(error):
                raise
        return self._run_once(question)

    def _run_once(self, question: Callable[[ReadTransaction], T]) -> T:
        with self._store.reader.begin() as connection:
            return question(_read_transaction(connection))


_READABLE: Mapping[str, int] = {Deliveries.name: Deliveries.version}
"""Read models whose tables changed between versions: only this version is read. Tables of another one raise
NotReady until the projector has rebuilt them, which it does by itself."""

_LIVE = (
    select(
        GENERATIONS.c.read_model,
        GENERATIONS.c.generation,
        GENERATIONS.c.version,
        CHECKPOINTS.c.partition,
        CHECKPOINTS.c.position,
    )
    .join_from(
        GENERATIONS,
        CHECKPOINTS,
        and_(
            GENERATIONS.c.read_model == CHECKPOINTS.c.read_model,
            GENERATIONS.c.generation == CHECKPOINTS.c.generation,
        ),
    )
    .where(GENERATIONS.c.state == "live")
)


def _read_transaction(connection: Connection) -> ReadTransaction:
    prefixes: dict[str, str] = {}
    positions: dict[tuple[str, int], int] = {}
    for name, number, version, partition, position in connection.execute(_LIVE):
        if version == _READABLE.get(name, version):
            prefixes[name] = Generation(name, number, version).prefix
        positions[name, partition] = position
    return ReadTransaction(connection, prefixes, positions)
