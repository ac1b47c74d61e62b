"""The read model of liveness: whether a gateway's nodes send heartbeats, and since when.

The servers that proxies are connected to report each node every ten seconds. Silence is no message, so
the host of the read models compares the nodes now and then (`changed_liveness`), and publishes changes on
the status topic. This read model keeps the last report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    or_,
    select,
)

from projections.databases.dialect import dialect_of
from projections.deliveries.rows import heartbeat_deadline
from projections.deliveries.tables import tables as deliveries_tables
from projections.memo import computed_once
from projections.readmodel import Recorded
from projections.shape import checked_data, shapes
from projections.store import as_dicts
from schemas.identity import timestamp
from schemas.status import STATUSES, LivenessReported, LivenessState

_SHAPES = shapes(STATUSES)
_LIVENESS = LivenessReported.type()

FORGET_NODES_AFTER_SECONDS = 600.0
"""A node that left, or sends no heartbeats, counts for so long; then it is forgotten."""

Key = tuple[str, str]
"""Organization and gateway."""


@dataclass(frozen=True, slots=True)
class Liveness:
    """`heard` of `nodes`."""

    state: LivenessState
    nodes: int
    heard: int


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
        reported: dict[Key, list[dict[str, Any]]] = {}
        for record in records:
            data = checked_data(_SHAPES.get(record.envelope.type), record.envelope)
            if record.envelope.type == _LIVENESS:
                reported.setdefault((data["organization"], data["name"]), []).append(data)
        if not reported:
            return
        t = table(prefix)
        rows: list[dict[str, Any]] = []
        for (organization, gateway), changes in sorted(reported.items()):
            row: Mapping[str, Any] | None = last_reported(connection, prefix, organization, gateway)
            for data in changes:
                same = row is not None and row["state"] == data["state"]
                row = {
                    "organization": organization,
                    "gateway": gateway,
                    "state": data["state"],
                    "nodes": data.get("nodes", 0),
                    "heard": data.get("heard", 0),
                    "since": row["since"] if row is not None and same else data["at"],
                }
                rows.append(row)
        statement = dialect_of(connection).insert(t)
        last = {name: statement.excluded[name] for name in ("state", "nodes", "heard", "since")}
        statement = statement.on_conflict_do_update(index_elements=list(t.primary_key.columns), set_=last)
        connection.execute(statement, rows)


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
) -> dict[Key, tuple[Liveness, Liveness | None]]:
    """The gateways that differ from their last report: how they are, and that report.

    `prefix` and `deliveries` begin the tables of the two read models; `now` is seconds since 1970. Without
    `heartbeats` a node counts as alive for as long as it is connected.
    """
    reported = {
        (row.organization, row.gateway): Liveness(row.state, row.nodes, row.heard)
        for row in connection.execute(select(table(prefix)))
    }
    nodes = deliveries_tables(deliveries).nodes.c
    heard = nodes.connected
    if heartbeats:
        heard = and_(heard, nodes.last_seen >= heartbeat_deadline(now))
    counted = connection.execute(
        select(nodes.organization, nodes.gateway, func.count(), func.sum(case((heard, 1), else_=0)))
        .where(or_(nodes.last_seen >= timestamp(now - FORGET_NODES_AFTER_SECONDS), heard))
        .group_by(nodes.organization, nodes.gateway)
    )
    current = {(organization, gateway): liveness(n, h) for organization, gateway, n, h in counted}
    for key, before in reported.items():
        current.setdefault(key, liveness(0, 0) if before.nodes else before)
    return {key: (now_, reported.get(key)) for key, now_ in current.items() if reported.get(key) != now_}
