"""Advances a generation: rows, dead letters and checkpoint in the caller's transaction."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from operator import itemgetter

from sqlalchemy import Connection, bindparam, insert, update
from sqlalchemy.exc import DBAPIError

from projections.failures import unavailable
from projections.readmodel import Separable
from projections.store import CHECKPOINTS, PARKED
from schemas.catalog import MESSAGES
from schemas.identity import timestamp
from schemas.upcasting import upcast
from streams.log import Record
from streams.projection.progress import Batches, ComputedBatch, Gap, GenerationProgress, StaleProgress

_C = CHECKPOINTS.c
_MOVE = (
    update(CHECKPOINTS)
    .where(
        _C.read_model == bindparam("of"),
        _C.generation == bindparam("number"),
        _C.topic == bindparam("topic_"),
        _C.partition == bindparam("partition_"),
        _C.position == bindparam("before"),
        _C.releases == bindparam("epoch"),
    )
    .values(position=bindparam("after"))
)
"""Built once: building a statement takes as long as the rest of a batch of one event."""


@contextmanager
def _savepoint(connection: Connection) -> Generator[None, None, None]:
    """As `connection.begin_nested()`, which compiles its statements every time."""
    connection.exec_driver_sql("SAVEPOINT batch")
    try:
        yield
    except BaseException:
        if not connection.invalidated:
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT batch")
        raise
    connection.exec_driver_sql("RELEASE SAVEPOINT batch")


class Unreadable(Exception):
    """A record that came with a fault."""


def advance(connection: Connection, progress: GenerationProgress, batches: Batches) -> GenerationProgress:
    """The progress after `batches`. Raises Gap, StaleProgress, and errors for which `unavailable` is true."""
    after = replace(progress, positions=dict(progress.positions), blocked=dict(progress.blocked))
    # Every process locks several partitions in the same order.
    for partition, batch in sorted(batches.items(), key=itemgetter(0)):
        before = progress.positions[partition]
        if before < batch.after:
            raise Gap(progress, partition, batch.after)
        records = batch.records
        if records and records[0].position <= before:
            records = [r for r in records if r.position > before]
        if not records:
            continue
        _move(connection, progress, partition, records[-1].position)
        after.positions[partition] = records[-1].position
        _take(connection, after, records)
    return after


def advance_computed(
    connection: Connection,
    progress: GenerationProgress,
    model: Separable,
    partition: int,
    batch: ComputedBatch,
) -> GenerationProgress:
    """As `advance`, by rows that another process computed for all records after those that `progress` has."""
    if progress.positions[partition] != batch.after:
        raise Gap(progress, partition, batch.after)
    _move(connection, progress, partition, batch.last)
    model.write(connection, progress.generation.prefix, batch.rows)
    return replace(progress, positions={**progress.positions, partition: batch.last})


def project_one(connection: Connection, progress: GenerationProgress, record: Record) -> str | None:
    """Projects `record`; the reason when that fails."""
    try:
        with _savepoint(connection):
            progress.model.project(connection, progress.generation.prefix, [current_form(record)])
    except Exception as error:  # any failure makes it a dead letter
        if unavailable(error):
            raise
        return _reason(error)
    return None


def subject_of(record: Record) -> str:
    """As PostgreSQL can store it: its text has no NUL."""
    return record.envelope.subject.replace("\0", "\ufffd")


def _move(connection: Connection, progress: GenerationProgress, partition: int, position: int) -> None:
    expected = {
        "of": progress.model.name,
        "number": progress.generation.number,
        "topic_": progress.model.topic,
        "partition_": partition,
        "before": progress.positions[partition],
        "epoch": progress.epochs[partition],
    }
    moved = connection.execute(_MOVE, {**expected, "after": position})
    if moved.rowcount != 1:
        raise StaleProgress(progress, partition)


def _take(connection: Connection, progress: GenerationProgress, records: Sequence[Record]) -> None:
    """Projects or dead-letters each of `records`: all at once if possible, else one by one."""
    parked: list[tuple[Record, str]] = []
    ready: list[Record] = []
    for record in records:
        if not progress.blocked and record.fault is None and record.envelope.type in MESSAGES:
            ready.append(record)  # nearly all of them
            continue
        reason = _waits(progress, record) if progress.blocked else None
        if reason is None:
            try:
                ready.append(current_form(record))
                continue
            except Exception as error:  # any failure of an upcaster is a fault of the record
                reason = _reason(error)
        _hold(progress, record)
        parked.append((record, reason))
    if ready and not _projected(connection, progress, ready):
        for record in ready:
            reason = _waits(progress, record) or project_one(connection, progress, record)
            if reason is not None:
                _hold(progress, record)
                parked.append((record, reason))
    if parked:
        _park(connection, progress, parked)


def _waits(progress: GenerationProgress, record: Record) -> str | None:
    first = progress.blocked.get((record.partition, subject_of(record)))
    return None if first is None or first >= record.position else f"waits behind position {first}"


def _hold(progress: GenerationProgress, record: Record) -> None:
    subject = subject_of(record)
    if subject:  # no record waits behind one without a subject
        key = (record.partition, subject)
        progress.blocked[key] = min(record.position, progress.blocked.get(key, record.position))


def _projected(connection: Connection, progress: GenerationProgress, records: Sequence[Record]) -> bool:
    """Whether `records` could be projected at once; if not, none of them is."""
    try:
        with _savepoint(connection):
            progress.model.project(connection, progress.generation.prefix, records)
    except Exception as error:
        if unavailable(error):
            raise
        return False  # one of them cannot be projected: it is found by projecting them one by one
    return True


def current_form(record: Record) -> Record:
    if record.fault is not None:
        raise Unreadable(f"{record.fault.rule}: {record.fault.reason}")
    envelope = upcast(record.envelope)
    return record if envelope is record.envelope else replace(record, envelope=envelope)


def _reason(error: Exception) -> str:
    if isinstance(error, Unreadable):
        text = str(error)
    else:
        # The text of a failed statement would carry the record's contents.
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        text = f"{type(cause).__name__}: {cause}"
    return text[:1000].replace("\0", "\ufffd")


def _park(connection: Connection, progress: GenerationProgress, parked: Sequence[tuple[Record, str]]) -> None:
    now = timestamp()
    connection.execute(
        insert(PARKED),
        [
            {
                "read_model": progress.model.name,
                "generation": progress.generation.number,
                "topic": record.topic,
                "partition": record.partition,
                "position": record.position,
                "subject": subject_of(record),
                "type": record.envelope.type.replace("\0", "\ufffd"),
                "id": record.envelope.id.replace("\0", "\ufffd"),
                "reason": reason,
                "time": now,
            }
            for record, reason in parked
        ],
    )
