"""Large documents (OpenAPI, definitions as written), kept by the SHA-256 of their content.

They do not travel on the log: an event carries the hash.
"""

from typing import Protocol


class DocumentDamaged(Exception):
    """What is kept under a hash does not have that hash."""

    def __init__(self, sha256: str, where: str) -> None:
        super().__init__(f"document {sha256} in {where} is damaged: its content has another hash")
        self.sha256 = sha256


class DocumentStore(Protocol):
    """The port. All methods are safe to call from one event loop, concurrently."""

    async def put(self, content: bytes, media_type: str) -> str:
        """Durably keeps `content`; its SHA-256, hexadecimal. The first media type of a content stays.

        Raises LogUnavailable.
        """
        ...

    async def get(self, sha256: str) -> tuple[bytes, str] | None:
        """Content and media type; None when there is no such document.

        Raises DocumentDamaged when the content is not what was put, LogUnavailable, LogDamaged.
        """
        ...

    async def close(self) -> None: ...
