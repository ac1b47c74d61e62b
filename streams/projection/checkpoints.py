"""Checkpoints of the read models, for processes that query but do not advance them."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import AsyncConnection, InterfaceError, OperationalError

from projections.catalog import READ_MODELS
from projections.databases.postgres import REACHED_BY
from projections.failures import ReadModelsUnavailable, error_summary, unavailable
from projections.readmodel import ReadModel
from projections.store import Store
from streams.log import Log, LogUnavailable, Topic
from streams.projection.dead_letters import DeadLetters, known
from streams.projection.generation_builder import GenerationBuilder
from streams.projection.notifications import CHANNEL, ReadModelPartition, notified
from streams.projection.rebuilder import Rebuilder, topic_of
from streams.projection.store_thread import StoreThread
from streams.projection.waiters import Waiters, lag
from streams.retry import Retry

_LOG = logging.getLogger(__name__)
POLL_SECONDS = 1.0
LOOK_SECONDS = 3.0
BATCH = 1000

_POSITIONS = """
SELECT g.read_model, c.partition, c.position
FROM generations g JOIN checkpoints c ON c.read_model = g.read_model AND c.generation = g.generation
WHERE g.state = 'live'
"""


class CheckpointWaiter:
    """`api.ports.Waiter` and `api.ports.Parking` on a store in PostgreSQL that projectors advance.

    It is notified of every checkpoint as it is committed, queries all of them every second, and reconnects
    for as long as it runs. `trouble` is why positions are unknown at the moment, empty otherwise.
    """

    def __init__(self, log: Log, store: Store, models: Sequence[ReadModel] = READ_MODELS) -> None:
        self._log = log
        self._store = store
        self._models = {m.name: m for m in models}
        self._topics: dict[str, Topic] = {m.name: topic_of(m) for m in models}
        self._waiters = Waiters()
        self._reached: dict[ReadModelPartition, int] = {}
        self._behind: dict[str, int] = {}
        self._thread = StoreThread("rebuild")
        self._rebuilding = Rebuilder(log, store, self._thread, asyncio.Lock(), BATCH)
        self._rebuilds: dict[str, asyncio.Task[None]] = {}
        self._parked = DeadLetters(log, store, models)
        self._retry = Retry(
            "positions of read models are unknown", _LOG, retryable=_retryable, describe=error_summary
        )
        self._connected = False

    @property
    def trouble(self) -> str:
        if self._retry.trouble:
            return f"the database of the read models does not answer: {self._retry.trouble}"
        return "" if self._connected else "the database of the read models was not queried yet"

    async def run(self) -> None:
        """Listens until cancelled."""
        try:
            await self._retry(self._listen, self._listen_again)
        finally:
            for task in self._rebuilds.values():
                task.cancel()
            await asyncio.gather(*self._rebuilds.values(), return_exceptions=True)
            self._waiters.stop()
            self._thread.close()
            await self._parked.close()

    async def wait_for(self, read_model: str, partition: int, position: int, /) -> None:
        """Returns once `read_model` contains `position`; bound it with `asyncio.timeout`.

        Raises UnknownReadModel, and RunnerStopped when `run` ends.
        """
        known(self._models, read_model)
        await self._waiters.wait_for(read_model, partition, position)

    def positions(self) -> dict[str, dict[int, int]]:
        """The position of each read model, by partition."""
        found: dict[str, dict[int, int]] = {}
        for (name, partition), at in sorted(self._reached.items()):
            found.setdefault(name, {})[partition] = at
        return found

    async def lag(self) -> dict[str, int]:
        """The number of positions each read model is behind its topic, if known. Raises LogUnavailable."""
        here = {name: at for name, at in self.positions().items() if name in self._topics}
        return await lag(self._log, self._topics, here)

    def behind(self) -> Mapping[str, int]:
        """The lag when the database last did not answer."""
        return self._behind

    async def rebuild(self, read_model: str, /) -> None:
        """Fills new tables from the log and swaps them in, while projectors run; returns after the swap.

        Raises UnknownReadModel, ReadModelsUnavailable.
        """
        model = known(self._models, read_model)
        task = self._rebuilds.get(read_model)
        if task is None or task.done():
            await self._reachable(model)
            task = asyncio.create_task(self._rebuilding.rebuild(model))
            self._rebuilds[read_model] = task
        await asyncio.shield(task)

    async def retry(self, read_model: str, subject: str, /) -> int:
        """See `DeadLetters.retry`."""
        return await self._parked.retry(read_model, subject)

    async def skip(self, read_model: str, subject: str, /) -> int:
        """See `DeadLetters.skip`."""
        return await self._parked.skip(read_model, subject)

    async def _reachable(self, model: ReadModel) -> None:
        try:
            await self._thread.run(GenerationBuilder(self._store, model, self._log.partitions).live)
        except Exception as error:
            if unavailable(error):
                raise ReadModelsUnavailable(dict(self._behind)) from error
            raise

    async def _listen(self) -> None:
        url = self._store.reader.url.set(drivername="postgresql").render_as_string(hide_password=False)
        async with await AsyncConnection[Any].connect(url, autocommit=True, **REACHED_BY) as connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            while True:
                async with asyncio.timeout(LOOK_SECONDS):
                    rows = await (await connection.execute(_POSITIONS)).fetchall()
                self._hear({(name, partition): at for name, partition, at in rows})
                self._connected = True
                self._retry.succeeded()
                async for notice in connection.notifies(timeout=POLL_SECONDS):
                    self._hear(notified(notice.payload))

    def _hear(self, places: Mapping[ReadModelPartition, int]) -> None:
        self._reached.update(places)
        self._waiters.reached(places)

    async def _listen_again(self) -> None:
        await self._count_lag()
        await self._listen()

    async def _count_lag(self) -> None:
        try:
            self._behind = await self.lag()
        except LogUnavailable:
            self._behind = {}


def _retryable(error: Exception) -> bool:
    return isinstance(error, OperationalError | InterfaceError | OSError)  # TimeoutError is an OSError
