"""Errors and warnings about a document, with their positions; and JSON pointers (RFC 6901)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`pointer` (RFC 6901) is into the document; `line` and `column` (from 1) are in the file `source`.

    `rule` is a stable name, in kebab case. An error rejects the document; a warning does not.
    """

    severity: Severity
    message: str
    pointer: str
    source: str
    line: int
    column: int
    rule: str

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}:{self.column}" if self.source else f"{self.line}:{self.column}"
        return f"{where}: {self.severity}: {self.message} [{self.rule}]"


def token(key: str | int) -> str:
    """The reference token of a key (RFC 6901, JSON Pointer)."""
    return str(key).replace("~", "~0").replace("/", "~1")


def pointer(path: Iterable[str | int]) -> str:
    return "".join(f"/{token(key)}" for key in path)


def tokens(text: str) -> list[str]:
    return [t.replace("~1", "/").replace("~0", "~") for t in text.split("/")[1:]]
