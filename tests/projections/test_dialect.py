"""The dialect port: both databases do the same with the same calls."""

from collections.abc import Iterator

import orjson
import pytest
from sqlalchemy import JSON, Column, Integer, MetaData, String, Table, bindparam, select
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.exc import IntegrityError

from projections.databases import postgres, sqlite
from projections.databases.bulk import insert_rows, json_text
from projections.databases.dialect import dialect_of
from projections.databases.port import KEEP_EXISTING, MANY, OnConflict
from projections.resources.tables import tables
from projections.store import Store

VERSIONS = tables("test").of["api"].versions
ENDED = OnConflict(replaced=("valid_to",))
THINGS = Table(
    "things",
    MetaData(),
    Column("name", String, primary_key=True),
    Column("size", Integer, nullable=False),
    Column("note", String, nullable=False),
    Column("document", JSON),
)
Rows = list[tuple[object, ...]]


def test_sqlite_takes_values_by_position():
    sql = sqlite.insert_statement(pysqlite.dialect(), VERSIONS, ENDED, 4)

    assert sql.count("?") == 4 * len(VERSIONS.columns)
    assert sql.endswith(
        "ON CONFLICT (organization, name, valid_from) DO UPDATE SET valid_to = excluded.valid_to"
    )


def test_postgresql_takes_all_rows_as_one_text():
    sql = postgres.recordset_statement(psycopg.dialect(), VERSIONS, ENDED)

    assert sql.count("%(") == 1
    assert "json_populate_recordset(CAST(NULL AS test_apis), CAST(%(rows)s AS json))" in sql
    assert sql.endswith("DO UPDATE SET valid_to = excluded.valid_to")


@pytest.fixture
def things(store: Store) -> Iterator[Store]:
    """A store with two things."""
    with store.writer.begin() as connection:
        THINGS.create(connection)
        insert_rows(connection, THINGS, [("a", 1, "first", json_text({"n": 1})), ("b", 2, "second", None)])
    yield store
    with store.writer.begin() as connection:
        THINGS.drop(connection)


def rows(store: Store) -> Rows:
    with store.reader.begin() as connection:
        return [tuple(row) for row in connection.execute(select(THINGS).order_by(THINGS.c.name))]


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        (KEEP_EXISTING, ("a", 1, "first", {"n": 1})),
        (OnConflict(replaced=("size", "document")), ("a", 9, "first", {"n": 9})),
        (OnConflict(replaced=("size",), replaced_unless_empty=("note",)), ("a", 9, "first", {"n": 1})),
    ],
)
def test_rows_that_exist_change_as_named(
    things: Store, existing: OnConflict, expected: tuple[object, ...]
) -> None:
    with things.writer.begin() as connection:
        insert_rows(connection, THINGS, [("a", 9, "", json_text({"n": 9})), ("c", 3, "", None)], existing)

    assert rows(things) == [expected, ("b", 2, "second", None), ("c", 3, "", None)]


@pytest.mark.parametrize("count", [MANY - 50, 2 * MANY])
def test_more_rows_than_one_statement_takes_are_inserted(things: Store, count: int) -> None:
    with things.writer.begin() as connection:
        insert_rows(connection, THINGS, [(f"n{n:03}", n, "\\\t", json_text('\0"')) for n in range(count)])

    assert rows(things)[2:] == [(f"n{n:03}", n, "\\\t", '\ufffd"') for n in range(count)]


def test_many_rows_of_which_one_exists_are_refused_as_integrity_error(things: Store) -> None:
    many = [(name, 3, "", None) for name in ("a", *(f"n{n}" for n in range(MANY)))]

    with pytest.raises(IntegrityError), things.writer.begin() as connection:
        insert_rows(connection, THINGS, many)

    assert len(rows(things)) == 2


def test_postgresql_stores_many_texts_without_nul(things: Store) -> None:
    if things.shared:
        with things.writer.begin() as connection:
            insert_rows(connection, THINGS, [(f"n{n:03}", n, "a\0b", None) for n in range(MANY)])

        assert rows(things)[-1] == (f"n{MANY - 1}", MANY - 1, "a\ufffdb", None)


def test_texts_are_found_by_one_parameter(things: Store) -> None:
    with things.reader.begin() as connection:
        dialect = dialect_of(connection)
        wanted = select(THINGS.c.size).where(dialect.is_in(THINGS.c.name, "names"))
        found = connection.execute(wanted, {"names": dialect.texts(["b", "none"])}).scalars().all()

    assert found == [2]


def test_keys_are_looked_up_as_json_lists(things: Store) -> None:
    with things.reader.begin() as connection:
        dialect = dialect_of(connection)
        where = f"u.name = {dialect.part_of_key(0)} AND u.size <= {dialect.part_of_key(1, number=True)}"
        sql = f"SELECT {dialect.as_list('u.name, u.size')} {dialect.lookup('keys', THINGS, where, '')}"
        keys = orjson.dumps([["a", 1], ["b", 1], ["b", 2]]).decode()
        answer = connection.exec_driver_sql(dialect.driver_sql(connection, sql), {"keys": keys})
        found = [value if isinstance(value, list) else orjson.loads(value) for (value,) in answer]

    assert found == [["a", 1], ["b", 2]]


def test_an_insert_does_nothing_with_rows_that_exist(things: Store) -> None:
    with things.writer.begin() as connection:
        insert = dialect_of(connection).insert(THINGS).values(name="a", size=bindparam("s"), note="")
        connection.execute(insert.on_conflict_do_nothing(), {"s": 9})

    assert rows(things)[0] == ("a", 1, "first", {"n": 1})


def test_a_shared_database_has_one_holder_of_a_name(store: Store) -> None:
    if not store.shared:
        with store.writer.begin() as connection:
            assert dialect_of(connection).try_exclusive(connection, "x", session=False)
        return
    with store.writer.begin() as one, store.writer.begin() as other:
        assert dialect_of(one).try_exclusive(one, "x", session=False)
        assert not dialect_of(other).try_exclusive(other, "x", session=False)
        assert dialect_of(other).try_exclusive(other, "y", session=False)
