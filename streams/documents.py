"""Large documents (OpenAPI, definitions as written), stored by the SHA-256 of their content.

They are not on the log: an event contains the hash.
"""

from typing import Protocol


class DocumentDamaged(Exception):
    """The stored content does not have its hash."""

    def __init__(self, sha256: str, where: str) -> None:
        super().__init__(f"document {sha256} in {where} is damaged: its content has another hash")
        self.sha256 = sha256


class DocumentStore(Protocol):
    """The port. All methods are safe to call from one event loop, concurrently."""

    async def put(self, content: bytes, media_type: str) -> str:
        """Durably stores `content`; its SHA-256, hexadecimal. The first media type of a content is kept.

        Raises LogUnavailable.
        """
        ...

    async def get(self, sha256: str) -> tuple[bytes, str] | None:
        """Content and media type; None when there is no such document.

        Raises DocumentDamaged when the content has changed, LogUnavailable, LogDamaged.
        """
        ...

    async def close(self) -> None: ...
