"""Parameters and results of queries: rows, pages with opaque cursors, and points in time."""

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import orjson

AsOf = int | str | None
"""A position, an RFC 3339 time, or now."""

K = TypeVar("K", int, str)
_MAXIMUM = 2**63 - 1  # of a BIGINT
_DIGITS = 100


@dataclass(frozen=True, slots=True)
class Row:
    """A resource, or an entry of a part (`name` is then its key), as of some moment.

    `position` and `since` are those of the event that caused this version; `created` is that of the first.
    """

    name: str
    version: int
    position: int
    since: str
    document: dict[str, Any]
    created: str


@dataclass(frozen=True, slots=True)
class Page:
    """`position` is that of the read model; `next_cursor` is None on the last page."""

    rows: tuple[Row, ...]
    next_cursor: str | None
    position: int


@dataclass(frozen=True, slots=True)
class PointInTime:
    """A point on the log (`position`), in time (`time`, RFC 3339 in UTC with microseconds), or now."""

    kind: Literal["now", "position", "time"]
    value: int | str = 0


NOW = PointInTime("now")


def point_in_time(as_of: AsOf) -> PointInTime:
    """Parses `as_of`; a position may be a string of digits. Raises ValueError with a message."""
    if as_of is None:
        return NOW
    if isinstance(as_of, str) and as_of.isdecimal() and len(as_of) < _DIGITS:
        as_of = int(as_of)
    if isinstance(as_of, int):
        return PointInTime("position", min(as_of, _MAXIMUM))
    try:
        at = datetime.fromisoformat(as_of)
        utc = at.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        at = utc = None
    if at is None or utc is None or at.tzinfo is None:
        example = "2026-01-31T09:00:00Z"
        raise ValueError(f"as_of {as_of!r} is neither a position nor an RFC 3339 time such as {example}.")
    return PointInTime("time", f"{utc.isoformat(timespec='microseconds')}Z")


def cursor_after(key: int | str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([key])).decode().rstrip("=")


def read_cursor(cursor: str | None, first: K) -> K:
    """The key a page begins after; `first` when there is no cursor.

    Raises ValueError with a message if the cursor is not one of such a list.
    """
    if cursor is None:
        return first
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        (key,) = orjson.loads(text)
    except (binascii.Error, ValueError, TypeError):
        key = None
    if isinstance(key, type(first)) and (isinstance(key, str) or key <= _MAXIMUM):
        return key
    raise ValueError(f"The cursor {cursor!r} is not one of this list.")
