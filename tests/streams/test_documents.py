"""The document store: large documents by the SHA-256 of their content."""

import asyncio
import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streams.documents import DocumentDamaged, DocumentStore
from streams.sqlite.documents import SqliteDocuments

YAML = b"openapi: 3.1.0\ninfo:\n  title: Orders\n" * 50


@pytest.fixture
async def documents(tmp_path: Path) -> AsyncIterator[DocumentStore]:
    documents = await SqliteDocuments.open(tmp_path)
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
async def test_a_document_with_another_hash_is_never_handed_out(
    documents: DocumentStore, tmp_path: Path, change: str
):
    sha256 = await documents.put(YAML, "application/yaml")
    db = sqlite3.connect(tmp_path / "documents.db")
    with db:
        db.execute(change)
    db.close()
    with pytest.raises(DocumentDamaged, match=sha256):
        await documents.get(sha256)
