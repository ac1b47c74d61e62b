"""The engines of the read models' database: a SQLite file, or a PostgreSQL database."""

from pathlib import Path

from sqlalchemy import Engine

from projections.databases import sqlite


def engines(target: Path | str) -> tuple[Engine, Engine]:
    """The engine that writes and the engine that reads; each connects when it is used. Raises OSError,
    ArgumentError if the URL is invalid."""
    if isinstance(target, Path):
        return sqlite.engines(target)
    from projections.databases import postgres  # imports its driver, which SQLite does not need

    return postgres.engines(target)


def target_of(engine: Engine) -> Path | str:
    """What `engines` takes for this database; with its password."""
    if engine.dialect.name == "sqlite":
        return Path(str(engine.url.database))
    return engine.url.render_as_string(hide_password=False)
