"""A generation filled beside the live one, until it takes its place. Blocks; belongs to one thread.

On PostgreSQL one process at a time builds a read model: the lock lasts as long as its connection, on which it
does everything, so that a process that lost the lock cannot write either.
"""

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import Connection, select, text

from projections.readmodel import ReadModel, Separable
from projections.store import (
    CHECKPOINTS,
    GENERATIONS,
    Generation,
    Store,
    create_indexes,
    drop_table,
    live,
    tables_of,
)
from streams.projection import generations
from streams.projection.advance import advance, advance_computed
from streams.projection.notifications import notify
from streams.projection.progress import Batch, ComputedBatch, GenerationProgress, WriterConflict


class GenerationBuilder:
    """`progress` is that of the generation being filled, once `begin` has returned True."""

    def __init__(self, store: Store, model: ReadModel, partitions: int) -> None:
        self._store = store
        self._model = model
        self._partitions = partitions
        self._connection: Connection | None = None
        self._progress: GenerationProgress | None = None

    @property
    def progress(self) -> GenerationProgress:
        if self._progress is None:
            raise AssertionError("nothing is being built")
        return self._progress

    def live(self) -> Generation | None:
        """The generation that answers queries, if any."""
        with self._store.reader.begin() as connection:
            return live(connection).get(self._model.name)

    def begin(self) -> bool:
        """Makes a new, empty generation and drops left-over ones; False while another process builds one."""
        if not self._locked():
            return False
        with self._transaction() as connection:
            for generation in generations.left_over(connection, self._model.name):
                generations.forget(connection, generation)
            progress = generations.create(connection, self._model, "building", self._partitions)
        self._progress = progress
        return True

    def take(self, partition: int, batch: Batch) -> None:
        """Raises WriterConflict when the generation was dropped by another process."""
        with self._transaction(durable=False) as connection:
            progress = advance(connection, self.progress, {partition: batch})
        self._progress = progress

    def take_computed(self, model: Separable, partition: int, batch: ComputedBatch) -> None:
        """As `take`."""
        with self._transaction(durable=False) as connection:
            progress = advance_computed(connection, self.progress, model, partition, batch)
        self._progress = progress

    def resume(self) -> None:
        """Loads the progress after a transaction that may or may not have been committed.

        Raises WriterConflict when another process builds meanwhile.
        """
        if not self._locked():
            raise WriterConflict(f"another process builds the read model {self._model.name!r}")
        with self._transaction() as connection:
            progress = generations.load(connection, self._model, self.progress.generation)
            present = generations.left_over(connection, self._model.name, "building")
        if progress.generation not in present:
            raise WriterConflict(f"{progress.generation.prefix} was dropped by another process")
        self._progress = progress

    def index(self) -> None:
        with self._transaction() as connection:
            create_indexes(connection, self._model, self.progress.generation)

    def index_again(self) -> None:
        """As `index`, after a transaction that may or may not have been committed."""
        self.resume()
        self.index()

    def swap(self) -> bool:
        """Replaces the live generation, unless that one is further; returns whether it did.

        Until the transaction ends, no process advances the live one.
        """
        progress, g, c = self.progress, GENERATIONS.c, CHECKPOINTS.c
        with self._transaction() as connection:
            old = connection.execute(
                select(GENERATIONS)
                .where(g.read_model == self._model.name, g.state == "live")
                .with_for_update()
            ).first()
            if old is not None:
                reached = connection.execute(
                    select(c.partition, c.position)
                    .where(c.read_model == old.read_model, c.generation == old.generation)
                    .order_by(c.partition)
                    .with_for_update()
                ).all()
                if any(at > progress.positions.get(partition, 0) for partition, at in reached):
                    return False
                generations.retire(connection, Generation(old.read_model, old.generation, old.version))
            generations.set_state(connection, progress.generation, "live")
            notify(connection, {(self._model.name, p): at for p, at in progress.positions.items()})
        return True

    def swap_again(self) -> bool:
        """As `swap`, after a transaction that may or may not have been committed."""
        now = self.live()
        if now is not None and now.number == self.progress.generation.number:
            return True
        self.resume()
        return self.swap()

    def clear(self) -> None:
        """Drops all generations of this read model that are not live.

        One table per transaction: with more, a reader of some of them could cause a deadlock.
        """
        if self._progress is None or not self._locked():
            return
        with self._transaction() as connection:
            left = generations.left_over(connection, self._model.name)
        for generation in left:
            with self._transaction() as connection:
                names = tables_of(connection, generation)
            for name in names:
                with self._transaction() as connection:
                    drop_table(connection, name)
            with self._transaction() as connection:
                generations.forget(connection, generation)

    def end(self) -> None:
        """Releases the lock, so that other processes can build."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()  # closing it releases the lock, whatever its state
            connection.close()

    def _locked(self) -> bool:
        """Acquires the lock on building, if it is free. Returns whether this process has it."""
        if not self._store.shared or self._connection is not None:
            return True
        connection = self._store.writer.connect()
        try:
            with connection.begin():
                alone = generations.builds_alone(connection, self._model.name, session=True)
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        if alone:
            self._connection = connection
        else:
            connection.close()
        return alone

    @contextmanager
    def _transaction(self, *, durable: bool = True) -> Generator[Connection]:
        if not self._store.shared:
            with self._store.writer.begin() as connection:
                yield connection
            return
        connection = self._connection
        if connection is None:
            raise WriterConflict(f"the lock on building {self._model.name!r} is lost")
        try:
            with connection.begin():
                if not durable:  # a crash loses rows and their checkpoint together
                    connection.execute(text("SET LOCAL synchronous_commit = off"))
                yield connection
        finally:
            if connection.invalidated:  # it would reconnect by itself, without the lock
                self.end()
