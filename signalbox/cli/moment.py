"""`--as-of`: a position, a time, a date, or a time of today."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_POSITION = re.compile(r"([0-9]{1,9}:)?[0-9]{1,18}")
_CLOCK = re.compile(r"[0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?(Z|z|[+-][0-9]{2}:[0-9]{2})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TAKES = (
    "a position (42, 0:42), a time (2026-01-31T09:30:00Z), a date (2026-01-31) or a time of today (09:30); "
    "UTC where no offset is given"
)


def moment(text: str, now: datetime) -> str:
    """The value of `?as_of=`: a position as it is, a time as RFC 3339 in UTC.

    Two digits, a colon and two digits are a time of day, as in tables; a partition is written without
    leading zeros. Raises ValueError with a sentence for other text, and for times in the future.
    """
    given = text.strip()
    if not _CLOCK.fullmatch(given) and _POSITION.fullmatch(given):
        return given
    at = _time(given, now.astimezone(UTC).date())
    if at is None:
        raise ValueError(f"takes {_TAKES}; {text!r} is none of them")
    shown = at.isoformat(timespec="microseconds" if at.microsecond else "seconds").replace("+00:00", "Z")
    if at > now + _AHEAD:
        raise ValueError(f"takes a moment that has passed; {text!r} is {shown}, it is {_clock(now)} now")
    return shown


_AHEAD = timedelta(seconds=60)
"""The tolerated lead of the server's clock over this machine's."""


def _time(text: str, today: date) -> datetime | None:
    try:
        if _CLOCK.fullmatch(text):
            at = datetime.combine(today, time_of_day.fromisoformat(text.upper()))
        elif _DATE.match(text):
            at = datetime.fromisoformat(text.upper())
        else:
            return None
        return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _clock(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _parsed(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return moment(value, datetime.now(UTC))
    except ValueError as error:
        raise click.UsageError(f"--as-of {error}", context) from error


def as_of_option(command: F) -> F:
    """Adds `--as-of`, as `as_of`: the value for the HTTP API's parameter, or None."""
    return click.option(
        "--as-of",
        metavar="TIME",
        callback=_parsed,
        help="The state at that moment: a time, a date, a time of today such as 09:30 (UTC, as in tables), "
        "or a position.",
    )(command)
