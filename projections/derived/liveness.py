"""The read model of liveness: whether a gateway's nodes send heartbeats, and since when.

The servers that proxies are connected to report each node every ten seconds. Missing heartbeats cause no
message, so the projector compares the nodes when one connects or leaves, and periodically
(`changed_liveness`), and publishes changes on the status topic. This read model keeps the last report.

The state shown for a gateway is computed from its current nodes (`present_liveness`); the report has the time
it began. After a start of Signalbox the nodes need a moment to reconnect. Until then no worse state is
reported, and a gateway that is worse than reported is awaited: it is unknown whether its nodes have left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    case,
    func,
    not_,
    or_,
    select,
)

from projections.databases.bulk import replace_rows
from projections.deliveries.deployment_facts import ObservedDeployment
from projections.deliveries.rows import heartbeat_deadline, silent_since
from projections.deliveries.tables import tables as deliveries_tables
from projections.memo import computed_once
from projections.read_transactions import ReadTransaction
from projections.readmodel import Recorded
from projections.shape import checked_data_of
from projections.store import as_dicts
from schemas.envelope import QualifiedName
from schemas.identity import timestamp
from schemas.status import LivenessReported, LivenessState

FORGET_NODES_AFTER_SECONDS = 600.0
"""A node that left, or sends no heartbeats, counts for this time, and then no more."""


@dataclass(frozen=True, slots=True)
class Liveness:
    """`heard`: the number of the `nodes` that are alive."""

    state: LivenessState
    nodes: int
    heard: int


@dataclass(frozen=True, slots=True)
class Observed:
    """The current nodes of a gateway. `lost`: when the last node was lost; `heard`: the time of the last
    heartbeat; `silent`: the number of nodes that are connected but send no heartbeats."""

    liveness: Liveness
    lost: str | None = None
    heard: str | None = None
    silent: int = 0

    def since(self, reported: Liveness | None) -> str | None:
        """The time the state, which differs from the reported one, began."""
        better = self.liveness.state == "healthy" or (
            reported is not None and not worse(self.liveness, reported)
        )
        return self.heard if better else self.lost


@dataclass(frozen=True, slots=True)
class Change:
    """A gateway's current liveness and the last reported one; `at`: when it changed, None if unknown."""

    now: Liveness
    reported: Liveness | None
    at: str | None = None
    silent: int = 0


_NOBODY = Observed(Liveness("offline", 0, 0))
_RANK = {"healthy": 0, "degraded": 1, "offline": 2}


def worse(one: Liveness, other: Liveness) -> bool:
    return _RANK[one.state] > _RANK[other.state]


def liveness(nodes: int, heard: int) -> Liveness:
    if heard == 0:
        return Liveness("offline", nodes, 0)
    return Liveness("healthy" if heard == nodes else "degraded", nodes, heard)


@computed_once(8)
def table(prefix: str) -> Table:
    return Table(
        f"{prefix}_liveness",
        MetaData(),
        Column("organization", String, primary_key=True),
        Column("gateway", String, primary_key=True),
        Column("state", String, nullable=False),
        Column("nodes", Integer, nullable=False),
        Column("heard", Integer, nullable=False),
        Column("since", String, nullable=False),
    )


class LivenessOfGateways:
    name = "liveness"
    version = 1
    topic = "status"

    def metadata(self, prefix: str) -> MetaData:
        return table(prefix).metadata

    def indexes(self, prefix: str) -> Sequence[Index]:
        return []

    def project(self, connection: Connection, prefix: str, records: Sequence[Recorded]) -> None:
        rows: dict[QualifiedName, dict[str, Any]] = {}
        for data in checked_data_of(LivenessReported, records):
            key = (data["organization"], data["name"])
            before = rows.get(key) or last_reported(connection, prefix, *key)
            same = before is not None and before["state"] == data["state"]
            rows[key] = {
                "organization": data["organization"],
                "gateway": data["name"],
                "state": data["state"],
                "nodes": data.get("nodes", 0),
                "heard": data.get("heard", 0),
                "since": before["since"] if before is not None and same else data["at"],
            }
        replace_rows(connection, table(prefix), [tuple(row.values()) for _, row in sorted(rows.items())])


def last_reported(
    connection: Connection, prefix: str, organization: str, gateway: str
) -> dict[str, Any] | None:
    """The last report on a gateway: state, nodes, heard, since."""
    t = table(prefix)
    wanted = select(t.c.state, t.c.nodes, t.c.heard, t.c.since)
    found = as_dicts(
        connection.execute(wanted.where(t.c.organization == organization, t.c.gateway == gateway))
    )
    return found[0] if found else None


def changed_liveness(
    connection: Connection, prefix: str, deliveries: str, now: float, *, heartbeats: bool = True
) -> dict[QualifiedName, Change]:
    """The gateways whose liveness differs from their last report.

    `prefix` and `deliveries` are the table prefixes of the two read models; `now` is seconds since 1970.
    Without `heartbeats` a node counts as alive for as long as it is connected.
    """
    reported = {
        (row.organization, row.gateway): Liveness(row.state, row.nodes, row.heard)
        for row in connection.execute(select(table(prefix)))
    }
    current = _observed(connection, deliveries, now, heartbeats=heartbeats)
    for key, before in reported.items():
        if before.nodes:
            current.setdefault(key, _NOBODY)
    return {
        key: Change(found.liveness, reported.get(key), found.since(reported.get(key)), found.silent)
        for key, found in current.items()
        if reported.get(key) != found.liveness
    }


def present_liveness(
    connection: Connection,
    prefix: str | None,
    deliveries: str,
    key: QualifiedName,
    now: float,
    *,
    heartbeats: bool = True,
) -> dict[str, Any] | None:
    """The liveness of a gateway: state, nodes, heard, since. None if no node ever connected, and while its
    nodes are awaited. `prefix` is None before the first run of the read model."""
    last = last_reported(connection, prefix, *key) if prefix is not None else None
    reported = Liveness(last["state"], last["nodes"], last["heard"]) if last is not None else None
    found = _observed(connection, deliveries, now, heartbeats=heartbeats, of=key).get(key)
    if found is None:
        if reported is None:
            return None
        found = _NOBODY
    current = found.liveness
    if reported is not None and worse(current, reported):
        return None
    same = last is not None and last["state"] == current.state
    since = last["since"] if last is not None and same else found.since(reported)
    return {"state": current.state, "nodes": current.nodes, "heard": current.heard, "since": since}


def with_awaited(
    s: ReadTransaction, organization: str, known: dict[str, ObservedDeployment]
) -> dict[str, ObservedDeployment]:
    """`known` (by deployment), with the gateways whose nodes are awaited."""
    prefix = s.prefixes.get("liveness")
    away = sorted({g for each in known.values() for g in each.deliveries if g not in each.nodes})
    if prefix is None or not away:
        return known
    t = table(prefix)
    reported = select(t.c.gateway).where(
        t.c.organization == organization, t.c.gateway.in_(away), t.c.state != "offline"
    )
    awaited = frozenset(s.connection.execute(reported).scalars())
    return {name: replace(each, awaited=awaited) for name, each in known.items()}


def _observed(
    connection: Connection, deliveries: str, now: float, *, heartbeats: bool, of: QualifiedName | None = None
) -> dict[QualifiedName, Observed]:
    """The nodes of each gateway that has any, or only of the gateway `of`."""
    nodes = deliveries_tables(deliveries).nodes.c
    heard = nodes.connected
    if heartbeats:
        heard = and_(heard, nodes.last_seen >= heartbeat_deadline(now))
    silent = and_(nodes.connected, not_(heard))
    wanted = (
        select(
            nodes.organization,
            nodes.gateway,
            func.count(),
            func.sum(case((heard, 1), else_=0)),
            func.sum(case((silent, 1), else_=0)),
            func.max(case((heard, nodes.last_seen))),
            func.max(case((silent, nodes.last_seen))),
            func.max(case((not_(nodes.connected), nodes.last_seen))),
        )
        .where(or_(nodes.last_seen >= timestamp(now - FORGET_NODES_AFTER_SECONDS), heard))
        .group_by(nodes.organization, nodes.gateway)
    )
    if of is not None:
        wanted = wanted.where(nodes.organization == of[0], nodes.gateway == of[1])
    found: dict[QualifiedName, Observed] = {}
    for organization, gateway, n, h, mute, heard_at, mute_at, left_at in connection.execute(wanted):
        lost = max((at for at in (left_at, mute_at and silent_since(mute_at)) if at), default=None)
        found[organization, gateway] = Observed(liveness(n, h), lost, heard_at, mute)
    return found
