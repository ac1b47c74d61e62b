"""The generations of read models in the database: made, read, retired, dropped."""

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
    """A new, empty generation; the caller is the only one who makes one."""
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
    """Those that are missing."""
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
    """How far a generation is, and what waits."""
    c, p = CHECKPOINTS.c, PARKED.c
    checkpoints = connection.execute(
        select(c.partition, c.position, c.releases).where(
            c.read_model == model.name, c.generation == generation.number, c.topic == model.topic
        )
    ).all()
    held = connection.execute(
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
        blocked={(r.partition, r.subject): r.first for r in held},
    )


def set_state(connection: Connection, generation: Generation, state: str) -> None:
    g = GENERATIONS.c
    connection.execute(
        update(GENERATIONS)
        .where(g.read_model == generation.read_model, g.generation == generation.number)
        .values(state=state)
    )


def retire(connection: Connection, generation: Generation) -> None:
    """Nobody advances or asks it any more; its tables are there for those who still read them."""
    _delete_from(connection, generation, CHECKPOINTS, PARKED)
    set_state(connection, generation, "retired")


def forget(connection: Connection, generation: Generation) -> None:
    """Drops all there is of a generation."""
    _delete_from(connection, generation, GENERATIONS, CHECKPOINTS, PARKED)
    drop_tables(connection, generation)


def left_over(connection: Connection, read_model: str, *states: str) -> list[Generation]:
    """Those in `states`: half filled or retired ones, which only their maker may drop while it runs."""
    g = GENERATIONS.c
    rows = connection.execute(
        select(GENERATIONS).where(g.read_model == read_model, g.state.in_(states or ("building", "retired")))
    )
    return [Generation(r.read_model, r.generation, r.version) for r in rows]


def builds_alone(connection: Connection, read_model: str, *, session: bool) -> bool:
    """Whether nobody else builds a generation of the read model, and nobody does until the transaction, or
    with `session` the connection, ends."""
    return dialect_of(connection).try_exclusive(connection, f"building/{read_model}", session=session)


def _delete_from(connection: Connection, generation: Generation, *tables: Table) -> None:
    for table in tables:
        connection.execute(
            delete(table).where(
                table.c.read_model == generation.read_model, table.c.generation == generation.number
            )
        )
