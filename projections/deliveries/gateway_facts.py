"""The deployments that each node of a gateway runs, compared with those in force there.

A node has no version of its own: versions are content hashes per resource. The facts are how many of
the deployments in force on the gateway each connected node acknowledged, refused, or has not answered yet.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CTE, Select, String, and_, bindparam, cast, select

from projections.deliveries.queries import connected_nodes_of
from projections.deliveries.rows import WHOLE_GATEWAY, covers
from projections.deliveries.tables import tables as deliveries_tables
from projections.memo import computed_once
from projections.read_transactions import ReadTransaction
from projections.resources.tables import tables as resource_tables
from schemas.aggregates.deployment import DEPLOYMENT

MOST_REFUSALS = 20


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """`desired`: deployments in force on the gateway. `withheld`: those of them that no connected node
    refused, but the gateway as a whole does: no node is offered them. `nodes`: connected node ->
    `{acknowledged, refused, pending, withheld}`, the numbers of those it has, refused, has not answered, or
    is not offered; together these are `desired`.

    `refused`: the number of those that a connected node or the gateway as a whole refuses, or that a node
    refused that has left, while no node acknowledged it. `refusals`: the newest `MOST_REFUSALS` of them, as
    `{deployment, api, revision, reason, at, nodes, refused_by, withheld}`, newest first; `nodes` is the
    number of connected nodes that refuse it; `refused_by` is the node that refused it last, or `*` for the
    gateway as a whole; `withheld`: whether it is one of those above.
    """

    desired: int
    withheld: int
    nodes: Mapping[str, Mapping[str, int]]
    refused: int
    refusals: Sequence[Mapping[str, Any]]


def gateway_facts(
    s: ReadTransaction, organization: str, gateway: str, since: str | None = None
) -> GatewayFacts:
    """The facts of a gateway. With `since`, nodes without a heartbeat since then do not count."""
    prefixes = (s.prefix("resources"), s.prefix("deliveries"))
    asked = {"organization": organization, "gateway": gateway}
    desired = 0
    positions: list[int] = []
    refusals: dict[str, dict[str, Any]] = {}
    taken_back = 0
    for row in s.connection.execute(_deployments(*prefixes, gateway), asked):
        desired += 1
        back = _rolled_back(row)
        if row.rejected:  # also if the node that refused it has left before gateway sync decided
            refusals[row.name] = {
                **_revision_of(row),
                "reason": row.reason,
                "at": row.refused_last or "",
                "nodes": 0,
                "refused_by": row.refused_by or WHOLE_GATEWAY,
                "withheld": back,
            }
        if back:
            taken_back += 1
        elif row.position is not None and row.configured in (None, "", row.name):
            positions.append(row.position)
    positions.sort()
    there = connected_nodes_of(s, organization, [gateway], since).get(gateway)
    nodes: dict[str, dict[str, int]] = {}
    if there is not None:
        for name, node in there.nodes.items():
            up_to = bisect_right(positions, node.acknowledged) if node.acknowledged else 0
            nodes[name] = {"acknowledged": up_to, "refused": 0, "pending": desired - taken_back - up_to}
        for row in s.connection.execute(_reports(*prefixes, gateway), asked):
            node = there.nodes.get(row.node)
            if node is None:
                continue
            counts = nodes[row.node]
            back = _rolled_back(row)
            covered = covers(node.acknowledged, row.position) and not back
            counts["acknowledged"] += (row.state == "acknowledged") - covered
            if not back:
                counts["pending"] += covered - (row.state in ("acknowledged", "refused"))
            if row.state == "refused":
                counts["refused"] += 1
                unknown = {**_revision_of(row), "reason": "", "at": "", "nodes": 0, "withheld": False}
                known = refusals.setdefault(row.name, unknown)
                known["nodes"] += 1
                # The report of a connected node outweighs that of one that has left.
                if row.last_at >= known["at"] or (known["nodes"] == 1 and not back):
                    known.update(reason=row.reason, at=row.last_at, refused_by=row.node)
                known["withheld"] = False
        for counts in nodes.values():
            counts["withheld"] = desired - sum(counts.values())
    newest = sorted(refusals.values(), key=lambda r: (r["at"], r["deployment"]), reverse=True)
    withheld = sum(refusal["withheld"] for refusal in refusals.values())
    return GatewayFacts(desired, withheld, nodes, len(refusals), newest[:MOST_REFUSALS])


def _rolled_back(row: Any) -> bool:
    """As `projections.deliveries.rows.rolled_back`."""
    return row.rejected and row.configured != row.name


def _revision_of(row: Any) -> dict[str, Any]:
    return {"deployment": row.name, "api": row.api, "revision": row.revision}


@computed_once(64)
def _deployments(resources: str, deliveries: str, gateway: str) -> Select[*tuple[Any, ...]]:
    """The deployments in force on the gateway, with their delivery there."""
    here, of = _in_force(resources, gateway), deliveries_tables(deliveries)
    d, a = of.deliveries.c, of.apis.c
    about = and_(
        d.organization == here.c.organization, d.deployment == here.c.name, d.gateway == bindparam("gateway")
    )
    same = and_(a.organization == d.organization, a.gateway == d.gateway, a.api == d.api)
    columns = (here.c.name, here.c.api, here.c.revision, d.position, d.rejected, d.reason)
    return select(*columns, d.refused_last, d.refused_by, a.configured).select_from(
        here.outerjoin(of.deliveries, about).outerjoin(of.apis, same)
    )


@computed_once(64)
def _reports(resources: str, deliveries: str, gateway: str) -> Select[*tuple[Any, ...]]:
    """The nodes' reports on the deployments in force on the gateway."""
    here, of = _in_force(resources, gateway), deliveries_tables(deliveries)
    d, r, a = of.deliveries.c, of.reports.c, of.apis.c
    reported = and_(
        r.organization == here.c.organization, r.deployment == here.c.name, r.gateway == bindparam("gateway")
    )
    about = and_(d.organization == r.organization, d.deployment == r.deployment, d.gateway == r.gateway)
    same = and_(a.organization == d.organization, a.gateway == d.gateway, a.api == d.api)
    columns = (here.c.name, here.c.api, here.c.revision, d.position, d.rejected, a.configured)
    return select(*columns, r.node, r.state, r.reason, r.last_at).select_from(
        here.join(of.reports, reported).join(of.deliveries, about).outerjoin(of.apis, same)
    )


def _in_force(resources: str, gateway: str) -> CTE:
    v = resource_tables(resources).of[DEPLOYMENT.name].versions
    # Names have no quotes: a quoted name in the JSON of the list is one of its entries.
    gateways = cast(v.c.document["gateways"].as_string(), String)
    here = select(
        v.c.organization,
        v.c.name,
        v.c.document["api"].as_string().label("api"),
        v.c.document["revision"].as_integer().label("revision"),
    ).where(
        v.c.organization == bindparam("organization"),
        v.c.valid_to.is_(None),
        v.c.document.is_not(None),
        gateways.contains(f'"{gateway}"', autoescape=True),
    )
    return here.cte("here")
