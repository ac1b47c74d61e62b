"""The characters allowed in text that users send, and the display of the others.

Control characters end lines of logs, move cursors and (U+0000) cannot be stored by every database;
bidirectional controls disguise text; a lone surrogate is no character. Line breaks are allowed in fields of
several lines (`MULTILINE`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import orjson

MULTILINE = frozenset({"description", "annotations", "params", "condition"})
"""Fields in which, also in nested values, line breaks and tabs are allowed."""

_BIDI = "\u202a-\u202e\u2066-\u2069"
_NEVER = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{_BIDI}\ud800-\udfff]|\r(?!\n)")
_IN_ONE_LINE = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029{_BIDI}\ud800-\udfff]")
_PERHAPS = re.compile(
    rb"\\[bfnrtu]|\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xa9]",
)
"""Matches JSON that may contain a character that is not allowed in every field."""

Location = tuple[str | int, ...]


def fault_in(text: str, *, multiline: bool = False) -> str | None:
    """The first character of `text` that is not allowed, if any."""
    found = (_NEVER if multiline else _IN_ONE_LINE).search(text)
    return None if found is None else f"contains {_kind(found[0][0])} (character {found.start() + 1})"


def plain(data: Any) -> bool:
    """Whether `data` is JSON with characters that are allowed in every field only; most data is."""
    try:
        encoded = orjson.dumps(data, default=_validated)
    except TypeError:
        return False
    return encoded.isascii() and b"\\" not in encoded and b"\x7f" not in encoded


def faults(data: Any) -> Iterator[tuple[Location, str, str]]:
    """Every text in `data`, keys included, with a character that is not allowed: location, text,
    description."""
    try:
        if _PERHAPS.search(orjson.dumps(data, default=_validated)) is None:
            return
    except TypeError:
        pass  # surrogates, or not JSON: every value is checked below
    yield from _walked(data)


def visible(text: str) -> str:
    """`text` in one line, with escapes for invisible and misleading characters."""
    return _IN_ONE_LINE.sub(lambda found: _escaped(found[0]), text)


def _validated(value: Any) -> None:
    """Leaves out pydantic models, which are validated when they are made, as `_walked` does. The command line
    imports this module and not pydantic."""
    if not hasattr(value, "__pydantic_validator__"):
        raise TypeError(f"{type(value).__name__} is not JSON")


def _walked(data: Any) -> Iterator[tuple[Location, str, str]]:
    # Not recursive: the data may nest deeper than the interpreter's stack.
    left: list[tuple[Location, Any, bool]] = [((), data, False)]
    while left:
        at, value, multiline = left.pop()
        if isinstance(value, str):
            if what := fault_in(value, multiline=multiline):
                yield at, value, what
        elif isinstance(value, Mapping):
            below: list[tuple[Location, Any, bool]] = []
            for key, field in cast("Mapping[object, Any]", value).items():
                if isinstance(key, str):
                    place = (*at, key)
                    if what := fault_in(key):
                        place = (*at, visible(key))
                        yield place, key, f"of the name {what}"
                    below.append((place, field, multiline or key in MULTILINE))
            left += reversed(below)
        elif isinstance(value, (list, tuple)):
            items = enumerate(cast("Sequence[Any]", value))
            left += reversed([((*at, i), item, multiline) for i, item in items])


def _kind(character: str) -> str:
    code = ord(character)
    if 0xD800 <= code <= 0xDFFF:
        kind = "the surrogate"
    elif code in (0x2028, 0x2029):
        kind = "the line separator"
    elif code > 0x9F:
        kind = "the bidirectional control"
    else:
        kind = "the control character"
    return f"{kind} U+{code:04X}"


def _escaped(character: str) -> str:
    code = ord(character)
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(
        character, f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    )
