"""The stored form of documents, the same in every store: compressed where that helps, verified when read."""

import hashlib
import zlib
from dataclasses import dataclass

from streams.documents import DocumentDamaged

INLINE = 64 * 1024
"""Bytes up to which packing and hashing is done on the event loop: less than a millisecond or two."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """As in the table; `packed` when `content` is compressed by zlib."""

    sha256: str
    media_type: str
    packed: bool
    content: bytes


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
