"""A parsed document: its value, and the position of each part."""

import re
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from definitions.source.documents import Piece
from definitions.source.finding import Finding, Severity, tokens

_PLAIN = re.compile(r"[^\s,\]}]+")


class Mark(Protocol):
    """A position in the text: line and column from 0, `index` in characters."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...
    @property
    def index(self) -> int: ...


Places = dict[int, dict[str | int, tuple[Mark, Mark]]]
"""By `id` of a mapping or list: per entry the marks of its key (or dash) and of its value."""


@dataclass(slots=True)
class SourceMap:
    """One document: its root value, its findings, and the positions of its parts."""

    piece: Piece
    source: str
    text: str = ""
    value: Any = None
    findings: list[Finding] = field(default_factory=list[Finding])
    places: Places = field(default_factory=Places)
    root: Mark | None = None
    shortened: tuple[int, ...] = ()

    @property
    def line(self) -> int:
        """The line of the file, from 1, where the document's content begins."""
        return self.piece.line + (self.root.line if self.root else 0) + 1

    def place(self, at: str, key: bool = False) -> tuple[int, int]:
        """Line and column in the file, from 1, of the part at `at`, or of its nearest existing parent.

        The position of a scalar is its own; that of a mapping or list is its key's, as for all with `key`.
        """
        mark = self._mark(at, key)
        return self.where(mark) if mark else (self.line, 1)

    def where(self, mark: Mark) -> tuple[int, int]:
        lost = sum(2 for at in self.shortened if mark.index - mark.column <= at < mark.index)
        return self.piece.line + mark.line + 1, mark.column + lost + 1

    def plain(self, at: str) -> str | None:
        """The plain scalar at `at` as it is written; None for anything else."""
        mark = self._mark(at, False)
        match = _PLAIN.match(self.text, mark.index) if mark else None
        return match[0] if match else None

    def add(self, severity: Severity, rule: str, at: str, message: str, key: bool = False) -> None:
        line, column = self.place(at, key)
        self.findings.append(Finding(severity, message, at, self.source, line, column, rule))

    def holds(self, at: str) -> bool:
        """Whether there is an entry at `at`, even an empty one (`key:`)."""
        container: object = self.value
        for name in tokens(at):
            step = _step(container, name)
            if step is None:
                return False
            container = step[1]
        return True

    def _mark(self, at: str, key: bool) -> Mark | None:
        found = self.root
        container: object = self.value
        for name in tokens(at):
            step = _step(container, name)
            marks = self.places[id(container)].get(step[0]) if step else None
            if step is None or marks is None:
                break
            container = step[1]
            found = marks[0] if key or id(container) in self.places else marks[1]
        return found


def _step(container: object, name: str) -> tuple[str | int, object] | None:
    """The entry of a mapping or list at the token of a pointer."""
    if isinstance(container, dict):
        entries = cast("dict[str, object]", container)
        return (name, entries[name]) if name in entries else None
    if isinstance(container, list) and name.isascii() and name.isdigit() and len(name) < 9:
        items = cast("list[object]", container)
        return (int(name), items[int(name)]) if int(name) < len(items) else None
    return None
