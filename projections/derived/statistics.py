"""Questions about what is derived: the state of rollouts and gateways as it was told, and what was counted.

Where nobody keeps these read models, as on the embedded engine, the answer is None.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from projections.derived.liveness import last_reported as liveness_told
from projections.derived.rollouts import TIMES
from projections.derived.rollouts import last_reported as rollouts_told
from projections.derived.windows import changes_between, lags_between
from projections.queries import ReadTransaction

Fields = dict[str, Any]


def liveness_in(s: ReadTransaction, organization: str, gateway: str) -> Fields | None:
    """state, nodes, heard, since; None when nothing was told of the gateway."""
    prefix = s.prefixes.get("liveness")
    return None if prefix is None else liveness_told(s.connection, prefix, organization, gateway)


def rollouts_in(
    s: ReadTransaction, organization: str, deployments: Sequence[str]
) -> dict[str, Fields] | None:
    """By name: state, nodes, reached, reason, since. What nothing was told of is left out."""
    prefix = s.prefixes.get("rollouts")
    if prefix is None:
        return None
    hidden = {"organization", "deployment", *TIMES}
    told = rollouts_told(s.connection, prefix, organization, deployments)
    return {name: {f: v for f, v in row.items() if f not in hidden} for name, row in told.items()}


def statistics_in(s: ReadTransaction, organization: str, first: str, last: str) -> list[Fields] | None:
    """Per minute in which something happened, from `first` to `last`: minute, accepted, rejected, events, and
    `lags` by stage (count; mean, p50 and p99 in seconds)."""
    windows, rollouts = s.prefixes.get("windows"), s.prefixes.get("rollouts")
    if windows is None or rollouts is None:
        return None
    minutes: dict[str, Fields] = {}
    for change in changes_between(s.connection, windows, organization, first, last):
        minutes[change["minute"]] = {**change, "lags": {}}
    for prefix in (windows, rollouts):
        for (minute, stage), lag in lags_between(s.connection, prefix, organization, first, last).items():
            empty: Fields = {"minute": minute, "accepted": 0, "rejected": 0, "events": 0, "lags": {}}
            minutes.setdefault(minute, empty)["lags"][stage] = asdict(lag)
    return [minutes[minute] for minute in sorted(minutes)]


def last_minutes(count: int, until: datetime) -> tuple[str, str]:
    """The first and the last of `count` minutes, of which `until` is in the last."""
    last = until.astimezone(UTC).replace(second=0, microsecond=0)
    first = last - timedelta(minutes=count - 1)
    return f"{first:%Y-%m-%dT%H:%M}:00Z", f"{last:%Y-%m-%dT%H:%M}:00Z"
