"""Loads and saves the observed state of gateways for a batch of status messages.

One statement loads the rows that the batch may change, a second one those of withdrawals in progress; one
statement per table writes the changed rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Table, bindparam, delete

from projections.databases.bulk import replace_rows, without_nul
from projections.databases.dialect import dialect_of
from projections.databases.port import Dialect
from projections.deliveries.gateway_state import GatewayState
from projections.deliveries.rows import (
    WHOLE_GATEWAY,
    ApiOnGateway,
    ApiOnGatewayKey,
    Delivery,
    DeliveryKey,
    GatewayKey,
    Node,
    NodeKey,
    Report,
    ReportKey,
)
from projections.deliveries.tables import Tables
from projections.memo import computed_once

Keys = dict[str, dict[tuple[Any, ...], None]]
"""The keys to look up, by parameter of the statement that loads."""

_GATEWAY = ("organization", "gateway")
_LOOKED_UP = ("delivery", "api", "node", "report", "gateway", "waiting", "exception")
_LOADED = ("deliveries", "apis", "nodes", "reports")


def keys_of(deliveries: Iterable[Mapping[str, Any]], nodes: Iterable[Mapping[str, Any]]) -> Keys:
    """The keys of the rows that a batch needs, from the data of its messages."""
    keys: Keys = {name: {} for name in _LOOKED_UP}
    for data in deliveries:
        organization, gateway, node = data["organization"], data["name"], data.get("node", WHOLE_GATEWAY)
        api = data.get("api") or ""
        keys["delivery"][organization, data["deployment"], gateway] = None
        if api:
            keys["api"][organization, gateway, api] = None
        if node != WHOLE_GATEWAY:
            keys["node"][organization, gateway, node] = None
            keys["report"][organization, gateway, node, api] = None
        if data["fact"] == "withdrawn":
            keys["gateway"][organization, gateway] = None
    caught_up: dict[GatewayKey, int] = {}
    for data in nodes:
        gateway = (data["organization"], data["name"])
        keys["node"][*gateway, data["node"]] = None
        keys["gateway"][gateway] = None
        if acknowledged := data.get("acknowledged"):
            caught_up[gateway] = max(acknowledged, caught_up.get(gateway, 0))
        for exception in data.get("exceptions") or ():
            keys["delivery"][gateway[0], exception["deployment"], gateway[1]] = None
            keys["exception"][*gateway, data["node"], exception["deployment"]] = None
    for gateway, acknowledged in caught_up.items():
        keys["waiting"][*gateway, acknowledged] = None
    return keys


def load(connection: Connection, of: Tables, keys: Keys, withdrawn: set[GatewayKey]) -> GatewayState:
    """The rows that messages with `keys` may change. `withdrawn`: gateways with withdrawals."""
    observed = GatewayState()
    _take(observed, connection, of, keys)
    going = {(r.organization, r.gateway) for r in observed.reports.values() if r.state == "withdrawn"}
    if going or withdrawn:
        more: Keys = {"connected": dict.fromkeys(going | withdrawn), "withdrawing": {}}
        for r in observed.reports.values():
            if r.state == "withdrawn":
                more["withdrawing"][r.organization, r.deployment, r.gateway] = None
        for key in keys["delivery"]:
            if (key[0], key[2]) in withdrawn:
                more["withdrawing"][key] = None
        _take(observed, connection, of, more)
    return observed


class LoadedRows(NamedTuple):
    """The rows as they were loaded."""

    deliveries: Mapping[DeliveryKey, Delivery]
    apis: Mapping[ApiOnGatewayKey, ApiOnGateway]
    nodes: Mapping[NodeKey, Node]
    reports: Mapping[ReportKey, Report]


def loaded_rows(observed: GatewayState) -> LoadedRows:
    return LoadedRows(
        dict(observed.deliveries), dict(observed.apis), dict(observed.nodes), dict(observed.reports)
    )


def save(connection: Connection, of: Tables, before: LoadedRows, after: GatewayState) -> None:
    if after.cleared:
        cleared = [{"o": o, "g": g, "n": n, "p": p} for (o, g, n), p in after.cleared.items()]
        connection.execute(_clear(of), cleared)
    gone = [
        key
        for key, report in before.reports.items()
        if key not in after.reports and report.position > after.cleared.get(key[:3], -1)
    ]
    _remove(connection, of.reports, gone)
    _remove(connection, of.nodes, [key for key in before.nodes if key not in after.nodes])
    _put(connection, of.deliveries, before.deliveries, after.deliveries)
    _put(connection, of.apis, before.apis, after.apis)
    replace_rows(connection, of.live, [tuple(i) for i in after.intervals.values()])
    _put(connection, of.nodes, before.nodes, after.nodes)
    reports = [
        tuple(report)
        for key, report in after.reports.items()
        if key[:3] in after.cleared or before.reports.get(key) != report
    ]
    replace_rows(connection, of.reports, reports)


def _put(connection: Connection, table: Table, before: Mapping[Any, Any], after: Mapping[Any, Any]) -> None:
    changed = [tuple(row) for key, row in after.items() if before.get(key) != row]
    replace_rows(connection, table, changed)


def _remove(connection: Connection, table: Table, keys: Sequence[tuple[Any, ...]]) -> None:
    if keys:
        names = [f"key_{column.name}" for column in table.primary_key.columns]
        connection.execute(_delete(table), [dict(zip(names, key, strict=True)) for key in keys])


@computed_once(64)
def _delete(table: Table) -> Any:
    return delete(table).where(*(c == bindparam(f"key_{c.name}") for c in table.primary_key.columns))


@computed_once(8)
def _clear(of: Tables) -> Any:
    r = of.reports.c
    same = (r.organization == bindparam("o"), r.gateway == bindparam("g"), r.node == bindparam("n"))
    return delete(of.reports).where(*same, r.position <= bindparam("p"))


def _take(observed: GatewayState, connection: Connection, of: Tables, keys: Keys) -> None:
    wanted = tuple(name for name, given in keys.items() if given)
    if not wanted:
        return
    parameters = {
        name: without_nul(orjson.dumps([list(key) for key in keys[name]]).decode()) for name in wanted
    }
    rows: dict[str, list[list[Any]]] = {name: [] for name in _LOADED}
    dialect = dialect_of(connection)
    sql = dialect.driver_sql(connection, _load(of, dialect, wanted))
    for row in connection.exec_driver_sql(sql, parameters):
        found: Any = row.found
        rows[row.kind].append(orjson.loads(found) if isinstance(found, str) else found)
    observed.load(
        [Delivery._make([*row[:-2], bool(row[-2]), bool(row[-1])]) for row in rows["deliveries"]],
        [ApiOnGateway._make([*row[:5], bool(row[5]), *row[6:]]) for row in rows["apis"]],
        [Node._make([*row[:3], bool(row[3]), *row[4:]]) for row in rows["nodes"]],
        [Report._make(row) for row in rows["reports"]],
    )


def lookup(of: Tables, dialect: Dialect) -> tuple[str, Mapping[str, str]]:
    """The statement with every lookup, to explain its query plan, with empty parameters."""
    wanted = (*_LOOKED_UP, "connected", "withdrawing")
    return _load(of, dialect, wanted), dict.fromkeys(wanted, "[]")


@computed_once(256)
def _load(of: Tables, dialect: Dialect, wanted: Sequence[str]) -> str:
    return " UNION ALL ".join(part for name in wanted for part in _parts(of, dialect, name))


def _parts(of: Tables, dialect: Dialect, name: str) -> list[str]:
    """The SELECTs for one parameter, each of `kind` and `found` (a row as a JSON list)."""
    deliveries = (of.deliveries, "deliveries")
    apis, nodes, reports = (of.apis, "apis"), (of.nodes, "nodes"), (of.reports, "reports")
    d = ("organization", "deployment", "gateway")
    a = ("organization", "gateway", "api")
    n = ("organization", "gateway", "node")

    def part(found: tuple[Table, str], by: Sequence[str], *conditions: str, join: str = "") -> str:
        return _part(found, dialect, name, by, conditions, join)

    configured = (
        f" JOIN {of.deliveries.name} AS t ON t.organization = u.organization"
        " AND t.deployment = u.configured AND t.gateway = u.gateway"
    )
    named = (
        f" JOIN {of.reports.name} AS t ON t.organization = u.organization AND t.gateway = u.gateway"
        f" AND t.api = u.api AND t.deployment = u.deployment AND t.node = {dialect.part_of_key(2)}"
    )
    carried = (
        f" JOIN {of.apis.name} AS t ON t.organization = u.organization AND t.gateway = u.gateway"
        " AND t.api = u.api"
    )
    upto = f"u.waiting AND u.position <= {dialect.part_of_key(2, number=True)}"
    match name:
        case "delivery":
            return [part(deliveries, d)]
        case "api":
            return [part(apis, a)]
        case "node":
            return [part(nodes, n)]
        case "report":
            return [part(reports, (*n, "api"))]
        case "gateway":
            return [
                part(nodes, _GATEWAY, "NOT u.connected"),
                part(reports, _GATEWAY, "u.state = 'withdrawn'"),
            ]
        case "waiting":
            return [
                part(apis, _GATEWAY, upto),
                _part((of.apis, "deliveries"), dialect, name, _GATEWAY, (upto,), configured, of.deliveries),
            ]
        case "exception":
            by = ("organization", "gateway", "", "deployment")
            return [
                _part((of.deliveries, "reports"), dialect, name, by, (), named, of.reports),
                _part((of.deliveries, "apis"), dialect, name, by, (), carried, of.apis),
            ]
        case "connected":
            return [part(nodes, _GATEWAY, "u.connected")]
        case _:  # withdrawing
            return [
                part(deliveries, d),
                part(reports, d),
                _part((of.deliveries, "apis"), dialect, name, d, (), carried, of.apis),
            ]


def _part(
    found: tuple[Table, str],
    dialect: Dialect,
    name: str,
    by: Sequence[str],
    conditions: Sequence[str],
    join: str = "",
    shown: Table | None = None,
) -> str:
    """The SELECT of a table's rows by key, or of the rows joined to them as `t`."""
    table, kind = found
    alias = "t" if join else "u"
    columns = ", ".join(f"{alias}.{c.name}" for c in (table if shown is None else shown).columns)
    where = [f"u.{column} = {dialect.part_of_key(i)}" for i, column in enumerate(by) if column]
    rows = dialect.lookup(name, table, " AND ".join([*where, *conditions]), join)
    return f"SELECT '{kind}' AS kind, {dialect.as_list(columns)} AS found {rows}"
