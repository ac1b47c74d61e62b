"""The document store: large documents by the SHA-256 of their content."""

import asyncio
import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from signalbox.devservers.postgres.server import DevPostgres
from streams.documents import DocumentDamaged, DocumentStore
from streams.log import LogUnavailable
from streams.postgres.documents import PostgresDocuments
from streams.sqlite.documents import SqliteDocuments
from tests.support.hang_guard import HANG_SECONDS
from tests.support.real_postgres import execute

YAML = b"openapi: 3.1.0\ninfo:\n  title: Orders\n" * 50


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
async def documents(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DocumentStore]:
    if request.param == "sqlite":
        documents = await SqliteDocuments.open(tmp_path)
    else:
        documents = await PostgresDocuments.open(request.getfixturevalue("postgres_url"))
    yield documents
    await documents.close()


@pytest.mark.parametrize(
    "content", [b"", b"x", YAML, os.urandom(1000), YAML * 2000, os.urandom(3_000_000)], ids=len
)
async def test_a_document_is_got_by_its_hash_as_it_was_put(documents: DocumentStore, content: bytes):
    sha256 = await documents.put(content, "application/yaml")
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert await documents.get(sha256) == (content, "application/yaml")


async def test_an_unknown_document_is_none(documents: DocumentStore):
    assert await documents.get("0" * 64) is None


async def test_putting_again_changes_nothing(documents: DocumentStore):
    first = await documents.put(YAML, "application/yaml")
    again = await asyncio.gather(*(documents.put(YAML, "text/plain") for _ in range(10)))
    assert set(again) == {first}
    assert await documents.get(first) == (YAML, "application/yaml")


async def test_many_at_once_are_all_there_after_it_is_opened_again(tmp_path: Path):
    documents = await SqliteDocuments.open(tmp_path)
    contents = [b"%d " % n + YAML for n in range(200)]
    hashes = await asyncio.gather(*(documents.put(content, "application/yaml") for content in contents))
    await documents.close()
    assert (tmp_path / "documents.db").stat().st_size < sum(map(len, contents)) / 2
    documents = await SqliteDocuments.open(tmp_path)
    assert [await documents.get(each) for each in hashes] == [
        (content, "application/yaml") for content in contents
    ]
    await documents.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE documents SET content = x'00'",
        "UPDATE documents SET packed = 0",
        "UPDATE documents SET packed = 0, content = x'6f'",
    ],
)
async def test_a_document_with_another_hash_is_never_handed_out(tmp_path: Path, change: str):
    documents = await SqliteDocuments.open(tmp_path)
    sha256 = await documents.put(YAML, "application/yaml")
    db = sqlite3.connect(tmp_path / "documents.db")
    with db:
        db.execute(change)
    db.close()
    with pytest.raises(DocumentDamaged, match=sha256):
        await documents.get(sha256)
    await documents.close()


async def test_nor_is_one_from_postgresql(postgres_url: str):
    documents = await PostgresDocuments.open(postgres_url)
    sha256 = await documents.put(YAML, "application/yaml")
    execute(postgres_url, "UPDATE documents SET packed = false")
    with pytest.raises(DocumentDamaged, match=sha256):
        await documents.get(sha256)
    await documents.close()


async def test_in_postgresql_every_process_has_the_same(postgres_url: str):
    one, other = await asyncio.gather(*(PostgresDocuments.open(postgres_url) for _ in range(2)))
    hashes = await asyncio.gather(one.put(YAML, "application/yaml"), other.put(YAML, "application/yaml"))
    assert await other.get(hashes[0]) == await one.get(hashes[1]) == (YAML, "application/yaml")
    await one.close()
    await other.close()


async def test_without_postgresql_a_document_is_neither_put_nor_got_until_it_is_back(
    own_postgres: DevPostgres,
):
    documents = await PostgresDocuments.open(own_postgres.start())
    sha256 = await documents.put(YAML, "application/yaml")
    own_postgres.kill()
    for attempt in (documents.put(b"another", "text/plain"), documents.get(sha256)):
        with pytest.raises(LogUnavailable):
            async with asyncio.timeout(HANG_SECONDS):
                await attempt
    own_postgres.start()
    assert await documents.get(sha256) == (YAML, "application/yaml")
    await documents.close()
