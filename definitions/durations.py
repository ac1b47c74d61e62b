"""Durations as text: `15s`, `500ms`, `1m30s`; `0s` disables a limit."""

import re
from decimal import Decimal

_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_WHOLE = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ms|s|m|h))+", re.ASCII)
_PART = re.compile(r"([0-9.]+)(ms|s|m|h)")


def milliseconds(text: str) -> int:
    """The milliseconds of a duration. Raises ValueError for other text and for fractions of a millisecond."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration: write a number with its unit, such as 15s or 500ms")
    total = sum(Decimal(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    whole = int(total)
    if whole != total:
        raise ValueError(f"{text!r} is finer than a millisecond")
    return whole


def duration(ms: int) -> str:
    """Milliseconds as the shortest text with one unit."""
    if ms == 0:
        return "0s"
    unit = next(unit for unit, size in _UNITS.items() if ms % size == 0)
    return f"{ms // _UNITS[unit]}{unit}"
