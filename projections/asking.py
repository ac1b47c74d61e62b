"""What queries take and give: rows, pages with opaque cursors, and the moment an answer is from."""

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import orjson

AsOf = int | str | None
"""A position, an RFC 3339 time, or now."""

K = TypeVar("K", int, str)


@dataclass(frozen=True, slots=True)
class Row:
    """A resource, or an entry of a part (`name` is then its key), as of some moment.

    `position` and `since` say which event made it so; `created` is the time of its first version.
    """

    name: str
    version: int
    position: int
    since: str
    document: dict[str, Any]
    created: str


@dataclass(frozen=True, slots=True)
class Page:
    """`position` is the one the answer is from; `next_cursor` is None on the last page."""

    rows: tuple[Row, ...]
    next_cursor: str | None
    position: int


@dataclass(frozen=True, slots=True)
class Moment:
    """A point on the log (`position`), in time (`time`, RFC 3339 in UTC with microseconds), or now."""

    kind: Literal["now", "position", "time"]
    value: int | str = 0


NOW = Moment("now")


def moment(as_of: AsOf) -> Moment:
    """Positions may come as digits. Raises ValueError with a sentence when `as_of` is neither."""
    if as_of is None:
        return NOW
    if isinstance(as_of, int) or as_of.isdecimal():
        return Moment("position", int(as_of))
    try:
        at = datetime.fromisoformat(as_of)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError(
            f"as_of {as_of!r} is neither a position nor an RFC 3339 time such as 2026-01-31T09:00:00Z."
        )
    return Moment("time", at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


def cursor_after(key: int | str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([key])).decode().rstrip("=")


def read_cursor(cursor: str | None, first: K) -> K:
    """The key a page begins after; `first` when there is no cursor.

    Raises ValueError with a sentence when it is no cursor of such a list.
    """
    if cursor is None:
        return first
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        (key,) = orjson.loads(text)
    except (binascii.Error, ValueError, TypeError):
        key = None
    if isinstance(key, type(first)):
        return key
    raise ValueError(f"The cursor {cursor!r} is not one this list gave out.")
