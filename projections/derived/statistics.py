"""Queries of derived read models: counts by minute.

Raises NotReady before the projector has created the tables.
"""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from projections.derived.windows import changes_between, lags_between
from projections.read_transactions import ReadTransaction

Fields = dict[str, Any]


def statistics_in(s: ReadTransaction, organization: str, first: str, last: str) -> list[Fields]:
    """The minutes with any activity, from `first` to `last`: minute, accepted, rejected, events, and `lags`
    by stage (count; mean, p50 and p99 in seconds)."""
    windows, rollouts = s.prefix("windows"), s.prefix("rollouts")
    minutes: dict[str, Fields] = {}
    for change in changes_between(s.connection, windows, organization, first, last):
        minutes[change["minute"]] = {**change, "lags": {}}
    for prefix in (windows, rollouts):
        for (minute, stage), lag in lags_between(s.connection, prefix, organization, first, last).items():
            empty: Fields = {"minute": minute, "accepted": 0, "rejected": 0, "events": 0, "lags": {}}
            minutes.setdefault(minute, empty)["lags"][stage] = asdict(lag)
    return [minutes[minute] for minute in sorted(minutes)]


def last_minutes(count: int, until: datetime) -> tuple[str, str]:
    """The first and the last of `count` minutes; the last one contains `until`."""
    last = until.astimezone(UTC).replace(second=0, microsecond=0)
    first = last - timedelta(minutes=count - 1)
    return f"{first:%Y-%m-%dT%H:%M}:00Z", f"{last:%Y-%m-%dT%H:%M}:00Z"
