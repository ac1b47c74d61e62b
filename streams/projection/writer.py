"""The writer of the live read models. Blocking; used by one thread."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from projections.readmodel import ReadModel
from projections.store import (
    GENERATIONS,
    Generation,
    Store,
    create_indexes,
    create_tables,
    exclusive,
    live,
)
from streams.projection import generations
from streams.projection.advance import advance
from streams.projection.notifications import notify
from streams.projection.progress import Batches, GenerationProgress, Superseded


class Writer:
    """Advances the live generations of `models`.

    `progress` has the live generations; those in `outdated`, of another version, are not advanced.
    """

    def __init__(self, store: Store, models: Sequence[ReadModel], partitions: int) -> None:
        self._store = store
        self._shared = store.shared
        self._models = {m.name: m for m in models}
        self._partitions = partitions
        self.progress: dict[str, GenerationProgress] = {}
        self.outdated: set[str] = set()

    def open(self) -> None:
        """Creates missing tables and reads the positions of the read models.

        A live generation of another version still answers queries and is not advanced: its name is in
        `outdated`. Half-filled generations of an earlier run are dropped. Raises Superseded.
        """
        with self._store.writer.begin() as connection:
            exclusive(connection, "generations")
            present = live(connection)
            for name, model in self._models.items():
                if generations.builds_alone(connection, name, session=False):
                    for generation in generations.left_over(connection, name):
                        generations.forget(connection, generation)
                generation = present.get(name)
                if generation is None:
                    generation = generations.create(connection, model, "live", self._partitions).generation
                generations.make_checkpoints(connection, model, generation, self._partitions)
                if generation.version != model.version:
                    continue
                create_tables(connection, model, generation)
                create_indexes(connection, model, generation)
            self._load(connection)

    def reload(self) -> None:
        """Loads the live generations and their positions again. Raises Superseded."""
        with self._store.writer.begin() as connection:
            self._load(connection)

    def swapped(self) -> bool:
        """Whether another process has swapped in other generations than those known here."""
        with self._store.reader.begin() as connection:
            states = connection.execute(select(GENERATIONS).where(GENERATIONS.c.state == "live"))
            present = {r.read_model: r.generation for r in states}
        return any(
            present.get(name) != progress.generation.number for name, progress in self.progress.items()
        )

    def apply(self, batches: Mapping[str, Batches]) -> None:
        """Advances all live generations by `batches` (by topic), all or none.

        Raises Gap, StaleProgress, or errors for which `projections.failures.unavailable` is true.
        """
        moved: dict[str, GenerationProgress] = {}
        with self._store.writer.begin() as connection:
            for name, progress in self.progress.items():
                if name not in self.outdated and progress.model.topic in batches:
                    moved[name] = advance(connection, progress, batches[progress.model.topic])
            notify(connection, {(n, p): at for n, s in moved.items() for p, at in self._changed(n, s)})
        self.progress.update(moved)

    def apply_again(self, batches: Mapping[str, Batches]) -> None:
        """As `apply`, after a transaction that may have been committed."""
        self.reload()
        self.apply(batches)

    def _changed(self, name: str, after: GenerationProgress) -> list[tuple[int, int]]:
        before = self.progress[name].positions
        return [(p, at) for p, at in after.positions.items() if at != before[p]]

    def _load(self, connection: Connection) -> None:
        present = live(connection)
        outdated: set[str] = set()
        slots: dict[str, GenerationProgress] = {}
        for name, model in self._models.items():
            generation = present[name]
            if generation.version != model.version:
                self._check(generation, model)
                outdated.add(name)
            slots[name] = generations.load(connection, model, generation)
        self.progress, self.outdated = slots, outdated

    def _check(self, generation: Generation, model: ReadModel) -> None:
        # In a shared database a rebuild by this version would undo the rebuild of a later version.
        if self._shared and generation.version > model.version:
            raise Superseded(generation, model.version)
