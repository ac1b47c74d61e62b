"""Retries or skips dead letters of read models, from any process, while projectors run.

The transaction locks the row of the checkpoint and increments its `releases`: the projector of the partition
waits, and then reads the dead letters again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, and_, delete, select, update

from projections.catalog import READ_MODELS
from projections.failures import ReadModelsUnavailable, unavailable
from projections.readmodel import ReadModel
from projections.store import CHECKPOINTS, PARKED, Store, live
from schemas.identity import timestamp
from streams.log import Log, Record
from streams.projection import generations
from streams.projection.advance import project_one
from streams.projection.progress import GenerationProgress, Superseded, UnknownReadModel
from streams.projection.rebuilder import topic_of
from streams.projection.store_thread import StoreThread

T = TypeVar("T")
Position = tuple[int, int]
"""Partition and position."""
_AT_ONCE = 1000


class DeadLetterTransactions:
    """Blocking; each method is one transaction."""

    def __init__(self, store: Store, model: ReadModel) -> None:
        self._store = store
        self._model = model

    def waiting(self, subject: str) -> list[Position]:
        """The records about `subject` that wait, in order."""
        with self._store.reader.begin() as connection:
            return _waiting(connection, self._progress(connection), subject)

    def retry(self, subject: str, records: Mapping[Position, Record]) -> int:
        """Projects the dead letters about `subject` in order, up to the first that fails; returns their
        number.

        `records` are those that `waiting` returned; later ones are left for the next call.
        """
        done = 0
        with self._store.writer.begin() as connection:
            progress = self._hold(connection, subject)
            for position in _waiting(connection, progress, subject):
                record = records.get(position)
                if record is None:
                    break
                reason = project_one(connection, progress, record)
                if reason is not None:
                    connection.execute(update(PARKED).where(_at(progress, position)).values(reason=reason))
                    break
                connection.execute(delete(PARKED).where(_at(progress, position)))
                done += 1
        return done

    def skip(self, subject: str) -> bool:
        """Skips the first dead letter about `subject`: it stays in the table and is never projected."""
        with self._store.writer.begin() as connection:
            progress = self._hold(connection, subject)
            position = next(iter(_waiting(connection, progress, subject)), None)
            if position is None:
                return False
            connection.execute(update(PARKED).where(_at(progress, position)).values(skipped_at=timestamp()))
        return True

    def _hold(self, connection: Connection, subject: str) -> GenerationProgress:
        """The live generation; locks the partitions with dead letters about `subject` until the transaction
        ends."""
        progress, c = self._progress(connection), CHECKPOINTS.c
        for partition in sorted({partition for partition, _ in _waiting(connection, progress, subject)}):
            connection.execute(
                update(CHECKPOINTS)
                .where(c.read_model == self._model.name, c.generation == progress.generation.number)
                .where(c.topic == self._model.topic, c.partition == partition)
                .values(releases=c.releases + 1)
            )
        return progress

    def _progress(self, connection: Connection) -> GenerationProgress:
        generation = live(connection)[self._model.name]
        if generation.version != self._model.version:
            raise Superseded(generation, self._model.version)
        return generations.load(connection, self._model, generation)


class DeadLetters:
    """Retries or skips the dead letters of the live read models; for one event loop.

    Every call may raise UnknownReadModel, ReadModelsUnavailable, LogUnavailable.
    """

    def __init__(
        self,
        log: Log,
        store: Store,
        models: Sequence[ReadModel] = READ_MODELS,
        worker: StoreThread | None = None,
    ) -> None:
        self._log = log
        self._store = store
        self._models = {m.name: m for m in models}
        self._worker = worker or StoreThread("parked")

    async def retry(self, read_model: str, subject: str) -> int:
        """Projects the dead letters about `subject` in order, up to the first that still fails.

        Returns how many succeeded.
        """
        model = known(self._models, read_model)
        transactions = DeadLetterTransactions(self._store, model)
        total = 0
        while True:
            waiting = await self._do(partial(transactions.waiting, subject))
            records = await self._records(model, waiting[:_AT_ONCE])
            done = await self._do(partial(transactions.retry, subject, records))
            total += done
            if done == 0 or done < len(records):
                return total

    async def skip(self, read_model: str, subject: str) -> int:
        """Skips the first dead letter about `subject` and retries those behind it.

        Returns how many succeeded.
        """
        transactions = DeadLetterTransactions(self._store, known(self._models, read_model))
        if not await self._do(partial(transactions.skip, subject)):
            return 0
        return await self.retry(read_model, subject)

    async def close(self) -> None:
        self._worker.close()

    async def _records(self, model: ReadModel, positions: Iterable[Position]) -> dict[Position, Record]:
        found: dict[Position, Record] = {}
        for partition, position in positions:
            for record in await self._log.read(topic_of(model), partition, position - 1, 1):
                found[partition, record.position] = record
        return found

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await self._worker.run(work)
        except Exception as error:
            if unavailable(error):
                raise ReadModelsUnavailable from error
            raise


def known(models: Mapping[str, ReadModel], read_model: str) -> ReadModel:
    """Raises UnknownReadModel."""
    if read_model not in models:
        raise UnknownReadModel(f"no read model {read_model!r}; there are {', '.join(models)}")
    return models[read_model]


def _waiting(connection: Connection, progress: GenerationProgress, subject: str) -> list[Position]:
    p = PARKED.c
    wanted = select(p.partition, p.position).where(
        _in(progress), p.subject == subject, p.skipped_at.is_(None)
    )
    return [(r.partition, r.position) for r in connection.execute(wanted.order_by(p.partition, p.position))]


def _in(progress: GenerationProgress) -> ColumnElement[bool]:
    return and_(PARKED.c.read_model == progress.model.name, PARKED.c.generation == progress.generation.number)


def _at(progress: GenerationProgress, position: Position) -> ColumnElement[bool]:
    partition, number = position
    return and_(_in(progress), PARKED.c.partition == partition, PARKED.c.position == number)
