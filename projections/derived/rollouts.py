"""The read model of rollouts: one state per deployment, and how long each stage took.

`rollout` computes one state from the reports of many nodes in the other read models; the projector publishes
it on the status topic when it changes. This read model keeps the state that was published last. The duration
of each stage is counted once, in the minute in which the stage was reached first.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    exists,
    not_,
    or_,
    select,
)

from projections.databases.bulk import replace_rows
from projections.databases.dialect import dialect_of
from projections.deliveries.deployment_facts import ObservedDeployment, facts
from projections.deliveries.tables import tables as deliveries_tables
from projections.derived.liveness import table as liveness_table
from projections.derived.windows import LagCounts, lag_table
from projections.memo import computed_once
from projections.pages import Row
from projections.readmodel import Recorded
from projections.resources.tables import tables as resource_tables
from projections.shape import checked_data_of
from projections.store import rows_named, rows_of_names
from schemas.aggregates.deployment import DEPLOYMENT
from schemas.envelope import QualifiedName
from schemas.status import RolloutReported

TIMES = ("requested_at", "decided_at", "published_at", "acknowledged_at", "serving_at")
STAGES: Mapping[str, tuple[str, str]] = {
    "published": ("decided_at", "published_at"),
    "acknowledged": ("published_at", "acknowledged_at"),
    "serving": ("acknowledged_at", "serving_at"),
    "total": ("requested_at", "serving_at"),
}
"""The start and the end of each duration that is counted."""
ENDED = "stopped"
UNSETTLED = ("pending", "rolling-out", "refused", "partly-refused", "offline", "stopping")
"""States that a `schemas.status.NodeReported` may change."""


@computed_once(8)
def table(prefix: str) -> Table:
    return Table(
        f"{prefix}_rollouts",
        MetaData(),
        Column("organization", String, primary_key=True),
        Column("deployment", String, primary_key=True),
        Column("state", String, nullable=False),
        Column("nodes", Integer, nullable=False),
        Column("reached", Integer, nullable=False),
        Column("reason", String, nullable=False),
        Column("since", String, nullable=False),
        *(Column(time, String, nullable=False) for time in TIMES),
    )


class Rollouts:
    name = "rollouts"
    version = 1
    topic = "status"

    def metadata(self, prefix: str) -> MetaData:
        return _metadata(prefix)

    def indexes(self, prefix: str) -> Sequence[Index]:
        t = _metadata(prefix).tables[f"{prefix}_rollouts"]
        return [Index(f"{t.name}_open", t.c.state, t.c.organization)]

    def project(self, connection: Connection, prefix: str, records: Sequence[Recorded]) -> None:
        reported = list(checked_data_of(RolloutReported, records))
        names: dict[str, set[str]] = {}
        for data in reported:
            names.setdefault(data["organization"], set()).add(data["name"])
        rows = {
            (organization, name): row
            for organization, wanted in names.items()
            for name, row in last_reported(connection, prefix, organization, sorted(wanted)).items()
        }
        lags = LagCounts()
        for data in reported:
            key = (data["organization"], data["name"])
            before = rows.get(key)
            rows[key] = _after(before, data)
            for stage, (began, ended) in STAGES.items():
                counted = before is not None and before[began] and before[ended]
                if not counted and rows[key][began] and rows[key][ended]:
                    lags.add(key[0], stage, rows[key][began], rows[key][ended])
        replace_rows(connection, table(prefix), [tuple(row.values()) for _, row in sorted(rows.items())])
        lags.write(connection, lag_table(prefix))


@computed_once(8)
def _metadata(prefix: str) -> MetaData:
    metadata = MetaData()
    for t in (table(prefix), lag_table(prefix)):
        t.to_metadata(metadata)
    return metadata


def _after(before: Mapping[str, Any] | None, data: Mapping[str, Any]) -> dict[str, Any]:
    """The row after a report: times keep their first values; `since` is when the current state began."""
    same = before is not None and before["state"] == data["state"]
    return {
        "organization": data["organization"],
        "deployment": data["name"],
        "state": data["state"],
        "nodes": data.get("nodes", 0),
        "reached": data.get("reached", 0),
        "reason": data.get("reason", ""),
        "since": before["since"] if before is not None and same else data["at"],
        **{t: (before[t] if before is not None else "") or data.get(t, "") for t in TIMES},
    }


def last_reported(
    connection: Connection, prefix: str, organization: str, deployments: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The last reports of some deployments, by name: state, nodes, reached, reason, since, the times."""
    t = table(prefix)
    wanted = rows_of_names(t, "deployment", dialect_of(connection))
    rows = rows_named(connection, wanted, organization, deployments)
    return {row.deployment: dict(zip(t.c.keys(), row, strict=True)) for row in rows}


def in_force(connection: Connection, prefix: str) -> list[QualifiedName]:
    """Deployments that have not ended, by their last reports."""
    t = table(prefix)
    rows = connection.execute(select(t.c.organization, t.c.deployment).where(t.c.state != ENDED))
    return [(organization, deployment) for organization, deployment in rows]


def unsettled(
    connection: Connection, prefix: str, resources: str, organizations: Sequence[str]
) -> list[QualifiedName]:
    """Deployments in force that have no report, or an unsettled state in their last one."""
    t, v = table(prefix), resource_tables(resources).of[DEPLOYMENT.name].versions
    reported = and_(t.c.organization == v.c.organization, t.c.deployment == v.c.name)
    wanted = (
        select(v.c.organization, v.c.name)
        .select_from(v.outerjoin(t, reported))
        .where(v.c.organization.in_(organizations), v.c.valid_to.is_(None), v.c.document.is_not(None))
        .where(or_(t.c.state.in_(UNSETTLED), and_(t.c.state.is_(None), active(v))))
    )
    return [(organization, deployment) for organization, deployment in connection.execute(wanted)]


def outdated(
    connection: Connection, prefix: str, resources: str, deliveries: str, liveness: str | None
) -> list[QualifiedName]:
    """Deployments whose last report may be outdated: it is missing or unsettled, a fact is newer, or their
    gateway was reported offline since. One query finds them, without computing the states of the others."""
    t, v = table(prefix), resource_tables(resources).of[DEPLOYMENT.name].versions
    d = deliveries_tables(deliveries).deliveries
    newer = or_(
        d.c.rejected,
        d.c.refused_at.is_not(None),
        d.c.withdrawn_at.is_not(None),
        d.c.acknowledged_last > t.c.acknowledged_at,
        and_(d.c.serving_at.is_not(None), t.c.serving_at == ""),
    )
    if liveness is not None:
        g = liveness_table(liveness).c
        gone = exists().where(
            g.organization == d.c.organization, g.gateway == d.c.gateway, g.state == "offline"
        )
        newer = or_(newer, gone)
    fact = exists().where(d.c.organization == t.c.organization, d.c.deployment == t.c.deployment, newer)
    reported = and_(t.c.organization == v.c.organization, t.c.deployment == v.c.name)
    current = and_(v.c.valid_to.is_(None), v.c.document.is_not(None))
    in_force = (
        select(v.c.organization, v.c.name)
        .select_from(v.outerjoin(t, reported))
        .where(current, active(v), or_(t.c.state.is_(None), t.c.state.in_((*UNSETTLED, ENDED)), fact))
    )
    ended = (
        select(t.c.organization, t.c.deployment)
        .select_from(t.join(v, and_(reported, current)))
        .where(t.c.state != ENDED, not_(active(v)))
    )
    rows = (row for wanted in (in_force, ended) for row in connection.execute(wanted))
    return [(organization, deployment) for organization, deployment in rows]


def active(versions: Table) -> ColumnElement[bool]:
    """Whether a version of a deployment is in force."""
    return versions.c.document["state"].as_string() == "active"


def rollout(row: Row, known: ObservedDeployment) -> dict[str, Any]:
    """The state of one deployment: the fields of `schemas.status.RolloutReported` that describe it."""
    found = facts(row, known, nodes=False)
    state = rollout_state(found, row.document.get("gateways") or ())
    return {**state, **{time: found["facts"][time.removesuffix("_at")] or "" for time in TIMES}}


def rollout_state(found: Mapping[str, Any], gateways: Iterable[str]) -> dict[str, Any]:
    """state, nodes, reached and reason, from the facts of a deployment that is in force on `gateways`."""
    targets = [found["gateways"][gateway] for gateway in gateways]
    reached = sum(target["acknowledged"] for target in targets)
    state = found["state"]
    return {
        "state": "rolling-out" if state == "pending" and reached else state,
        "nodes": sum(target["connected"] for target in targets),
        "reached": reached,
        "reason": found["refusals"][0]["reason"] if state in ("refused", "partly-refused") else "",
    }


def awaits_nodes(row: Row, known: ObservedDeployment) -> bool:
    """Whether a deployment in force is on a gateway whose nodes are awaited: its state is not known yet."""
    return bool(known.awaited.intersection(row.document.get("gateways") or ()))


def differs(reported: Mapping[str, Any] | None, now: Mapping[str, Any]) -> bool:
    """Whether the state must be published. A deployment without a report is pending."""
    if reported is None:
        return now["state"] != "pending"
    if any(reported[name] != now[name] for name in ("state", "nodes", "reached", "reason")):
        return True
    return any(now[t] and not reported[t] for t in TIMES)
