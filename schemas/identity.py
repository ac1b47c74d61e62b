"""Identifiers and times: UUIDv7 (RFC 9562 section 5.7) and RFC 3339 timestamps in UTC."""

import os
import re
import time
from datetime import UTC, datetime
from random import Random

# Ids need to be unique, not secret: randomness is read from the kernel only once, since a call can take 70
# µs.
_random = Random(os.urandom(32))
os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def is_traceparent(text: str) -> bool:
    """Whether `text` is a `traceparent` of W3C Trace Context."""
    return _TRACEPARENT.fullmatch(text) is not None


def uuid7(now_ms: int | None = None) -> str:
    """A new UUIDv7 as text: 48 bits of Unix milliseconds, then 74 random bits."""
    ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    random = _random.getrandbits(74)
    return (
        f"{ms >> 16 & 0xFFFF_FFFF:08x}-{ms & 0xFFFF:04x}-7{random >> 62:03x}"
        f"-{0x8000 | random >> 48 & 0x3FFF:04x}-{random & 0xFFFF_FFFF_FFFF:012x}"
    )


def is_uuid(text: str) -> bool:
    """True for a UUID as `uuid7` writes it."""
    return _UUID.fullmatch(text) is not None


def timestamp(at: float | None = None) -> str:
    """RFC 3339 with microseconds and `Z`; `at` is in Unix seconds, now when left out.

    The width is fixed, so that timestamps compare as text.
    """
    moment = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def utc(time_text: str) -> str:
    """An RFC 3339 timestamp in the form that `timestamp` writes; empty when `text` is not one."""
    try:
        if _TIMESTAMP.fullmatch(time_text) is not None:
            datetime.fromisoformat(time_text)
            return time_text
        if _RFC3339.fullmatch(time_text) is None:
            return ""
        moment = datetime.fromisoformat(time_text.upper())
        return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"
    except (ValueError, OverflowError):
        return ""


def unix_seconds(time_text: str) -> float:
    """The Unix seconds of an RFC 3339 timestamp. Raises ValueError when it is not one."""
    return datetime.fromisoformat(time_text).timestamp()
