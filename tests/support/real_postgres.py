"""The real PostgreSQL of the tests: one server for all, and one of its own for a test that kills it."""

import subprocess
import tempfile
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from signalbox.devservers.errors import Unavailable
from signalbox.devservers.postgres.server import DevPostgres
from tests.support.real_parts import missing
from tests.support.shared import run_directory, shared

FAST = {"fsync": "off", "full_page_writes": "off"}
"""Tests kill the server, never the machine: the kernel keeps everything that was written."""


class JoinedPostgres(DevPostgres):
    """A server that another process of the run has started."""

    def start(self) -> str:
        return (self.directory / "address").read_text().strip()


@pytest.fixture(scope="session")
def postgres_made(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a server that was stopped after its first start: the others are copies of it."""
    with shared(run_directory(pytestconfig, tmp_path_factory) / "postgres-made", _made) as directory:
        yield directory


@contextmanager
def _made() -> Generator[Path]:
    with _directory() as directory:
        server = DevPostgres(directory, settings=FAST)
        try:
            server.start()
        except Unavailable as error:
            missing(error)
        server.stop()
        yield directory


@pytest.fixture(scope="session")
def shared_postgres(
    postgres_made: Path, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DevPostgres]:
    """The server that all tests share, started. Do not stop it."""

    @contextmanager
    def started() -> Generator[Path]:
        with _copy(postgres_made) as server:
            yield server.directory

    with shared(run_directory(pytestconfig, tmp_path_factory) / "postgres", started) as directory:
        yield JoinedPostgres(directory)


@pytest.fixture(scope="session")
def postgres_server(shared_postgres: DevPostgres) -> str:
    """The URL of the server that all tests share; take `postgres_url` to write."""
    return shared_postgres.start()


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
def own_postgres(postgres_made: Path) -> Iterator[DevPostgres]:
    """A server that is started and belongs to this test, to be killed and started again.

    `own_postgres.start()` returns its URL while it runs.
    """
    with _copy(postgres_made) as server:
        yield server


def execute(url: str, statement: str) -> None:
    """Runs one statement outside of a transaction."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(statement.encode())


@contextmanager
def _directory() -> Generator[Path]:
    """A folder with a short name, as a socket's path must be short."""
    with tempfile.TemporaryDirectory(prefix="signalbox-pg-", ignore_cleanup_errors=True) as name:
        yield Path(name) / "server"


@contextmanager
def _copy(made: Path) -> Generator[DevPostgres]:
    with _directory() as directory:
        # With its owner, which is another user if this process is root.
        subprocess.run(["cp", "-a", made, directory], check=True)
        server = DevPostgres(directory, settings=FAST)
        try:
            server.start()
            yield server
        finally:
            server.kill()
