"""The writer of read models: rows, parked records and checkpoint in one SQL transaction.

Everything here blocks and belongs to one thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from projections.readmodel import ReadModel
from projections.store import (
    CHECKPOINTS,
    GENERATIONS,
    PARKED,
    Generation,
    Store,
    create_indexes,
    create_tables,
    drop_tables,
    live,
)
from schemas.identity import timestamp
from schemas.upcasting import upcast
from streams.log import Record
from streams.projecting.slots import UNAVAILABLE, Batches, Slot, SomebodyElseRuns


class Writer:
    """Advances the live generations of `models`, and fills new ones beside them.

    `slots` are the live generations, `outdated` the names of those of another version, which stand still;
    `fed` is up to where the live ones were offered each topic's partition.
    """

    def __init__(self, store: Store, models: Sequence[ReadModel], partitions: int) -> None:
        self._store = store
        self._models = {m.name: m for m in models}
        self._partitions = partitions
        self.slots: dict[str, Slot] = {}
        self.outdated: set[str] = set()
        self.fed: dict[tuple[str, int], int] = {}

    def open(self) -> None:
        """Makes what is missing and reads how far each read model is.

        A live generation of another version goes on answering queries and is not advanced: its name is
        in `outdated`. Half-filled generations of an earlier run are dropped.
        """
        with self._store.writer.begin() as connection:
            for row in connection.execute(select(GENERATIONS).where(GENERATIONS.c.state == "building")).all():
                self._forget(connection, Generation(row.read_model, row.generation, row.version))
            present = live(connection)
            for name, model in self._models.items():
                generation = present.get(name)
                if generation is None:
                    generation = self._new(connection, model, "live")
                    create_indexes(connection, model, generation)
                elif generation.version != model.version:
                    self.outdated.add(name)
                else:
                    create_tables(connection, model, generation)
                    create_indexes(connection, model, generation)
                self.slots[name] = self._load(connection, model, generation)

    def apply(self, batches: Mapping[str, Batches]) -> None:
        """Brings all live generations up to date with `batches` (by topic), all or none.

        Raises SomebodyElseRuns, or one of UNAVAILABLE when the store is.
        """
        moved: dict[str, Slot] = {}
        with self._store.writer.begin() as connection:
            for name, slot in self.slots.items():
                if name not in self.outdated and slot.model.topic in batches:
                    moved[name] = _advance(connection, slot, batches[slot.model.topic])
        self.slots.update(moved)
        for topic, partitions in batches.items():
            for partition, records in partitions.items():
                self.fed[topic, partition] = records[-1].position

    def apply_again(self, batches: Mapping[str, Batches]) -> None:
        """As `apply`, after a transaction of which it is not known whether it was committed."""
        self.slots = {name: self._fresh(slot) for name, slot in self.slots.items()}
        self.apply(batches)

    def begin_building(self, name: str) -> Slot:
        """A new, empty generation beside the live one."""
        model = self._models[name]
        with self._store.writer.begin() as connection:
            return self._load(connection, model, self._new(connection, model, "building"))

    def build(self, slot: Slot, batches: Batches) -> Slot:
        with self._store.writer.begin() as connection:
            return _advance(connection, slot, batches)

    def build_again(self, slot: Slot, batches: Batches) -> Slot:
        """As `build`, after a transaction of which it is not known whether it was committed."""
        return self.build(self._fresh(slot), batches)

    def index(self, slot: Slot) -> None:
        with self._store.writer.begin() as connection:
            create_indexes(connection, slot.model, slot.generation)

    def swap(self, slot: Slot) -> None:
        """Puts `slot`, which must not be behind, in the place of the live generation; drops the old one."""
        name = slot.model.name
        for partition, at in slot.positions.items():
            if at < self.fed.get((slot.model.topic, partition), 0):
                raise AssertionError(f"{slot.generation.prefix} is behind: swapping it in would lose records")
        generations = GENERATIONS.c
        with self._store.writer.begin() as connection:
            self._forget(connection, self.slots[name].generation)
            connection.execute(
                update(GENERATIONS)
                .where(generations.read_model == name, generations.generation == slot.generation.number)
                .values(state="live")
            )
        self.slots[name] = slot
        self.outdated.discard(name)

    def abandon(self, slot: Slot) -> None:
        """Drops a generation that did not become live."""
        with self._store.writer.begin() as connection:
            self._forget(connection, slot.generation)

    def waiting(self, name: str, subject: str) -> list[tuple[int, int]]:
        """Partition and position of the records about `subject` that wait, in order."""
        with self._store.reader.begin() as connection:
            return [
                (r.partition, r.position) for r in connection.execute(_waiting(self.slots[name], subject))
            ]

    def retry(self, name: str, subject: str, records: Mapping[tuple[int, int], Record]) -> int:
        """Projects the parked records about `subject` in order, up to the first that fails; how many did.

        `records` are those that `parked` named; later ones stay for the next call.
        """
        slot = self.slots[name]
        done = 0
        with self._store.writer.begin() as connection:
            for row in connection.execute(_waiting(slot, subject)).all():
                record = records.get((row.partition, row.position))
                if record is None:
                    break
                reason = _project_one(connection, slot, record)
                if reason is not None:
                    connection.execute(update(PARKED).where(_at(slot, *row)).values(reason=reason))
                    break
                connection.execute(delete(PARKED).where(_at(slot, *row)))
                done += 1
        self.slots[name] = self._fresh(slot)
        return done

    def skip(self, name: str, subject: str) -> bool:
        """Gives up the first parked record about `subject`: kept in the table, never projected."""
        slot = self.slots[name]
        with self._store.writer.begin() as connection:
            row = connection.execute(_waiting(slot, subject).limit(1)).first()
            if row is None:
                return False
            connection.execute(update(PARKED).where(_at(slot, *row)).values(skipped_at=timestamp()))
        self.slots[name] = self._fresh(slot)
        return True

    def _new(self, connection: Connection, model: ReadModel, state: str) -> Generation:
        last = connection.execute(
            select(func.max(GENERATIONS.c.generation)).where(GENERATIONS.c.read_model == model.name)
        ).scalar()
        generation = Generation(model.name, (last or 0) + 1, model.version)
        connection.execute(
            insert(GENERATIONS).values(
                read_model=model.name, generation=generation.number, version=model.version, state=state
            )
        )
        for partition in range(self._partitions):
            connection.execute(
                insert(CHECKPOINTS).values(
                    read_model=model.name,
                    generation=generation.number,
                    topic=model.topic,
                    partition=partition,
                    position=0,
                )
            )
        create_tables(connection, model, generation)
        return generation

    def _fresh(self, slot: Slot) -> Slot:
        with self._store.writer.begin() as connection:
            return self._load(connection, slot.model, slot.generation)

    def _load(self, connection: Connection, model: ReadModel, generation: Generation) -> Slot:
        c, p = CHECKPOINTS.c, PARKED.c
        positions = connection.execute(
            select(c.partition, c.position).where(
                c.read_model == model.name, c.generation == generation.number, c.topic == model.topic
            )
        )
        slot = Slot(model, generation, {r.partition: r.position for r in positions})
        held = connection.execute(
            select(p.partition, p.subject, func.min(p.position).label("first"))
            .where(p.read_model == model.name, p.generation == generation.number, p.skipped_at.is_(None))
            .group_by(p.partition, p.subject)
        )
        slot.held.update({(r.partition, r.subject): r.first for r in held})
        return slot

    def _forget(self, connection: Connection, generation: Generation) -> None:
        for table in (GENERATIONS, CHECKPOINTS, PARKED):
            connection.execute(
                delete(table).where(
                    table.c.read_model == generation.read_model, table.c.generation == generation.number
                )
            )
        drop_tables(connection, generation)


def _advance(connection: Connection, slot: Slot, batches: Batches) -> Slot:
    """The slot after `batches`; its rows, parked records and checkpoints are in the transaction."""
    after = replace(slot, positions=dict(slot.positions), held=dict(slot.held))
    for partition, records in batches.items():
        before = slot.positions[partition]
        new = [r for r in records if r.position > before] if records[0].position <= before else records
        if not new:
            continue
        _move(connection, slot, partition, before, new[-1].position)
        after.positions[partition] = new[-1].position
        _take(connection, after, new)
    return after


def _move(connection: Connection, slot: Slot, partition: int, before: int, position: int) -> None:
    c = CHECKPOINTS.c
    moved = connection.execute(
        update(CHECKPOINTS)
        .where(
            c.read_model == slot.model.name,
            c.generation == slot.generation.number,
            c.topic == slot.model.topic,
            c.partition == partition,
            c.position == before,
        )
        .values(position=position)
    )
    if moved.rowcount != 1:
        raise SomebodyElseRuns(
            f"the read model {slot.model.name!r} is no longer at {slot.model.topic}/{partition}:{before}: "
            "another process advances it"
        )


def _take(connection: Connection, slot: Slot, records: Sequence[Record]) -> None:
    """Projects or parks each of `records`: together when all are well, else one by one."""
    parked: list[tuple[Record, str]] = []
    ready: list[Record] = []
    for record in records:
        reason = _waits(slot, record) if slot.held else None
        if reason is None:
            try:
                ready.append(_current_form(record))
                continue
            except Exception as error:  # whatever an upcaster meets in a record is that record's fault
                reason = _reason(error)
        _hold(slot, record)
        parked.append((record, reason))
    if ready and not _projected(connection, slot, ready):
        for record in ready:
            reason = _waits(slot, record) or _project_one(connection, slot, record)
            if reason is not None:
                _hold(slot, record)
                parked.append((record, reason))
    if parked:
        _park(connection, slot, parked)


def _waits(slot: Slot, record: Record) -> str | None:
    first = slot.held.get((record.partition, record.envelope.subject))
    return None if first is None or first >= record.position else f"waits behind position {first}"


def _hold(slot: Slot, record: Record) -> None:
    key = (record.partition, record.envelope.subject)
    slot.held[key] = min(record.position, slot.held.get(key, record.position))


def _projected(connection: Connection, slot: Slot, records: Sequence[Record]) -> bool:
    """Whether `records` could be projected together; if not, nothing of them stays."""
    try:
        with connection.begin_nested():
            slot.model.project(connection, slot.generation.prefix, records)
    except UNAVAILABLE:
        raise
    except Exception:  # one of them cannot be handled: one by one, the reason comes to light
        return False
    return True


def _project_one(connection: Connection, slot: Slot, record: Record) -> str | None:
    """Projects `record`, or says why it cannot be."""
    try:
        with connection.begin_nested():
            slot.model.project(connection, slot.generation.prefix, [_current_form(record)])
    except UNAVAILABLE:
        raise
    except Exception as error:  # parked with its reason, whatever it is
        return _reason(error)
    return None


def _current_form(record: Record) -> Record:
    envelope = upcast(record.envelope)
    return record if envelope is record.envelope else replace(record, envelope=envelope)


def _reason(error: Exception) -> str:
    # The text of a failed statement would carry the record's contents.
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return f"{type(cause).__name__}: {cause}"[:1000]


def _park(connection: Connection, slot: Slot, parked: Sequence[tuple[Record, str]]) -> None:
    now = timestamp()
    connection.execute(
        insert(PARKED),
        [
            {
                "read_model": slot.model.name,
                "generation": slot.generation.number,
                "topic": record.topic,
                "partition": record.partition,
                "position": record.position,
                "subject": record.envelope.subject,
                "type": record.envelope.type,
                "id": record.envelope.id,
                "reason": reason,
                "time": now,
            }
            for record, reason in parked
        ],
    )


def _in(slot: Slot) -> ColumnElement[bool]:
    return and_(PARKED.c.read_model == slot.model.name, PARKED.c.generation == slot.generation.number)


def _waiting(slot: Slot, subject: str) -> Select[Any, Any]:
    p = PARKED.c
    wanted = select(p.partition, p.position).where(_in(slot), p.subject == subject, p.skipped_at.is_(None))
    return wanted.order_by(p.partition, p.position)


def _at(slot: Slot, partition: int, position: int) -> ColumnElement[bool]:
    return and_(_in(slot), PARKED.c.partition == partition, PARKED.c.position == position)
