"""The read model of deliveries: how far each deployment has come on each node, and the nodes themselves.

Status is folded to its first and last occurrence: however often a node reports, it has one row per
deployment and fact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    MetaData,
    String,
    Table,
    select,
)

from projections.bulk import Existing, Values, put
from projections.memo import computed_once
from projections.readmodel import Recorded
from projections.shape import checked, shapes
from projections.store import as_dicts
from schemas.status import STATUSES, DeliveryReported, NodeReported

_SHAPES = shapes(STATUSES)
_DELIVERY = DeliveryReported.type()
_NODE = NodeReported.type()
_REPORTED = Existing(replaced=("last_at", "position", "version", "reason"))
_SEEN = Existing(replaced=("connected", "last_seen"), named=("agent",))  # a farewell names no agent


@dataclass(frozen=True, slots=True)
class Tables:
    metadata: MetaData
    deliveries: Table
    nodes: Table


@computed_once(8)
def tables(prefix: str) -> Tables:
    metadata = MetaData()
    return Tables(
        metadata,
        deliveries=Table(
            f"{prefix}_deliveries",
            metadata,
            Column("organization", String, primary_key=True),
            Column("deployment", String, primary_key=True),
            Column("gateway", String, primary_key=True),
            Column("node", String, primary_key=True),
            Column("fact", String, primary_key=True),
            Column("first_at", String, nullable=False),
            Column("last_at", String, nullable=False),
            Column("position", BigInteger, nullable=False),  # of the last occurrence: the order of facts
            Column("version", String, nullable=False),
            Column("reason", String, nullable=False),
        ),
        nodes=Table(
            f"{prefix}_nodes",
            metadata,
            Column("organization", String, primary_key=True),
            Column("gateway", String, primary_key=True),
            Column("node", String, primary_key=True),
            Column("connected", Boolean, nullable=False),
            Column("agent", String, nullable=False),
            Column("first_seen", String, nullable=False),
            Column("last_seen", String, nullable=False),
        ),
    )


class Deliveries:
    name = "deliveries"
    version = 1
    topic = "status"

    def metadata(self, prefix: str) -> MetaData:
        return tables(prefix).metadata

    def indexes(self, prefix: str) -> Sequence[Index]:
        return []

    def project(self, connection: Connection, prefix: str, records: Sequence[Recorded]) -> None:
        deliveries: dict[tuple[str, ...], dict[str, Any]] = {}
        nodes: dict[tuple[str, ...], dict[str, Any]] = {}
        for record in records:
            data = checked(_SHAPES.get(record.envelope.type), record.envelope)
            if record.envelope.type == _DELIVERY:
                _delivery(deliveries, data, record.position)
            elif record.envelope.type == _NODE:
                _node(nodes, data)
        of = tables(prefix)
        put(connection, of.deliveries, _values(of.deliveries, deliveries), _REPORTED)
        put(connection, of.nodes, _values(of.nodes, nodes), _SEEN)


def _values(table: Table, rows: dict[tuple[str, ...], dict[str, Any]]) -> list[Values]:
    names = table.columns.keys()
    return [tuple([row[name] for name in names]) for row in rows.values()]


def _delivery(rows: dict[tuple[str, ...], dict[str, Any]], data: dict[str, Any], position: int) -> None:
    node = data.get("node", "*")
    key = (data["organization"], data["deployment"], data["name"], node, data["fact"])
    before = rows.get(key)
    rows[key] = {
        "organization": data["organization"],
        "deployment": data["deployment"],
        "gateway": data["name"],
        "node": node,
        "fact": data["fact"],
        "first_at": before["first_at"] if before else data["at"],
        "last_at": data["at"],
        "position": position,
        "version": data.get("version", ""),
        "reason": data.get("reason", ""),
    }


def _node(rows: dict[tuple[str, ...], dict[str, Any]], data: dict[str, Any]) -> None:
    key = (data["organization"], data["name"], data["node"])
    before = rows.get(key)
    rows[key] = {
        "organization": data["organization"],
        "gateway": data["name"],
        "node": data["node"],
        "connected": data["connected"],
        "agent": data.get("agent", "") or (before["agent"] if before else ""),
        "first_seen": before["first_seen"] if before else data["at"],
        "last_seen": data["at"],
    }


def deliveries_of(
    connection: Connection, prefix: str, organization: str, deployments: Sequence[str]
) -> list[dict[str, Any]]:
    """All facts of some deployments, in the order they were last reported."""
    t = tables(prefix).deliveries
    wanted = select(t).where(t.c.organization == organization, t.c.deployment.in_(deployments))
    return as_dicts(connection.execute(wanted.order_by(t.c.position)))


def nodes_of(
    connection: Connection, prefix: str, organization: str, gateway: str | None = None
) -> list[dict[str, Any]]:
    """The nodes of one gateway, or of all gateways of an organization, by name."""
    t = tables(prefix).nodes
    wanted = select(t).where(t.c.organization == organization)
    if gateway is not None:
        wanted = wanted.where(t.c.gateway == gateway)
    return as_dicts(connection.execute(wanted.order_by(t.c.gateway, t.c.node)))
