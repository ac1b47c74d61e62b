"""Creates, loads, retires and drops generations of read models in the database."""

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from projections.databases.dialect import dialect_of
from projections.readmodel import ReadModel
from projections.store import (
    CHECKPOINTS,
    GENERATIONS,
    PARKED,
    Generation,
    create_tables,
    drop_tables,
)
from streams.projection.progress import GenerationProgress


def create(connection: Connection, model: ReadModel, state: str, partitions: int) -> GenerationProgress:
    """A new, empty generation; the caller excludes concurrent calls."""
    last = connection.execute(
        select(func.max(GENERATIONS.c.generation)).where(GENERATIONS.c.read_model == model.name)
    ).scalar()
    generation = Generation(model.name, (last or 0) + 1, model.version)
    connection.execute(
        insert(GENERATIONS).values(
            read_model=model.name, generation=generation.number, version=model.version, state=state
        )
    )
    make_checkpoints(connection, model, generation, partitions)
    create_tables(connection, model, generation)
    return load(connection, model, generation)


def make_checkpoints(
    connection: Connection, model: ReadModel, generation: Generation, partitions: int
) -> None:
    """Creates the missing checkpoints of a generation."""
    beginnings = [
        {
            "read_model": model.name,
            "generation": generation.number,
            "topic": model.topic,
            "partition": partition,
            "position": 0,
        }
        for partition in range(partitions)
    ]
    connection.execute(dialect_of(connection).insert(CHECKPOINTS).on_conflict_do_nothing(), beginnings)


def load(connection: Connection, model: ReadModel, generation: Generation) -> GenerationProgress:
    """The progress of a generation: its positions and blocked subjects."""
    c, p = CHECKPOINTS.c, PARKED.c
    checkpoints = connection.execute(
        select(c.partition, c.position, c.releases).where(
            c.read_model == model.name, c.generation == generation.number, c.topic == model.topic
        )
    ).all()
    parked = connection.execute(
        select(p.partition, p.subject, func.min(p.position).label("first"))
        .where(p.read_model == model.name, p.generation == generation.number)
        .where(p.skipped_at.is_(None), p.subject != "")
        .group_by(p.partition, p.subject)
    )
    return GenerationProgress(
        model,
        generation,
        positions={r.partition: r.position for r in checkpoints},
        epochs={r.partition: r.releases for r in checkpoints},
        blocked={(r.partition, r.subject): r.first for r in parked},
    )


def set_state(connection: Connection, generation: Generation, state: str) -> None:
    g = GENERATIONS.c
    connection.execute(
        update(GENERATIONS)
        .where(g.read_model == generation.read_model, g.generation == generation.number)
        .values(state=state)
    )


def retire(connection: Connection, generation: Generation) -> None:
    """Retires a generation: it is not advanced any more; its tables stay for queries in progress."""
    _delete_from(connection, generation, CHECKPOINTS, PARKED)
    set_state(connection, generation, "retired")


def forget(connection: Connection, generation: Generation) -> None:
    """Drops a generation with its tables, checkpoints and dead letters."""
    _delete_from(connection, generation, GENERATIONS, CHECKPOINTS, PARKED)
    drop_tables(connection, generation)


def left_over(connection: Connection, read_model: str, *states: str) -> list[Generation]:
    """Generations in `states`, by default half filled or retired ones, which only their builder may drop."""
    g = GENERATIONS.c
    rows = connection.execute(
        select(GENERATIONS).where(g.read_model == read_model, g.state.in_(states or ("building", "retired")))
    )
    return [Generation(r.read_model, r.generation, r.version) for r in rows]


def builds_alone(connection: Connection, read_model: str, *, session: bool) -> bool:
    """Locks the building of a read model until the transaction, or with `session` the connection, ends; False
    if another process has the lock."""
    return dialect_of(connection).try_exclusive(connection, f"building/{read_model}", session=session)


def _delete_from(connection: Connection, generation: Generation, *tables: Table) -> None:
    for table in tables:
        connection.execute(
            delete(table).where(
                table.c.read_model == generation.read_model, table.c.generation == generation.number
            )
        )
