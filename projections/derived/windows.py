"""The read model of counts per minute: accepted and rejected commands, their events, and durations.

A record counts in the minute of its own time, however late it arrives. Durations are kept in fixed buckets,
each a fifth wider than the one before, so that windows can be added and a percentile is exact to one bucket.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil, log2
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, MetaData, String, Table, select

from projections.databases.dialect import dialect_of
from projections.databases.port import Dialect
from projections.memo import computed_once
from projections.readmodel import Recorded, Unprojectable
from projections.shape import checked_data, shape_of
from projections.store import as_dicts
from schemas.identity import utc
from schemas.outcome import Outcome

_SHAPE = shape_of(Outcome)

SMALLEST = 0.0001
"""Seconds: the upper bound of the first bucket."""
PER_DOUBLING = 4
LAST = 28 * PER_DOUBLING
"""The last bucket: seven hours, and all longer durations."""

LONGEST = 31 * 24 * 3600.0
"""Seconds: longer durations count as this long. Clients set the start, and the sum must fit its column."""

LagKey = tuple[str, str, str, int]
"""Organization, minute, stage, bucket."""


def minute_of(time: str) -> str:
    """The minute of an RFC 3339 time, such as `2026-01-31T09:00:00Z`. Raises Unprojectable."""
    return f"{_parsed(time).isoformat(timespec='minutes')[:16]}:00Z"


def seconds_between(earlier: str, later: str) -> float:
    """Never negative, also when the clocks of two machines differ. Raises Unprojectable."""
    return max(0.0, (_parsed(later) - _parsed(earlier)).total_seconds())


@lru_cache(maxsize=1024)  # the messages of a transaction share their times
def _parsed(time: str) -> datetime:
    try:
        at = datetime.fromisoformat(time)
        if at.tzinfo is None:
            raise Unprojectable(f"{time!r} has no time zone")
        return at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Unprojectable(f"{time!r} is not a time") from error


def bucket_of(seconds: float) -> int:
    return 0 if seconds <= SMALLEST else min(LAST, ceil(PER_DOUBLING * log2(seconds / SMALLEST)))


def bound_of(bucket: int) -> float:
    """The upper bound of a bucket in seconds; the last bucket also has longer durations."""
    return SMALLEST * 2 ** (bucket / PER_DOUBLING)


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """Seconds that `share` of all durations do not exceed; `counts` by bucket; None if there are none."""
    rank = ceil(share * sum(counts.values()))
    for bucket in sorted(counts):
        rank -= counts[bucket]
        if rank <= 0:
            return bound_of(bucket)
    return None


@computed_once(16)
def lag_table(prefix: str) -> Table:
    """The durations per stage; read models of the status and outcomes topics each have such a table."""
    return Table(
        f"{prefix}_lags",
        MetaData(),
        Column("organization", String, primary_key=True),
        Column("minute", String, primary_key=True),
        Column("stage", String, primary_key=True),
        Column("bucket", Integer, primary_key=True),
        Column("count", BigInteger, nullable=False),
        Column("microseconds", BigInteger, nullable=False),
    )


@computed_once(16)
def change_table(prefix: str) -> Table:
    return Table(
        f"{prefix}_changes",
        MetaData(),
        Column("organization", String, primary_key=True),
        Column("minute", String, primary_key=True),
        Column("accepted", BigInteger, nullable=False),
        Column("rejected", BigInteger, nullable=False),
        Column("events", BigInteger, nullable=False),
    )


class LagCounts:
    """Durations of one batch, to be added to a table."""

    def __init__(self) -> None:
        self._counts: dict[LagKey, tuple[int, int]] = {}

    def add(self, organization: str, stage: str, began: str, ended: str) -> None:
        """Adds a duration to the minute in which it ended. Raises Unprojectable."""
        seconds = min(seconds_between(began, ended), LONGEST)
        key = (organization, minute_of(ended), stage, bucket_of(seconds))
        count, total = self._counts.get(key, (0, 0))
        self._counts[key] = (count + 1, total + round(seconds * 1_000_000))

    def write(self, connection: Connection, table: Table) -> None:
        rows = [
            {
                "organization": organization,
                "minute": minute,
                "stage": stage,
                "bucket": bucket,
                "count": count,
                "microseconds": total,
            }
            for (organization, minute, stage, bucket), (count, total) in sorted(self._counts.items())
        ]
        add_to_counts(connection, table, rows, ("count", "microseconds"))


def add_to_counts(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], counters: Iterable[str]
) -> None:
    """Adds the counters of `rows` (one row per key) to those in the table."""
    if rows:
        connection.execute(_adding(dialect_of(connection), table, tuple(counters)), rows)


@computed_once(64)
def _adding(dialect: Dialect, table: Table, counters: tuple[str, ...]) -> Any:
    statement = dialect.insert(table)
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={name: table.c[name] + statement.excluded[name] for name in counters},
    )


class Windows:
    name = "windows"
    version = 1
    topic = "outcomes"

    def metadata(self, prefix: str) -> MetaData:
        return _metadata(prefix)

    def indexes(self, prefix: str) -> Sequence[Index]:
        return []

    def project(self, connection: Connection, prefix: str, records: Sequence[Recorded]) -> None:
        changes: dict[tuple[str, str], dict[str, Any]] = {}
        lags = LagCounts()
        for record in records:
            known = record.envelope.type == Outcome.type()
            data = checked_data(_SHAPE if known else None, record.envelope)
            organization, decided = data["organization"], data["decided_at"]
            if utc(data["requested_at"]):  # empty in old outcomes of commands without a time
                lags.add(organization, "decided", data["requested_at"], decided)
            key = (organization, minute_of(decided))
            row = changes.setdefault(
                key,
                {"organization": key[0], "minute": key[1], "accepted": 0, "rejected": 0, "events": 0},
            )
            row["accepted" if data["accepted"] else "rejected"] += 1
            row["events"] += data.get("events", 0)
        rows = [row for _, row in sorted(changes.items())]
        add_to_counts(connection, change_table(prefix), rows, ("accepted", "rejected", "events"))
        lags.write(connection, lag_table(prefix))


@computed_once(16)
def _metadata(prefix: str) -> MetaData:
    metadata = MetaData()
    for table in (change_table(prefix), lag_table(prefix)):
        table.to_metadata(metadata)
    return metadata


@dataclass(frozen=True, slots=True)
class Lag:
    """Durations in seconds. `p50` and `p99` are upper bounds of their buckets."""

    count: int
    mean: float
    p50: float
    p99: float


def changes_between(
    connection: Connection, prefix: str, organization: str, first: str, last: str
) -> list[dict[str, Any]]:
    """The minutes with any, from `first` to `last` (both included): minute, accepted, rejected, events."""
    t = change_table(prefix)
    wanted = select(t.c.minute, t.c.accepted, t.c.rejected, t.c.events).where(
        t.c.organization == organization, t.c.minute.between(first, last)
    )
    return as_dicts(connection.execute(wanted.order_by(t.c.minute)))


def lags_between(
    connection: Connection, prefix: str, organization: str, first: str, last: str
) -> dict[tuple[str, str], Lag]:
    """The durations by minute and stage, from `first` to `last` (both included)."""
    t = lag_table(prefix)
    wanted = select(t.c.minute, t.c.stage, t.c.bucket, t.c.count, t.c.microseconds).where(
        t.c.organization == organization, t.c.minute.between(first, last)
    )
    counts: dict[tuple[str, str], dict[int, int]] = {}
    totals: dict[tuple[str, str], int] = {}
    for minute, stage, bucket, count, microseconds in connection.execute(wanted):
        counts.setdefault((minute, stage), {})[bucket] = count
        totals[minute, stage] = totals.get((minute, stage), 0) + microseconds
    return {key: _lag(of, totals[key]) for key, of in counts.items()}


def _lag(counts: Mapping[int, int], microseconds: int) -> Lag:
    count = sum(counts.values())
    return Lag(
        count,
        microseconds / count / 1_000_000,
        percentile(counts, 0.5) or 0.0,
        percentile(counts, 0.99) or 0.0,
    )
