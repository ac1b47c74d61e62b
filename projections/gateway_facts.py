"""What each node of a gateway runs, compared with what is to run there.

A node has no version of its own: versions are content hashes per resource. What can be said is, of each
deployment in force on the gateway, what the node's last word was: acknowledged, refused, or none yet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    CompoundSelect,
    Connection,
    Integer,
    Select,
    String,
    Table,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    tuple_,
    union_all,
)

from projections.deliveries import tables as deliveries_tables
from projections.deployment_facts import WHOLE
from projections.memo import computed_once
from projections.resource_tables import tables as resource_tables
from projections.store import as_dicts
from schemas.deployment import DEPLOYMENT

MOST_REFUSALS = 20
_DESIRED = "desired"

Dicts = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """`desired`: deployments in force on the gateway. `withheld`: those of them the gateway as a whole
    refuses, which no node is asked to take. `nodes`: node -> `{acknowledged, refused}`, how many
    of those it took or refused last; a node that said nothing of them is missing.

    `refused`: how many of those a node, or the gateway as a whole, refuses. `refusals`: of the newest
    `MOST_REFUSALS` of them `{deployment, api, revision, reason, at, nodes}`, newest first; `nodes` is how
    many nodes refuse it, 0 when it was refused before any node was asked.
    """

    desired: int
    withheld: int
    nodes: Mapping[str, Mapping[str, int]]
    refused: int
    refusals: Sequence[Mapping[str, Any]]


def gateway_facts(
    connection: Connection, resources: str, deliveries: str, organization: str, gateway: str
) -> GatewayFacts:
    """`resources` and `deliveries` are the prefixes of the live tables."""
    asked = {"organization": organization, "gateway": gateway}
    desired = withheld = 0
    refused = False
    nodes: dict[str, dict[str, int]] = {}
    for node, fact, count in connection.execute(_counts(resources, deliveries, gateway), asked):
        if fact == _DESIRED:
            desired = count
            continue
        refused = refused or fact == "refused"
        if node != WHOLE:
            nodes.setdefault(node, {"acknowledged": 0, "refused": 0})[fact] = count
        elif fact == "refused":
            withheld = count
    listed: Dicts = []
    if refused:  # seldom
        listed = as_dicts(connection.execute(_refusals(resources, deliveries, gateway), asked))
    total = listed[0]["total"] if listed else 0
    refusals = [{name: value for name, value in r.items() if name != "total"} for r in listed]
    return GatewayFacts(desired, withheld, nodes, total, refusals)


@computed_once(64)
def _counts(resources: str, deliveries: str, gateway: str) -> CompoundSelect[*tuple[Any, ...]]:
    """`node, fact, count`: deployments each node acknowledged, and refused, last; and those in force."""
    here, d = _in_force(resources, gateway), deliveries_tables(deliveries).deliveries
    said = _last_words(select(d.c.node, d.c.fact, func.count()), here, d).group_by(d.c.node, d.c.fact)
    desired = select(literal(WHOLE), literal(_DESIRED), func.count()).select_from(here)
    return union_all(desired, said)


@computed_once(64)
def _refusals(resources: str, deliveries: str, gateway: str) -> Select[*tuple[Any, ...]]:
    here, d = _in_force(resources, gateway), deliveries_tables(deliveries).deliveries
    ranked = select(
        d.c.deployment,
        here.c.document["api"].as_string().label("api"),
        here.c.document["revision"].as_integer().label("revision"),
        d.c.reason,
        d.c.last_at.label("at"),
        d.c.position,
        func.sum(cast(d.c.node != WHOLE, Integer)).over(partition_by=d.c.deployment).label("nodes"),
        func.row_number().over(partition_by=d.c.deployment, order_by=d.c.position.desc()).label("rank"),
    )
    r = _last_words(ranked, here, d).where(d.c.fact == "refused").subquery()
    columns = (r.c[name] for name in ("deployment", "api", "revision", "reason", "at", "nodes"))
    shown = select(*columns, func.count().over().label("total")).where(r.c.rank == 1)
    return shown.order_by(r.c.position.desc()).limit(MOST_REFUSALS)


def _last_words(wanted: Select[*tuple[Any, ...]], here: CTE, d: Table) -> Select[*tuple[Any, ...]]:
    """Restricts `wanted` to the last word of each node on each deployment in `here`.

    Same order of facts as in `projections.deployment_facts`.
    """
    other = d.alias()
    same = [d.c[name] == other.c[name] for name in ("organization", "deployment", "gateway", "node")]
    opposite = case((d.c.fact == "refused", "acknowledged"), else_="refused")
    later = tuple_(other.c.last_at, other.c.position) > tuple_(d.c.last_at, d.c.position)
    about = and_(
        d.c.organization == here.c.organization,  # no constant: past deployments are not read through
        d.c.deployment == here.c.name,
        d.c.gateway == bindparam("gateway"),
    )
    joined = here.join(d, about).outerjoin(other, and_(*same, other.c.fact == opposite, later))
    return wanted.select_from(joined).where(
        or_(d.c.fact == "acknowledged", d.c.fact == "refused"), other.c.fact.is_(None)
    )


def _in_force(resources: str, gateway: str) -> CTE:
    v = resource_tables(resources).of[DEPLOYMENT.name].versions
    # Names have no quotes: one in quotes within the list's JSON is an entry of it.
    gateways = cast(v.c.document["gateways"].as_string(), String)
    here = select(v.c.organization, v.c.name, v.c.document).where(
        v.c.organization == bindparam("organization"),
        v.c.valid_to.is_(None),
        v.c.document.is_not(None),
        gateways.contains(f'"{gateway}"', autoescape=True),
    )
    return here.cte("here")
