"""Empty stores for tests, in either database."""

import atexit
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pytest
from sqlalchemy import make_url

from projections.catalog import READ_MODELS
from projections.store import Store, open_store
from signalbox.devservers.postgres.server import DevPostgres
from streams.projection.writer import Writer
from tests.support.real_postgres import execute
from tests.support.shared import alone

_TEMPLATE = "signalbox_empty"


@lru_cache
def _sqlite_template() -> Path:
    """A file with empty read models, made once per process."""
    directory = Path(tempfile.mkdtemp(prefix="signalbox-test-store-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    store = open_store(directory / "readmodels.db")
    Writer(store, READ_MODELS, 1).open()
    store.close()
    return directory / "readmodels.db"


@contextmanager
def sqlite_copy(directory: Path) -> Iterator[Store]:
    """A store with empty read models: copied, which takes a tenth of making the tables."""
    shutil.copyfile(_sqlite_template(), directory / "readmodels.db")
    with sqlite_store(directory) as store:
        yield store


@contextmanager
def sqlite_store(directory: Path) -> Iterator[Store]:
    store = open_store(directory / "readmodels.db")
    try:
        yield store
    finally:
        store.close()


@contextmanager
def postgres_store(server: str) -> Iterator[Store]:
    with postgres_copy(server) as url:
        store = open_store(url)
        try:
            yield store
        finally:
            store.close()


@contextmanager
def postgres_copy(server: str) -> Iterator[str]:
    """The URL of a database with empty read models: copied, which takes a tenth of making the tables."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    # Its files are copied: to write their pages to the log of changes takes twice as long.
    execute(server, f"create database {name} template {_TEMPLATE} strategy file_copy")
    try:
        yield _url(server, name)
    finally:
        execute(server, f"drop database {name} with (force)")


@pytest.fixture(scope="session")
def empty_read_models(shared_postgres: DevPostgres) -> str:
    """The server, for `postgres_store` and `postgres_copy`."""
    server = shared_postgres.start()
    made = shared_postgres.directory / _TEMPLATE
    with alone(made.with_suffix(".lock")):
        if not made.exists():
            execute(server, f"create database {_TEMPLATE}")
            store = open_store(_url(server, _TEMPLATE))
            Writer(store, READ_MODELS, 1).open()
            store.close()
            made.touch()
    return server


def _url(server: str, database: str) -> str:
    return make_url(server).set(database=database).render_as_string(hide_password=False)
