"""The live view: for each gateway and API, the revision acknowledged last and not withdrawn since."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Select, or_, select, tuple_

from projections.deliveries.connected_nodes import (
    NO_NODES,
    NO_REPORTS,
    nodes_serving_live,
    nodes_still_holding,
)
from projections.deliveries.queries import connected_nodes_of, deliveries_of, reports_of
from projections.deliveries.rows import ApiOnGateway, Interval
from projections.deliveries.tables import tables
from projections.pages import NOW, PointInTime
from projections.read_transactions import ReadTransaction
from projections.resources import queries as resources
from schemas.aggregates.deployment import DEPLOYMENT


@dataclass(frozen=True, slots=True)
class LiveRevision:
    """`nodes`: the numbers of nodes that are connected, and of those that have it; None for a past moment."""

    gateway: str
    api: str
    revision: int
    deployment: str
    since: str
    nodes: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class LiveFilter:
    """`gateways`, `apis`: only these, when given. `since`: nodes without a later heartbeat are left out."""

    organization: str
    gateways: Sequence[str] | None = None
    apis: Sequence[str] | None = None
    since: str | None = None


PAGE = 1000
"""Maximum number of rows per statement."""


def live(
    s: ReadTransaction, question: LiveFilter, time: str | None, after: tuple[str, str], limit: int | None
) -> Iterator[LiveRevision]:
    """Up to `limit` entries after a gateway and API, sorted by both; as of `time` (RFC 3339) or now."""
    of, size = tables(s.prefix("deliveries")), min(limit or PAGE, PAGE)
    if time is None:
        c, wanted = of.apis.c, select(of.apis).where(of.apis.c.live != "")
    else:
        c = of.live.c
        wanted = select(of.live).where(c.since <= time, or_(c.until.is_(None), c.until > time))
    wanted = _restricted(wanted, c, question).limit(size)
    left = limit
    while left is None or left > 0:
        rows = s.connection.execute(wanted.where(tuple_(c.gateway, c.api) > after)).all()
        if time is None:
            found = _with_node_counts(s, question, [ApiOnGateway(*row) for row in rows])
        else:
            found = _of_intervals(s, question, [Interval(*row) for row in rows], time)
        yield from found[:left]
        if len(rows) < size:
            return
        after = (rows[-1].gateway, rows[-1].api)
        left = None if left is None else left - len(found)


def _restricted(wanted: Select[Any], c: Any, question: LiveFilter) -> Select[Any]:
    wanted = wanted.where(c.organization == question.organization)
    if question.gateways is not None:
        wanted = wanted.where(c.gateway.in_(question.gateways))
    if question.apis is not None:
        wanted = wanted.where(c.api.in_(question.apis))
    return wanted.order_by(c.gateway, c.api)


def _with_node_counts(
    s: ReadTransaction, question: LiveFilter, rows: Sequence[ApiOnGateway]
) -> list[LiveRevision]:
    if not rows:
        return []
    organization = question.organization
    names = list({name for row in rows for name in (row.live, row.configured) if name})
    there = connected_nodes_of(s, organization, list({row.gateway for row in rows}), question.since)
    known = {(d.gateway, d.deployment): d for d in deliveries_of(s, organization, names)}
    reports = reports_of(s, organization, names)
    over = stop_events(s, organization, [(row.gateway, row.live) for row in rows])
    found: list[LiveRevision] = []
    for row in rows:
        present = there.get(row.gateway, NO_NODES)
        answers = reports.get(row.live, {}).get(row.gateway, NO_REPORTS)
        if (end := over.get((row.gateway, row.live))) is not None:
            having = nodes_still_holding(present, row.live_position, answers, end.position)
            if not having:
                continue
        else:
            next_ = known.get((row.gateway, row.configured)) if row.configured != row.live else None
            next_answers = reports.get(row.configured, {}).get(row.gateway, NO_REPORTS)
            having = nodes_serving_live(present, row, answers, next_, next_answers)
        counts = (present.count, having)
        found.append(LiveRevision(row.gateway, row.api, row.live_revision, row.live, row.since, counts))
    return found


class StopEvent(NamedTuple):
    """The event that stopped an API on a gateway."""

    position: int
    time: str


def stop_events(
    s: ReadTransaction, organization: str, pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], StopEvent]:
    """The stop events of those `pairs` (gateway, deployment) whose deployment, or its last successor, was
    stopped."""
    found: dict[tuple[str, str], StopEvent] = {}
    followed = {pair: pair[1] for pair in pairs}
    seen: set[tuple[tuple[str, str], str]] = set()
    while followed:
        names = list(dict.fromkeys(followed.values()))
        rows = {r.name: r for r in resources.get_many(s, DEPLOYMENT, organization, names)}
        seen.update(followed.items())
        next_: dict[tuple[str, str], str] = {}
        for pair, name in followed.items():
            row = rows.get(name)
            if row is None or pair[0] in row.document.get("gateways", ()):
                continue
            successor = row.document.get("by")
            if row.document.get("state") == "stopped" and pair[0] in row.document.get("left", ()):
                found[pair] = StopEvent(row.position, row.since)
            elif successor and (pair, successor) not in seen:
                next_[pair] = successor
        followed = next_
    return found


def _of_intervals(
    s: ReadTransaction, question: LiveFilter, rows: Sequence[Interval], time: str
) -> list[LiveRevision]:
    """Leaves out open intervals of APIs that were stopped there without a withdrawal: no node was connected,
    or all that had it have left."""
    organization = question.organization
    pairs = [(row.gateway, row.deployment) for row in rows if row.until is None]
    stopped = {pair: end for pair, end in stop_events(s, organization, pairs).items() if end.time <= time}
    over: set[tuple[str, str]] = set()
    if stopped:
        names = list({deployment for _, deployment in stopped})
        there = connected_nodes_of(s, organization, since=question.since)
        reports = reports_of(s, organization, names)
        known = {(d.gateway, d.deployment): d for d in deliveries_of(s, organization, names)}
        over = {
            (gateway, deployment)
            for (gateway, deployment), end in stopped.items()
            if not nodes_still_holding(
                there.get(gateway, NO_NODES),
                known[gateway, deployment].position,
                reports.get(deployment, {}).get(gateway, NO_REPORTS),
                end.position,
            )
        }
    return [
        LiveRevision(i.gateway, i.api, i.revision, i.deployment, i.since, None)
        for i in rows
        if i.until is not None or (i.gateway, i.deployment) not in over
    ]


def time_of(s: ReadTransaction, organization: str, at: PointInTime) -> str | None:
    """The RFC 3339 time of a moment in the past; None for now, empty before the first event."""
    if at == NOW:
        return None
    if isinstance(at.value, int):
        return resources.time_of(s, organization, at.value) or ""
    return at.value
