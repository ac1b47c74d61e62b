"""What is live: the revision of each API that each gateway acknowledged last and has not withdrawn since."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, or_, select, tuple_

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
from projections.resources import queries as resources
from schemas.aggregates.deployment import DEPLOYMENT


@dataclass(frozen=True, slots=True)
class LiveRevision:
    """`nodes`: how many are connected, and how many of these have it; None for a moment in the past."""

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


def live_now(
    connection: Connection,
    deliveries: str,
    resource_prefix: str,
    question: LiveFilter,
    after: tuple[str, str],
    limit: int,
) -> list[LiveRevision]:
    """Up to `limit` entries after a gateway and API, by these."""
    t = tables(deliveries).apis
    wanted = _restricted(select(t).where(t.c.live != ""), t.c, question)
    found: list[LiveRevision] = []
    while len(found) < limit:
        page = wanted.where(tuple_(t.c.gateway, t.c.api) > after).limit(limit)
        rows = [ApiOnGateway(*row) for row in connection.execute(page)]
        found += _with_node_counts(connection, deliveries, resource_prefix, question, rows)
        if len(rows) < limit:
            break
        after = (rows[-1].gateway, rows[-1].api)
    return found[:limit]


def live_then(
    connection: Connection,
    deliveries: str,
    resource_prefix: str,
    question: LiveFilter,
    time: str,
    after: tuple[str, str],
    limit: int,
) -> list[LiveRevision]:
    """As `live_now`, at a time (RFC 3339)."""
    t = tables(deliveries).live
    valid = (t.c.since <= time, or_(t.c.until.is_(None), t.c.until > time))
    wanted = _restricted(select(t).where(*valid), t.c, question)
    found: list[LiveRevision] = []
    while len(found) < limit:
        page = wanted.where(tuple_(t.c.gateway, t.c.api) > after).limit(limit)
        rows = [Interval(*row) for row in connection.execute(page)]
        over = _stopped_intervals(connection, deliveries, resource_prefix, question, rows, time)
        found += [
            LiveRevision(i.gateway, i.api, i.revision, i.deployment, i.since, None)
            for i in rows
            if i.until is not None or (i.gateway, i.deployment) not in over
        ]
        if len(rows) < limit:
            break
        after = (rows[-1].gateway, rows[-1].api)
    return found[:limit]


def _restricted(wanted: Select[Any], c: Any, question: LiveFilter) -> Select[Any]:
    wanted = wanted.where(c.organization == question.organization)
    if question.gateways is not None:
        wanted = wanted.where(c.gateway.in_(question.gateways))
    if question.apis is not None:
        wanted = wanted.where(c.api.in_(question.apis))
    return wanted.order_by(c.gateway, c.api)


def _with_node_counts(
    connection: Connection,
    deliveries: str,
    resource_prefix: str,
    question: LiveFilter,
    rows: Sequence[ApiOnGateway],
) -> list[LiveRevision]:
    if not rows:
        return []
    organization = question.organization
    names = list({name for row in rows for name in (row.live, row.configured) if name})
    there = connected_nodes_of(
        connection, deliveries, organization, list({row.gateway for row in rows}), question.since
    )
    known = {(d.gateway, d.deployment): d for d in deliveries_of(connection, deliveries, organization, names)}
    reports = reports_of(connection, deliveries, organization, names)
    over = stop_events(connection, resource_prefix, organization, [(row.gateway, row.live) for row in rows])
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
    """The event that stopped what a gateway ran of an API."""

    position: int
    time: str


def stop_events(
    connection: Connection, prefix: str, organization: str, pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], StopEvent]:
    """Of gateways and deployments those where the deployment, or the last one that took over from it, was
    stopped. `prefix` is that of the resources."""
    found: dict[tuple[str, str], StopEvent] = {}
    followed = {pair: pair[1] for pair in pairs}
    seen: set[tuple[tuple[str, str], str]] = set()
    while followed:
        names = list(dict.fromkeys(followed.values()))
        rows = {r.name: r for r in resources.get_many(connection, prefix, DEPLOYMENT, organization, names)}
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


def _stopped_intervals(
    connection: Connection,
    deliveries: str,
    resource_prefix: str,
    question: LiveFilter,
    rows: Sequence[Interval],
    time: str,
) -> set[tuple[str, str]]:
    """Of open intervals those that ended when the API was stopped there: no node was there to withdraw it,
    or all that had it are gone."""
    organization = question.organization
    pairs = [(row.gateway, row.deployment) for row in rows if row.until is None]
    found = stop_events(connection, resource_prefix, organization, pairs)
    stopped = {pair: end for pair, end in found.items() if end.time <= time}
    if not stopped:
        return set()
    names = list({deployment for _, deployment in stopped})
    there = connected_nodes_of(connection, deliveries, organization, since=question.since)
    reports = reports_of(connection, deliveries, organization, names)
    known = {(d.gateway, d.deployment): d for d in deliveries_of(connection, deliveries, organization, names)}
    return {
        (gateway, deployment)
        for (gateway, deployment), end in stopped.items()
        if not nodes_still_holding(
            there.get(gateway, NO_NODES),
            known[gateway, deployment].position,
            reports.get(deployment, {}).get(gateway, NO_REPORTS),
            end.position,
        )
    }


def time_of(connection: Connection, prefix: str, organization: str, at: PointInTime) -> str | None:
    """The time that a moment in the past stands for; None for now, or before the first event."""
    if at == NOW:
        return None
    if isinstance(at.value, int):
        return resources.time_of(connection, prefix, organization, at.value) or ""
    return at.value
