"""The document store in PostgreSQL, shared by any number of processes."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, TypeVar

from sqlalchemy import Boolean, Column, Engine, LargeBinary, MetaData, Row, Select, String, Table, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from projections.databases.postgres import engine
from projections.failures import unavailable
from projections.store import exclusive
from streams.documents import DocumentStore, StoredDocument
from streams.log import LogUnavailable

T = TypeVar("T")
THREADS = 2
ANSWER_SECONDS = 10.0

METADATA = MetaData()
DOCUMENTS = Table(
    "documents",
    METADATA,
    Column("sha256", String, primary_key=True),
    Column("media_type", String, nullable=False),
    Column("packed", Boolean, nullable=False),
    Column("content", LargeBinary, nullable=False),
)


class PostgresDocuments(DocumentStore):
    """In the database of a URL, for one event loop.

    Every method raises LogUnavailable when the database does not answer.
    """

    def __init__(self, database: Engine) -> None:
        """Use `open`."""
        self._database = database
        self._threads = ThreadPoolExecutor(THREADS, "documents")

    @classmethod
    async def open(cls, url: str) -> "PostgresDocuments":
        """`url` as `projections.store.open_store` takes it. Raises LogUnavailable."""
        documents = cls(engine(url, THREADS))
        try:
            await documents._do(documents._make)
        except BaseException:
            await documents.close()
            raise
        return documents

    async def close(self) -> None:
        self._threads.shutdown(wait=False)
        self._database.dispose()

    @property
    def where(self) -> str:
        return f"PostgreSQL database {self._database.url.database}"

    def _make(self) -> None:
        with self._database.begin() as connection:
            exclusive(connection, "documents")
            METADATA.create_all(connection)

    async def _has(self, sha256: str) -> bool:
        wanted = select(DOCUMENTS.c.sha256).where(DOCUMENTS.c.sha256 == sha256)
        return await self._do(lambda: self._first(wanted)) is not None

    async def _find(self, sha256: str) -> StoredDocument | None:
        c = DOCUMENTS.c
        wanted = select(c.sha256, c.media_type, c.packed, c.content).where(c.sha256 == sha256)
        row = await self._do(lambda: self._first(wanted))
        return None if row is None else StoredDocument(*row)

    def _first(self, wanted: Select[*tuple[Any, ...]]) -> Row[*tuple[Any, ...]] | None:
        with self._database.connect() as connection:
            return connection.execute(wanted).first()

    async def _insert(self, document: StoredDocument) -> None:
        def work() -> None:
            with self._database.begin() as connection:
                connection.execute(insert(DOCUMENTS).on_conflict_do_nothing(), asdict(document))

        await self._do(work)

    async def _do(self, work: Callable[[], T]) -> T:
        """Runs `work` in a thread, once more if the connection was lost."""

        def attempt() -> T:
            try:
                return work()
            except DBAPIError as error:
                if not error.connection_invalidated:  # else the connection was from before a restart
                    raise
            return work()

        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, attempt)
        except Exception as error:
            if unavailable(error):
                raise LogUnavailable(f"the {self.where} does not answer") from error
            raise
