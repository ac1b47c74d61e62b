"""Queries on the observed state of gateways."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, and_, bindparam, func, select

from projections.databases.dialect import dialect_of
from projections.databases.port import Dialect
from projections.deliveries.connected_nodes import ConnectedNodes, Reports, connected_nodes
from projections.deliveries.deployment_facts import ObservedDeployment
from projections.deliveries.rows import ApiOnGateway, Delivery, Node, Report, silent_since
from projections.deliveries.tables import Tables, tables
from projections.memo import computed_once
from projections.pages import Row
from projections.read_transactions import ReadTransaction
from projections.store import as_dicts, rows_named, rows_of_names


def deliveries_of(s: ReadTransaction, organization: str, deployments: Sequence[str]) -> list[Delivery]:
    """What some deployments reached, on every gateway."""
    wanted = rows_of_names(_tables(s).deliveries, "deployment", dialect_of(s.connection))
    return [Delivery._make(row) for row in rows_named(s.connection, wanted, organization, deployments)]


def reports_of(
    s: ReadTransaction, organization: str, deployments: Sequence[str]
) -> dict[str, dict[str, dict[str, Report]]]:
    """What nodes answered to some deployments: by deployment, gateway and node."""
    found: dict[str, dict[str, dict[str, Report]]] = {}
    wanted = rows_of_names(_tables(s).reports, "deployment", dialect_of(s.connection))
    for row in rows_named(s.connection, wanted, organization, deployments):
        report = Report._make(row)
        found.setdefault(report.deployment, {}).setdefault(report.gateway, {})[report.node] = report
    return found


def apis_on_gateways(
    s: ReadTransaction, organization: str, deployments: Sequence[str]
) -> dict[tuple[str, str], ApiOnGateway]:
    """What the gateways of some deployments carry of the APIs of these: by gateway and API."""
    wanted = _apis_of_deployments(_tables(s), dialect_of(s.connection))
    rows = rows_named(s.connection, wanted, organization, deployments)
    return {(api.gateway, api.api): api for api in map(ApiOnGateway._make, rows)}


@computed_once(8)
def _apis_of_deployments(of: Tables, dialect: Dialect) -> Select[*tuple[Any, ...]]:
    d, a = of.deliveries.c, of.apis.c
    same = and_(a.organization == d.organization, a.gateway == d.gateway, a.api == d.api)
    wanted = select(of.apis).select_from(of.deliveries.join(of.apis, same))
    return wanted.where(d.organization == bindparam("organization"), dialect.is_in(d.deployment, "names"))


def connected_nodes_of(
    s: ReadTransaction, organization: str, gateways: Sequence[str] | None = None, since: str | None = None
) -> dict[str, ConnectedNodes]:
    """The connected nodes by gateway; with `since`, only those with a heartbeat since then."""
    t = _tables(s).nodes
    wanted = select(t).where(t.c.organization == organization, t.c.connected)
    if gateways is not None:
        wanted = wanted.where(t.c.gateway.in_(gateways))
    if since is not None:
        wanted = wanted.where(t.c.last_seen >= since)
    return connected_nodes(Node(*row) for row in s.connection.execute(wanted))


def observed_deployments(
    s: ReadTransaction, organization: str, rows: Iterable[Row], since: str | None = None
) -> dict[str, ObservedDeployment]:
    """The observed state of some deployments, by name, with as many statements as for one."""
    names = [row.name for row in rows]
    there = connected_nodes_of(s, organization, since=since)
    carried = apis_on_gateways(s, organization, names)
    reports = reports_of(s, organization, names)
    deliveries: dict[str, dict[str, Delivery]] = {name: {} for name in names}
    for delivery in deliveries_of(s, organization, names):
        deliveries[delivery.deployment][delivery.gateway] = delivery
    away = {gateway for found in deliveries.values() for gateway in found if gateway not in there}
    left = _left(s, organization, sorted(away)) if away else _NOT_LEFT
    return {
        name: ObservedDeployment(
            found,
            {g: c for g, d in found.items() if (c := carried.get((g, d.api))) is not None},
            there,
            reports.get(name, _NO_REPORTS),
            left=left,
        )
        for name, found in deliveries.items()
    }


_NO_REPORTS: Mapping[str, Reports] = {}
_NOT_LEFT: Mapping[str, str] = {}


def _left(s: ReadTransaction, organization: str, gateways: Sequence[str]) -> Mapping[str, str]:
    """The time the last node left, by gateway, for gateways that had nodes and have none connected."""
    t = _tables(s).nodes
    wanted = (
        select(t.c.gateway, t.c.connected, func.max(t.c.last_seen))
        .where(t.c.organization == organization, t.c.gateway.in_(gateways))
        .group_by(t.c.gateway, t.c.connected)
    )
    left: dict[str, str] = {}
    for gateway, silent, last_seen in s.connection.execute(wanted):
        at = silent_since(last_seen) if silent else last_seen
        left[gateway] = max(at, left.get(gateway, ""))
    return left


def nodes_of(
    s: ReadTransaction, organization: str, gateway: str, since: str | None = None
) -> list[dict[str, Any]]:
    """The nodes of a gateway by name. With `since`, one without a heartbeat since then is not connected."""
    t = _tables(s).nodes
    wanted = select(t).where(t.c.organization == organization, t.c.gateway == gateway).order_by(t.c.node)
    found = as_dicts(s.connection.execute(wanted))
    return [
        {**n, "connected": bool(n["connected"]) and (since is None or n["last_seen"] >= since)} for n in found
    ]


def connected_counts(
    s: ReadTransaction, organization: str, gateways: Sequence[str], since: str | None = None
) -> dict[str, int]:
    """The number of connected nodes of each gateway."""
    t = _tables(s).nodes
    wanted = select(t.c.gateway, func.count()).where(
        t.c.organization == organization, t.c.gateway.in_(gateways), t.c.connected
    )
    if since is not None:
        wanted = wanted.where(t.c.last_seen >= since)
    counts = dict.fromkeys(gateways, 0)
    counts.update((gateway, count) for gateway, count in s.connection.execute(wanted.group_by(t.c.gateway)))
    return counts


def _tables(s: ReadTransaction) -> Tables:
    return tables(s.prefix("deliveries"))
