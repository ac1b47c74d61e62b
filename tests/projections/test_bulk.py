"""The statements written past SQLAlchemy's parameter handling say the same to both databases."""

from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.dialects.sqlite import pysqlite

from projections import bulk
from projections.resource_tables import tables

VERSIONS = tables("test").of["api"].versions


def test_sqlite_takes_values_by_position():
    sql, names = bulk.statement(pysqlite.dialect(), VERSIONS, ("valid_to",), 4)

    assert names == ()
    assert sql.count("?") == 4 * len(VERSIONS.columns)
    assert sql.endswith(
        "ON CONFLICT (organization, name, valid_from) DO UPDATE SET valid_to = excluded.valid_to"
    )


def test_postgresql_takes_values_by_name():
    sql, names = bulk.statement(psycopg.dialect(), VERSIONS, ("valid_to",), 4)

    assert len(names) == 4 * len(VERSIONS.columns)
    assert all(f"%({name})s" in sql for name in names)
    assert sql.endswith("DO UPDATE SET valid_to = excluded.valid_to")
