"""Parses YAML (and so JSON) into values with their positions.

It reads libyaml's events, not its tree: the composer is recursive in C, so that a page of `[` crashes the
process; and with events, depth and aliases are counted before values are built.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

import yaml

from definitions.source.documents import Piece, place_in, text_of
from definitions.source.finding import Finding, pointer
from definitions.source.limits import Limits
from definitions.source.scalars import NotInJson, resolve
from definitions.source.source_map import Mark, SourceMap

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_BIDIRECTIONAL = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Control characters that disguise text."""
_ESCAPED_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)
_YAML = "tag:yaml.org,2002:"
_COLLECTION_TAGS = {None, "!", _YAML + "map", _YAML + "seq"}
_SCALAR_TAGS: dict[str, type | tuple[type, ...]] = {_YAML + name: kinds for name, kinds in {
    "str": str, "int": int, "float": (int, float), "bool": bool, "null": type(None),
}.items()}  # fmt: skip


class _Event(Protocol):
    start_mark: Mark
    anchor: str | None
    tag: str | None
    value: str
    implicit: tuple[bool, bool]


def parse(piece: Piece, source: str, limits: Limits) -> SourceMap:
    """The document in `piece`; its value is None, with an error, when it cannot be parsed."""
    source_map = SourceMap(piece, source)
    text = text_of(piece, source, limits)
    if isinstance(text, Finding):
        source_map.findings.append(text)
        return source_map
    source_map.text = text
    bad = _UNPRINTABLE.search(text) or _BIDIRECTIONAL.search(text)
    if bad is not None:
        line, column = place_in(text[: bad.start()])
        message = f"the character U+{ord(bad[0]):04X} is not allowed in a definition"
        place = (piece.line + line + 1, column + 1)
        source_map.findings.append(Finding("error", message, "", source, *place, "control-character"))
        return source_map
    text, source_map.shortened = _one_escape_each(text)
    builder = _Builder(source_map, limits)
    try:
        builder.build(cast("Iterator[_Event]", yaml.parse(text, Loader=yaml.CSafeLoader)))
    except _Stop:
        source_map.value = None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark is None or mark.index >= len(text):
            line, column = place_in(text.rstrip("\n"))
            place = (piece.line + line + 1, column + 1)
        else:
            place = source_map.where(mark)
        message = _explained(error, text)
        source_map.findings.append(Finding("error", message, "", source, *place, "syntax"))
        source_map.value = None
    return source_map


def _one_escape_each(text: str) -> tuple[str, tuple[int, ...]]:
    """Joins the two escapes that JSON uses for characters beyond U+FFFF, which YAML does not support."""
    if text.lstrip()[:1] not in ("{", "[") or not _ESCAPED_PAIR.search(text):
        return text, ()
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text, ()
    places: list[int] = []

    def join(match: re.Match[str]) -> str:
        high, low = int(match[2], 16), int(match[3], 16)
        places.append(match.start() - 2 * len(places))
        return f"{match[1]}\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"

    return _ESCAPED_PAIR.sub(join, text), tuple(places)


def _explained(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = cast("Mark | None", error.problem_mark)
    if mark is not None and text[mark.index : mark.index + 1] == "\t":
        return "a tab cannot indent in YAML; use spaces"
    message = ", ".join(str(part) for part in (error.context, error.problem) if part)
    return f"this is not YAML: {message or 'it cannot be parsed'}"


class _Stop(Exception):
    """The rest of this document cannot be read; the finding was added."""


@dataclass(slots=True)
class _Frame:
    """A mapping or list that is being read."""

    value: Any
    mark: Mark
    marks: dict[str | int, tuple[Mark, Mark]]
    anchor: str | None
    nodes: int
    characters: int
    is_key: bool = False
    key: str | None = None
    key_mark: Mark | None = None
    role: Literal["field", "merge", "nothing"] = "field"
    merges: list[tuple[Mark, Any]] = field(default_factory=list[tuple[Mark, Any]])


_OPEN = object()
"""The value of an anchor that is still being read."""


class _Builder:
    def __init__(self, source_map: SourceMap, limits: Limits) -> None:
        self._source_map = source_map
        self._limits = limits
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        self._nodes = 0
        self._characters = 0
        self._documents = 0
        self._readers: dict[type, Callable[[_Event], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: lambda event: self._open(event, {}),
            yaml.SequenceStartEvent: lambda event: self._open(event, []),
            yaml.MappingEndEvent: lambda event: self._close(),
            yaml.SequenceEndEvent: lambda event: self._close(),
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._start,
        }

    def build(self, events: Iterator[_Event]) -> None:
        for event in events:
            read = self._readers.get(type(event))
            if read is not None:
                read(event)

    def _start(self, event: _Event) -> None:
        self._documents += 1
        if self._documents > 1:
            self._stop(event.start_mark, "syntax", "a document begins with a line of ---")

    def _add(self, mark: Mark, rule: str, message: str, name: str | int | None = None) -> None:
        path = [f.key if isinstance(f.value, dict) else len(f.value) for f in self._frames]
        steps = [p for p in path if p is not None]
        at = pointer([*steps, *([] if name is None else [name])])
        line, column = self._source_map.where(mark)
        self._source_map.findings.append(
            Finding("error", message, at, self._source_map.source, line, column, rule)
        )

    def _stop(self, mark: Mark, rule: str, message: str) -> None:
        self._add(mark, rule, message)
        raise _Stop

    def _count(self, mark: Mark, nodes: int, characters: int) -> None:
        self._nodes += nodes
        self._characters += characters
        if self._nodes > self._limits.nodes:
            text = f"the document has more than {self._limits.nodes} values, with aliases expanded"
            self._stop(mark, "too-many-values", text)
        if self._characters > self._limits.characters:
            text = f"the document has more than {self._limits.characters} characters, with aliases expanded"
            self._stop(mark, "too-many-values", text)

    def _scalar(self, event: _Event) -> None:
        text = event.value
        self._count(event.start_mark, 1, len(text))
        frame = self._frames[-1] if self._frames else None
        if frame is not None and frame.key is None and isinstance(frame.value, dict):
            self._key(frame, event)
            if event.anchor:
                self._anchors[event.anchor] = (text, 1, len(text))
            return
        value = self._value(event)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1, len(text))
        self._put(value, event.start_mark)

    def _value(self, event: _Event) -> Any:
        tag = event.tag
        try:
            if tag is None:
                return resolve(event.value) if event.implicit[0] else event.value
            if tag == "!" or tag == _YAML + "str":
                return event.value
            wanted = _SCALAR_TAGS.get(tag)
            if wanted is None:
                self._add(event.start_mark, "tag", f"the tag {_shown(tag)} is not supported")
                return None
            value = resolve(event.value)
        except NotInJson as error:
            self._add(event.start_mark, "number", str(error))
            return None
        if not isinstance(value, wanted) or (wanted is not bool and isinstance(value, bool)):
            self._add(event.start_mark, "tag", f"{event.value[:40]!r} does not match its tag {_shown(tag)}")
            return None
        return value

    def _key(self, frame: _Frame, event: _Event) -> None:
        text, mark = event.value, event.start_mark
        plain = event.tag is None and event.implicit[0]
        frame.key_mark = mark
        if plain and text == "<<":
            frame.key, frame.role = "<<", "merge"
        elif plain and not text:
            self._add(mark, "key", "a key is missing before the colon")
            frame.key, frame.role = "", "nothing"
        else:
            if event.tag not in (None, "!", _YAML + "str"):
                self._add(mark, "tag", f"the tag {_shown(event.tag or '')} is not supported on a key")
            self._named(frame, text, mark)

    def _named(self, frame: _Frame, text: str, mark: Mark) -> None:
        if text in frame.value:
            first = self._source_map.where(frame.marks[text][0])[0]
            self._add(mark, "duplicate-key", f"the key {text!r} is already on line {first}", text)
        frame.key = text

    def _open(self, event: _Event, value: Any) -> None:
        mark = event.start_mark
        self._count(mark, 1, 0)
        if len(self._frames) >= self._limits.depth:
            self._stop(mark, "too-deep", f"nested deeper than {self._limits.depth} levels")
        if event.tag not in _COLLECTION_TAGS:
            self._add(mark, "tag", f"the tag {_shown(event.tag or '')} is not supported")
        top = self._frames[-1] if self._frames else None
        is_key = top is not None and top.key is None and isinstance(top.value, dict)
        if is_key:
            self._add(mark, "key", "a key must be text, not a list or mapping")
        marks = self._source_map.places[id(value)] = {}
        before = (self._nodes - 1, self._characters)
        self._frames.append(_Frame(value, mark, marks, event.anchor, *before, is_key=is_key))
        if event.anchor:
            self._anchors[event.anchor] = (_OPEN, 0, 0)

    def _close(self) -> None:
        frame = self._frames.pop()
        self._merge(frame)
        if frame.anchor:
            size = (self._nodes - frame.nodes, self._characters - frame.characters)
            self._anchors[frame.anchor] = (frame.value, *size)
        if frame.is_key:
            self._frames[-1].key, self._frames[-1].role = "", "nothing"
            return
        self._put(frame.value, frame.mark)

    def _alias(self, event: _Event) -> None:
        mark = event.start_mark
        name = event.anchor or ""
        if name not in self._anchors:
            self._stop(mark, "alias", f"the alias *{name} has no anchor &{name} before it")
        value, nodes, characters = self._anchors[name]
        if value is _OPEN:
            self._stop(mark, "alias", f"the alias *{name} is inside the value that it refers to")
        self._count(mark, nodes, characters)
        frame = self._frames[-1]
        if isinstance(frame.value, dict) and frame.key is None:
            frame.key_mark = mark
            if isinstance(value, str):
                self._named(frame, value, mark)
            else:
                self._add(mark, "key", "a key must be text")
                frame.key, frame.role = "", "nothing"
            return
        self._put(value, mark)

    def _put(self, value: Any, mark: Mark) -> None:
        if not self._frames:
            self._source_map.value, self._source_map.root = value, mark
            return
        frame = self._frames[-1]
        container: Any = frame.value
        if isinstance(container, list):
            entries = cast("list[Any]", container)
            frame.marks[len(entries)] = (mark, mark)
            entries.append(value)
            return
        key, key_mark = frame.key, frame.key_mark or mark
        role, frame.role = frame.role, "field"
        frame.key = None
        if key is None:  # pragma: no cover - a value always follows its key
            raise AssertionError("a value without a key")
        if role == "merge":
            frame.merges.append((key_mark, value))
        elif role == "field":
            frame.marks[key] = (key_mark, mark)
            frame.value[key] = value

    def _merge(self, frame: _Frame) -> None:
        """`<<` adds the missing keys: https://yaml.org/type/merge.html"""
        for mark, merged in frame.merges:
            several = cast("list[Any]", merged) if isinstance(merged, list) else [merged]
            for one in several:
                if not isinstance(one, dict):
                    self._add(mark, "merge", "<< must be a mapping, or a list of mappings")
                    return
                marks = self._source_map.places[id(cast("object", one))]
                for key, value in cast("dict[str, Any]", one).items():
                    if key not in frame.value:
                        frame.value[key] = value
                        frame.marks[key] = marks[key]


def _shown(tag: str) -> str:
    return "!!" + tag.removeprefix(_YAML) if tag.startswith(_YAML) else tag[:60]
