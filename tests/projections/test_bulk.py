"""The statements written past SQLAlchemy's parameter handling say the same to both databases."""

from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.dialects.sqlite import pysqlite

from projections.databases import bulk
from projections.databases.bulk import OnConflict
from projections.resources.tables import tables

VERSIONS = tables("test").of["api"].versions
ENDED = OnConflict(replaced=("valid_to",))


def test_sqlite_takes_values_by_position():
    sql = bulk.insert_statement(pysqlite.dialect(), VERSIONS, ENDED, 4)

    assert sql.count("?") == 4 * len(VERSIONS.columns)
    assert sql.endswith(
        "ON CONFLICT (organization, name, valid_from) DO UPDATE SET valid_to = excluded.valid_to"
    )


def test_postgresql_takes_all_rows_as_one_text():
    sql = bulk.recordset_statement(psycopg.dialect(), VERSIONS, ENDED)

    assert sql.count("%(") == 1
    assert "json_populate_recordset(CAST(NULL AS test_apis), CAST(%(rows)s AS json))" in sql
    assert sql.endswith("DO UPDATE SET valid_to = excluded.valid_to")
