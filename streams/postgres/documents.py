"""The document store in PostgreSQL, shared by any number of processes."""

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Boolean, Column, Engine, LargeBinary, MetaData, String, Table, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from projections.databases.postgres import engine
from projections.failures import unavailable
from projections.store import exclusive
from streams.log import LogUnavailable
from streams.stored_documents import INLINE, StoredDocument, pack, unpack

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


class PostgresDocuments:
    """`streams.documents.DocumentStore` in the database of a URL, for one event loop.

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

    async def put(self, content: bytes, media_type: str) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        if await self._do(lambda: self._has(sha256)):
            return sha256
        if len(content) <= INLINE:
            document = pack(content, sha256, media_type)
        else:
            document = await asyncio.to_thread(pack, content, sha256, media_type)
        await self._do(lambda: self._insert(document))
        return sha256

    async def get(self, sha256: str) -> tuple[bytes, str] | None:
        document = await self._do(lambda: self._find(sha256))
        if document is None:
            return None
        if len(document.content) <= INLINE:
            return unpack(document, self._where()), document.media_type
        return await asyncio.to_thread(unpack, document, self._where()), document.media_type

    async def close(self) -> None:
        self._threads.shutdown(wait=False)
        self._database.dispose()

    def _where(self) -> str:
        return f"PostgreSQL database {self._database.url.database}"

    def _make(self) -> None:
        with self._database.begin() as connection:
            exclusive(connection, "documents")
            METADATA.create_all(connection)

    def _has(self, sha256: str) -> bool:
        wanted = select(DOCUMENTS.c.sha256).where(DOCUMENTS.c.sha256 == sha256)
        with self._database.connect() as connection:
            return connection.execute(wanted).first() is not None

    def _insert(self, d: StoredDocument) -> None:
        row = {"sha256": d.sha256, "media_type": d.media_type, "packed": d.packed, "content": d.content}
        with self._database.begin() as connection:
            connection.execute(insert(DOCUMENTS).on_conflict_do_nothing(), row)

    def _find(self, sha256: str) -> StoredDocument | None:
        wanted = select(DOCUMENTS).where(DOCUMENTS.c.sha256 == sha256)
        with self._database.connect() as connection:
            row = connection.execute(wanted).first()
        return None if row is None else StoredDocument(row.sha256, row.media_type, row.packed, row.content)

    async def _do(self, work: Callable[[], T]) -> T:
        """`work`, which may be done twice, in a thread."""

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
                raise LogUnavailable(f"the {self._where()} does not answer") from error
            raise
