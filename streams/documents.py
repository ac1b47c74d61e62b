"""Large documents (OpenAPI, definitions as written), stored by the SHA-256 of their content.

They are not on the log: an event contains the hash. Their stored form is the same in every store: compressed
where that helps, verified when read.
"""

import asyncio
import hashlib
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass

INLINE = 64 * 1024
"""Bytes up to which packing and hashing is done on the event loop: less than a millisecond or two."""


class DocumentDamaged(Exception):
    """The stored content does not have its hash."""

    def __init__(self, sha256: str, where: str) -> None:
        super().__init__(f"document {sha256} in {where} is damaged: its content has another hash")
        self.sha256 = sha256


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A row of the document table; `packed`: `content` is compressed by zlib."""

    sha256: str
    media_type: str
    packed: bool
    content: bytes


class DocumentStore(ABC):
    """All methods are safe to call from one event loop, concurrently."""

    async def put(self, content: bytes, media_type: str) -> str:
        """Stores `content` durably; returns its SHA-256, hexadecimal. Its first media type is kept.

        Raises LogUnavailable.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        if not await self._has(sha256):
            if len(content) <= INLINE:
                document = pack(content, sha256, media_type)
            else:
                document = await asyncio.to_thread(pack, content, sha256, media_type)
            await self._insert(document)
        return sha256

    async def get(self, sha256: str) -> tuple[bytes, str] | None:
        """Content and media type; None when there is no such document.

        Raises DocumentDamaged when the content has changed, LogUnavailable, LogDamaged.
        """
        document = await self._find(sha256)
        if document is None:
            return None
        if len(document.content) <= INLINE:
            return unpack(document, self.where), document.media_type
        return await asyncio.to_thread(unpack, document, self.where), document.media_type

    @property
    @abstractmethod
    def where(self) -> str:
        """The file or database, for messages."""

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def _has(self, sha256: str) -> bool: ...

    @abstractmethod
    async def _find(self, sha256: str) -> StoredDocument | None: ...

    @abstractmethod
    async def _insert(self, document: StoredDocument) -> None:
        """Does nothing if there is one of this hash."""


def pack(content: bytes, sha256: str, media_type: str) -> StoredDocument:
    small = zlib.compress(content, 1)
    if len(small) < len(content):
        return StoredDocument(sha256, media_type, True, small)
    return StoredDocument(sha256, media_type, False, content)


def unpack(document: StoredDocument, where: str) -> bytes:
    """Raises DocumentDamaged."""
    try:
        content = zlib.decompress(document.content) if document.packed else document.content
    except zlib.error:
        raise DocumentDamaged(document.sha256, where) from None
    if hashlib.sha256(content).hexdigest() != document.sha256:
        raise DocumentDamaged(document.sha256, where)
    return content
