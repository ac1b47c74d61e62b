"""The files that `apply` reads."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from signalbox.cli.failure import USAGE, Failure
from signalbox.cli.http.documents import Document

ENDINGS = frozenset({".yaml", ".yml", ".json"})
MOST = 200
"""Documents per request."""

LARGEST = 4_000_000
"""Bytes of documents per request, unless a single one is larger."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file's text and name."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that cannot be decoded, with the position of the first invalid byte."""

    name: str
    line: int
    column: int
    detail: str

    def item(self) -> Document:
        return invalid(self.name, {"line": self.line, "column": self.column, "detail": self.detail})


def invalid(source: str, finding: Document) -> Document:
    """The item that the server would return for a source with this one finding."""
    found = [{"line": 1, "severity": "error", **finding}]
    return {"source": source, "line": 1, "kind": "", "name": "", "result": "invalid", "findings": found}


def sources(given: Sequence[str], stdin: BinaryIO) -> list[Path | Source]:
    """The named files, each once, in order. Raises Failure for missing files and folders without
    definitions."""
    found: dict[Path | Source, None] = {}
    for name in given:
        if name == "-":
            read = text("stdin", stdin.read())
            if isinstance(read, Unreadable):
                raise Failure(f"standard input is not text: {read.detail}")
            found[read] = None
            continue
        place = Path(name)
        if place.is_dir():
            below = sorted(p for p in place.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
            if not below:
                raise Failure(f"there are no definitions (*.yaml, *.yml, *.json) in {name}")
            found.update(dict.fromkeys(below))
        elif place.exists():
            found[place] = None
        else:
            raise Failure(f"there is no file or folder {name!r}", code=USAGE)
    return list(found)


def batches(found: Iterable[Path | Source]) -> Iterator[list[Source | Unreadable]]:
    """The sources in batches, one per request, read when needed."""
    batch: list[Source | Unreadable] = []
    size = 0
    for one in found:
        read = one if isinstance(one, Source) else _read(one)
        length = len(read.content) if isinstance(read, Source) else 0
        if batch and (len(batch) == MOST or size + length > LARGEST):
            yield batch
            batch, size = [], 0
        batch.append(read)
        size += length
    if batch:
        yield batch


def _read(file: Path) -> Source | Unreadable:
    try:
        return text(str(file), file.read_bytes())
    except OSError as error:
        return Unreadable(str(file), 1, 1, f"cannot be read ({(error.strerror or str(error)).lower()})")


def text(name: str, content: bytes) -> Source | Unreadable:
    """JSON and YAML are UTF-8; YAML may also be UTF-16 with a byte order mark (YAML 1.2, 5.2)."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return Source(name, content.decode(encoding))
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        return Unreadable(
            name, line, column, f"not {encoding.removesuffix('-sig').upper()} text: {error.reason}"
        )
