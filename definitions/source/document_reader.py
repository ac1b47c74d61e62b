"""Reads a document's values with their positions in the file, and collects findings about them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, cast

from definitions.source.finding import Finding, Severity, token
from definitions.source.source_map import SourceMap


def described(value: object) -> str:
    """The kind of a value, for messages."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the value {str(value).lower()}"
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    if isinstance(value, int | float):
        return f"the number {value}"
    return "a list" if isinstance(value, list) else "a mapping"


@dataclass(slots=True)
class DocumentReader:
    """The document that a form reads; findings are added to it."""

    source_map: SourceMap
    _blamed: set[str] = field(default_factory=set[str])
    _around: set[str] = field(default_factory=set[str])
    _counted: int = 0

    @property
    def root(self) -> "Node":
        return Node(self, "", self.source_map.value)

    @property
    def findings(self) -> list[Finding]:
        return self.source_map.findings

    @property
    def refused(self) -> bool:
        return any(f.severity == "error" for f in self.source_map.findings)

    def blamed(self, at: str) -> bool:
        """Whether there is an error at `at`, above or below it."""
        for finding in self.source_map.findings[self._counted :]:
            if finding.severity == "error":
                self._blamed.add(finding.pointer)
                self._around.update(_above(finding.pointer))
        self._counted = len(self.source_map.findings)
        return at in self._blamed or at in self._around or not self._blamed.isdisjoint(_above(at))


def _above(at: str) -> list[str]:
    """The pointers above `at`, without that of the whole document."""
    return [at[:i] for i, character in enumerate(at) if character == "/" and i]


@dataclass(frozen=True, slots=True)
class Node:
    """A value with its position in the document. A missing one has the value None."""

    reader: DocumentReader
    pointer: str
    value: Any

    def error(self, rule: str, message: str, key: bool = False) -> None:
        self.reader.source_map.add("error", rule, self.pointer, message, key)

    def warning(self, rule: str, message: str, key: bool = True) -> None:
        self.reader.source_map.add("warning", rule, self.pointer, message, key)

    def not_used(self, why: str = "it has no meaning here") -> None:
        self.warning("not-used", f"{self.name} is not used: {why}")

    @property
    def name(self) -> str:
        return self.pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.value, dict)

    def at(self, key: str | int) -> "Node":
        """The entry `key`; with the value None if it does not exist."""
        value = self.value
        if isinstance(value, dict):
            found: Any = cast("dict[str | int, Any]", value).get(key)
        elif isinstance(value, list) and isinstance(key, int):
            found = cast("list[Any]", value)[key]
        else:
            found = None
        return Node(self.reader, f"{self.pointer}/{token(key)}", found)

    def __contains__(self, key: str) -> bool:
        return key in mapping(self.value)

    def fields(self, known: Iterable[str], unknown: Severity = "error") -> dict[str, "Node"]:
        """The entries of a mapping by name; none, and an error, if the value is not a mapping.

        Names that are not in `known` are findings and left out.
        """
        if not self.is_mapping:
            self.expected("a mapping")
            return {}
        names = tuple(known)
        found: dict[str, Node] = {}
        for key in mapping(self.value):
            node = self.at(key)
            if key in names:
                found[key] = node
            else:
                node.unknown(names, unknown)
        return found

    def unknown(self, known: Iterable[str], severity: Severity = "error") -> None:
        names = {name.lower(): name for name in known}
        # Searching for similar names is slow, and a long name is hardly a typing error.
        close = get_close_matches(self.name.lower(), names, 1, 0.7) if len(self.name) < 40 else []
        hint = f"; did you mean {names[close[0]]!r}?" if close else ""
        message = f"{self.name!r} is not known here{hint}"
        self.reader.source_map.add(severity, "unknown-field", self.pointer, message, True)

    def items(self) -> list["Node"]:
        """The entries of a list; none if the value is missing; none, and an error, if it is not a list."""
        value: Any = self.value
        if isinstance(value, list):
            return [self.at(i) for i in range(len(cast("list[Any]", value)))]
        if self.value is not None or self._is_written():
            self.expected("a list")
        return []

    def text(self) -> str | None:
        """The text; None if the value is missing; None, and an error, if it is not text."""
        if isinstance(self.value, str):
            return self.value
        if self.value is not None or self._is_written():
            self.expected("text")
        return None

    def required(self) -> str | None:
        """The text; None, and an error, when it is missing or empty."""
        if (self.value is None and not self._is_written()) or self.value == "":
            self.missing()
            return None
        return self.text()

    def missing(self) -> None:
        self.error("required", f"{self.name} is missing")

    def expected(self, what: str) -> None:
        """Adds the error that `what` is expected here."""
        plain = self.reader.source_map.plain(self.pointer)
        if what == "text" and isinstance(self.value, int | float) and plain is not None:
            message = f'{plain} is read as {described(self.value)}; put it in quotes: "{plain}"'
            self.error("needs-quotes", message)
        else:
            self.error("type", f"{self.name or 'the document'} must be {what}, not {described(self.value)}")

    def _is_written(self) -> bool:
        return self.reader.source_map.holds(self.pointer)


def mapping(value: object) -> Mapping[str, Any]:
    """`value` when it is a mapping, else an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def entries(value: object) -> Sequence[Any]:
    """`value` when it is a list, else an empty one."""
    return cast("Sequence[Any]", value) if isinstance(value, list) else ()
