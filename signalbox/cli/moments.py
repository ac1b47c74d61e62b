"""Times and durations as short text."""

from datetime import UTC, datetime

UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def now() -> float:
    return datetime.now(UTC).timestamp()


def seconds(time: str) -> float:
    """Unix seconds of an RFC 3339 time."""
    return datetime.fromisoformat(time).timestamp()


def ago(time: str, present: float) -> str:
    """The time from `time` to `present` (Unix seconds): `just now`, `3 s ago`, `2 h ago`."""
    passed = present - seconds(time)
    if passed < 1:
        return "just now"
    for size, unit in UNITS:
        if passed >= size:
            return f"{int(passed // size)} {unit} ago"
    return f"{int(passed)} s ago"


def between(first: str, second: str) -> str:
    """The time from one moment to another: `+4.2 ms`, `+1.3 s`."""
    passed = (seconds(second) - seconds(first)) * 1000
    if abs(passed) < 9.95:
        return f"{passed:+.1f} ms"
    if abs(passed) < 999.5:
        return f"{passed:+.0f} ms"
    return f"{passed / 1000:+.1f} s"


def clock(time: str) -> str:
    """A time to the millisecond in UTC: `2026-11-21 09:30:00.123`."""
    return time.replace("T", " ").rstrip("Z")[:23]
