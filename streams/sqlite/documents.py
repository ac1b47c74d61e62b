"""The document store in one SQLite file."""

import sqlite3
from pathlib import Path

from streams.documents import DocumentStore, StoredDocument
from streams.sqlite.database import Kind, make_directory, prepare
from streams.sqlite.group_commit import GroupCommit, UnitDefaults
from streams.sqlite.many_rows import execute_rows
from streams.sqlite.read_connection import ReadConnection
from streams.threads import in_thread

DOCUMENTS = Kind(
    file="documents.db",
    first_version=1,
    synchronous="FULL",
    tables="""
CREATE TABLE documents (
    sha256 TEXT PRIMARY KEY,
    media_type TEXT NOT NULL,
    packed INTEGER NOT NULL,
    content BLOB NOT NULL
)
""",
)

_PUT = "INSERT INTO documents VALUES {rows} ON CONFLICT (sha256) DO NOTHING"
_GET = "SELECT sha256, media_type, packed, content FROM documents WHERE sha256 = ?"
_HAS = "SELECT 1 FROM documents WHERE sha256 = ?"


class _Unit(UnitDefaults):
    """See `group_commit.Unit`."""

    def __init__(self) -> None:
        self._documents: list[StoredDocument] = []

    def add(self, request: StoredDocument) -> None:
        self._documents.append(request)

    def write(self, db: sqlite3.Connection) -> None:
        execute_rows(db, _PUT, [(d.sha256, d.media_type, d.packed, d.content) for d in self._documents])


class SqliteDocuments(DocumentStore):
    """On one file, for one process and one event loop."""

    def __init__(self, path: Path) -> None:
        """Use `open`."""
        self._path = path
        self._reading = ReadConnection(DOCUMENTS, path)
        self._writer: GroupCommit[StoredDocument, None] = GroupCommit(
            DOCUMENTS, path, _Unit, "signalbox-documents"
        )

    @classmethod
    async def open(cls, directory: Path) -> "SqliteDocuments":
        """Opens it in a directory that the caller has locked. Raises LogUnavailable, LogDamaged."""
        make_directory(directory)
        return cls(await in_thread(prepare, DOCUMENTS, directory))

    @property
    def refusing(self) -> str:
        """Why writes are refused at the moment, without a file's name; empty when they are accepted."""
        return self._writer.refusing

    @property
    def where(self) -> str:
        return str(self._path)

    async def _has(self, sha256: str) -> bool:
        return bool(self._reading.query(_HAS, (sha256,)))

    async def _find(self, sha256: str) -> StoredDocument | None:
        rows = self._reading.query(_GET, (sha256,))
        return StoredDocument(*rows[0]) if rows else None

    async def _insert(self, document: StoredDocument) -> None:
        await self._writer.submit(document)

    async def close(self) -> None:
        # The writer last: the last closed connection writes the journal back, which a read-only one cannot.
        self._reading.close()
        await self._writer.close()
