"""The real PostgreSQL of the tests: one server for all, and one of its own for a test that kills it."""

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from signalbox.devservers.faults import Unavailable
from signalbox.devservers.postgres import DevPostgres
from tests.real_parts import missing

FAST = {"fsync": "off", "full_page_writes": "off"}
"""What a test kills is the server, never the machine: the kernel keeps what was written."""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of the server that all tests share. Do not stop it; take `postgres_url` to write."""
    with tempfile.TemporaryDirectory(prefix="signalbox-pg-", ignore_cleanup_errors=True) as directory:
        server = DevPostgres(Path(directory) / "server", settings=FAST)
        try:
            yield _started(server)
        finally:
            server.kill()


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A database of this test's own, dropped after it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    execute(postgres_server, f"create database {name}")
    try:
        yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    finally:
        execute(postgres_server, f"drop database {name} with (force)")


@pytest.fixture
def own_postgres() -> Iterator[DevPostgres]:
    """A server that is started and belongs to this test, to be killed and started again.

    `own_postgres.start()` answers its URL while it runs.
    """
    with tempfile.TemporaryDirectory(prefix="signalbox-pg-", ignore_cleanup_errors=True) as directory:
        server = DevPostgres(Path(directory) / "server", settings=FAST)
        try:
            _started(server)
            yield server
        finally:
            server.kill()


def execute(url: str, statement: str) -> None:
    """Runs one statement outside of a transaction."""
    with psycopg.connect(
        make_url(url).set(drivername="postgresql").render_as_string(False), autocommit=True
    ) as c:
        c.execute(statement.encode())


def _started(server: DevPostgres) -> str:
    try:
        return server.start()
    except Unavailable as error:
        missing(error)
