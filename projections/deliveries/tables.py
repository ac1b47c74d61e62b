"""The tables of the observed state of gateways: rows are as in `projections.deliveries.rows`."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, text

from projections.memo import computed_once


@dataclass(frozen=True, slots=True)
class Tables:
    metadata: MetaData
    deliveries: Table
    apis: Table
    live: Table
    nodes: Table
    reports: Table


def _key(name: str, type_: Any = String) -> Column[Any]:
    return Column(name, type_, primary_key=True, autoincrement=False)


def _text(*names: str) -> list[Column[Any]]:
    return [Column(name, String, nullable=False) for name in names]


def _times(*names: str) -> list[Column[Any]]:
    return [Column(name, String) for name in names]


def _number(name: str, type_: Any = BigInteger) -> Column[Any]:
    return Column(name, type_, nullable=False)


def _flag(name: str) -> Column[Any]:
    return Column(name, Boolean, nullable=False)


@computed_once(8)
def tables(prefix: str) -> Tables:
    """The tables of one generation, with columns in the order of `projections.deliveries.rows`."""
    metadata = MetaData()
    return Tables(
        metadata,
        deliveries=Table(
            f"{prefix}_deliveries",
            metadata,
            *map(_key, ("organization", "deployment", "gateway")),
            *_text("api"),
            _number("revision", Integer),
            _number("position"),
            *_text("version"),
            *_times("published_at", "acknowledged_at", "acknowledged_last", "serving_at", "serving_last"),
            *_times("refused_at", "refused_last"),
            *_text("refused_by", "reason"),
            *_times("withdrawn_at"),
            _flag("taken"),
            _flag("rejected"),
        ),
        apis=Table(
            f"{prefix}_apis",
            metadata,
            *map(_key, ("organization", "gateway", "api")),
            *_text("configured"),
            _number("position"),
            _flag("waiting"),
            *_text("live"),
            _number("live_revision", Integer),
            _number("live_position"),
            _number("valid_from"),
            *_text("since"),
        ),
        live=Table(
            f"{prefix}_live",
            metadata,
            *map(_key, ("organization", "gateway", "api")),
            _key("valid_from", BigInteger),
            *_text("deployment"),
            _number("revision", Integer),
            Column("valid_to", BigInteger),
            *_text("since"),
            *_times("until"),
        ),
        nodes=Table(
            f"{prefix}_nodes",
            metadata,
            *map(_key, ("organization", "gateway", "node")),
            _flag("connected"),
            *_text("agent", "connection"),
            _number("acknowledged"),
            _number("reported_to"),
            *_text("first_seen", "last_seen", "listener_refused"),
        ),
        reports=Table(
            f"{prefix}_reports",
            metadata,
            *map(_key, ("organization", "gateway", "node", "api", "deployment")),
            _number("position"),
            *_text("state", "at", "last_at", "version", "reason"),
            *_times("serving_at"),
        ),
    )


def indexes(prefix: str) -> list[Index]:
    of = tables(prefix)
    a, live, n, r = of.apis.c, of.live.c, of.nodes.c, of.reports.c
    return [
        _partial(f"{prefix}_apis_waiting", text("waiting"), a.organization, a.gateway),
        _partial(f"{prefix}_live_open", text("valid_to IS NULL"), live.organization, live.deployment),
        _partial(f"{prefix}_nodes_absent", text("NOT connected"), n.organization, n.gateway),
        _partial(f"{prefix}_reports_withdrawn", text("state = 'withdrawn'"), r.organization, r.gateway),
        Index(f"{prefix}_reports_deployment", r.organization, r.deployment, r.gateway),
    ]


def _partial(name: str, condition: Any, *columns: Column[Any]) -> Index:
    return Index(name, *columns, sqlite_where=condition)
