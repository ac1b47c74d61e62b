"""The five facts of a deployment: requested, decided, published, acknowledged, serving.

Pure: computed from the deployment's row and the observed state of its gateways. Only connected nodes count. A
deployment is acknowledged when each of them has it, on each of its gateways. It is refused when each of them
refuses it, or when a gateway rolled back: then it stays refused when nodes leave. It is partly refused when
some nodes have it and others refuse it, offline when all nodes have left since, and pending otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from projections.deliveries.connected_nodes import (
    NO_NODES,
    NO_REPORTS,
    ConnectedNodes,
    Reports,
    is_configured,
    nodes_still_holding,
)
from projections.deliveries.rows import WHOLE_GATEWAY, ApiOnGateway, Delivery, Report, covers
from projections.pages import Row

State = Literal[
    "pending", "acknowledged", "serving", "partly-refused", "refused", "offline", "stopping", "stopped"
]


@dataclass(frozen=True, slots=True)
class ObservedDeployment:
    """The observed state of one deployment, by gateway; `apis` are the rows of its API there.

    `stopped_at`: the position of the event that stopped the API after another deployment superseded this one.
    Gateways without a connected node: `left` has the times their last node left, `awaited` the gateways whose
    nodes may reconnect in a moment, as after a start of Signalbox.
    """

    deliveries: Mapping[str, Delivery]
    apis: Mapping[str, ApiOnGateway]
    nodes: Mapping[str, ConnectedNodes]
    reports: Mapping[str, Reports]
    stopped_at: Mapping[str, int] = field(default_factory=dict[str, int])
    left: Mapping[str, str] = field(default_factory=dict[str, str])
    awaited: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Target:
    """The state of the deployment on one gateway."""

    gateway: str
    state: State
    connected: int
    acknowledged: int
    refusals: Sequence[Mapping[str, Any]]
    live: bool
    delivery: Delivery | None


def facts(row: Row, known: ObservedDeployment, *, nodes: bool = True) -> dict[str, Any]:
    """`{state, since, facts: {fact: time | None}, gateways: {name: {}}, refusals: [{}], live: [],
    offline: []}`.

    `state` is a `State` (a superseded deployment is `stopped`; its document has the difference). Times are
    RFC 3339; `requested` and `decided` are always present. Each gateway has the numbers of `connected` and
    `acknowledged` nodes, the API's `live` deployment there (`{deployment, revision, since}` or None), and
    with `nodes` each node's report. `live`: gateways where it is live; `offline`: those without a node.
    """
    active = row.document.get("state", "active") == "active"
    names: Sequence[str] = (
        row.document.get("gateways") or row.document.get("left") or sorted(known.deliveries)
    )
    targets = [_target(row, name, known, active) for name in names]
    elsewhere = [_target(row, name, known, False) for name in known.deliveries if name not in names]
    refusals = [refusal for target in targets for refusal in target.refusals]
    published = [t.delivery.published_at if t.delivery else None for t in targets]
    acknowledged = [_acknowledged_at(t, None if active else row.since) for t in targets]
    served = [t.delivery.serving_at if t.delivery else None for t in targets]
    times = {
        "published": _everywhere(published),
        "acknowledged": _everywhere(acknowledged),
        "serving": _everywhere(served) if _everywhere(acknowledged) else None,
    }
    if times["serving"] is not None and times["acknowledged"] is not None:
        times["serving"] = max(times["serving"], times["acknowledged"])
    state = _state(row, active, targets, times["serving"] is not None)
    refused = max((r["at"] for r in refusals), default=None)
    return {
        "state": state,
        "since": _since(state, row, {**times, "refused": refused}, targets, known),
        "facts": {
            "requested": row.document.get("requested_at"),
            "decided": row.created,
            **times,
            "refused": refused,
        },
        "gateways": {t.gateway: _gateway(t, row.name, known, nodes) for t in (*targets, *elsewhere)},
        "refusals": refusals,
        "live": [t.gateway for t in (*targets, *elsewhere) if t.live],
        "offline": [t.gateway for t in targets if not t.connected] if active else [],
    }


def _since(
    state: State,
    row: Row,
    times: Mapping[str, str | None],
    targets: Sequence[_Target],
    known: ObservedDeployment,
) -> str:
    """When the state began."""
    if state in ("stopped", "stopping"):
        return row.since
    if state == "offline":
        return (
            min((at for t in targets if (at := _left_at(t, known))), default=times["acknowledged"])
            or row.since
        )
    if state == "pending":
        left = [at for t in targets if (at := _left_at(t, known))]
        begun = [t.delivery.acknowledged_at or "" for t in targets if t.delivery and t.acknowledged]
        return max(left, default="") or min(begun, default="") or times["published"] or row.created
    fact = {"partly-refused": "refused"}.get(state, state)
    return times[fact] or row.since


def _left_at(target: _Target, known: ObservedDeployment) -> str | None:
    """The time the gateway lost its last node, if it had acknowledged the deployment."""
    taken = target.delivery is not None and target.delivery.acknowledged_at is not None
    return known.left.get(target.gateway) if taken and not target.connected else None


def facts_as_of(
    row: Row, deliveries: Mapping[str, Delivery], api_live: Mapping[str, Mapping[str, Any]], time: str
) -> dict[str, Any]:
    """As `facts`, for the moment `time`. Reports of nodes are not kept: they are left out, as the numbers of
    nodes, and a deployment that some nodes acknowledged and another one refused later is refused.

    Only the first and the last time of a fact are kept: if it occurred before and after `time`, the first one
    is returned. `api_live`: by gateway the deployment of its API that was live, with `revision` and `since`.
    """
    state = row.document.get("state", "active")
    ended = None if state == "active" else row.since
    known = {name: _then(delivery, time) for name, delivery in deliveries.items() if _began(delivery, time)}
    live = [name for name, there in api_live.items() if there["deployment"] == row.name]
    names = _targets(row, known)
    targets = [known.get(name) or Delivery("", row.name, name) for name in names]
    refused = [t for t in targets if t.refused_last and t.refused_last >= (t.acknowledged_last or "")]
    times = {
        "published": _everywhere([t.published_at for t in targets]),
        "acknowledged": _everywhere([_complete_at(t, ended) for t in targets]),
        "serving": _everywhere([t.serving_at for t in targets]),
    }
    if state != "active":
        word: State = "stopping" if state == "stopped" and live else "stopped"
    elif refused:
        word = "refused"
    elif times["acknowledged"] is None:
        word = "pending"
    else:
        word = "serving" if times["serving"] else "acknowledged"
    return {
        "state": word,
        "facts": {
            "requested": row.document.get("requested_at"),
            "decided": row.created,
            **times,
            "refused": max((t.refused_last or "" for t in refused), default=None),
        },
        "gateways": {name: {"live": api_live.get(name)} for name in names},
        "refusals": [_rejection(t) for t in refused] if state == "active" else [],
        "live": live,
        "offline": [],
    }


def _targets(row: Row, deliveries: Mapping[str, Delivery]) -> Sequence[str]:
    """The gateways where it is in force; if there are none any more, those where it was."""
    return row.document.get("gateways") or row.document.get("left") or sorted(deliveries)


def _target(row: Row, name: str, known: ObservedDeployment, active: bool) -> _Target:
    delivery, api = known.deliveries.get(name), known.apis.get(name)
    there, reports = known.nodes.get(name, NO_NODES), known.reports.get(name, NO_REPORTS)
    if delivery is None:
        return _Target(name, "pending", there.count, 0, (), False, None)
    configured = is_configured(delivery, api)
    reported = there.reports_of_connected(reports)
    acknowledged = (
        there.count_having(delivery.position, reports)
        if configured
        else sum(r.state == "acknowledged" for r in reported)
    )
    refusals = [_refusal(r) for r in reported if r.state == "refused"]
    refusing = len(refusals)
    if not refusals and (delivery.rejected or not configured) and delivery.refused_at:
        refusals = [_rejection(delivery)]
    back = bool(refusals) and (not configured or not there.count)
    live = api.live == delivery.deployment if api else active and delivery.taken
    end = row.position if row.document.get("state") == "stopped" else known.stopped_at.get(name)
    if live and end is not None:
        live = nodes_still_holding(there, delivery.position, reports, end) > 0
    return _Target(
        name,
        "refused"
        if back
        else _standing(delivery, there.count, acknowledged, refusing, awaited=name in known.awaited),
        there.count,
        acknowledged,
        refusals if active else (),
        live,
        delivery,
    )


def _standing(
    delivery: Delivery, connected: int, acknowledged: int, refusing: int, *, awaited: bool
) -> State:
    """The state on one gateway; `connected`, `acknowledged` and `refusing` are numbers of nodes."""
    if refusing and acknowledged:
        return "partly-refused"
    if refusing and refusing == connected:
        return "refused"
    if not connected:
        return "offline" if delivery.acknowledged_at and not awaited else "pending"
    return "acknowledged" if acknowledged == connected else "pending"


def _state(row: Row, active: bool, targets: Sequence[_Target], serving: bool) -> State:
    if not active:
        stopped = row.document.get("state") == "stopped"
        return "stopping" if stopped and any(t.live for t in targets) else "stopped"
    standing = {t.state for t in targets}
    for state in ("refused", "partly-refused", "pending", "offline"):
        if state in standing:
            return state
    if not targets:
        return "pending"
    return "serving" if serving else "acknowledged"


def _acknowledged_at(target: _Target, ended: str | None) -> str | None:
    had = target.state in ("acknowledged", "offline") or (target.state == "pending" and not target.connected)
    if target.delivery is None or (ended is None and not had):
        return None
    return _complete_at(target.delivery, ended)


def _complete_at(delivery: Delivery, ended: str | None) -> str | None:
    """The time the last node acknowledged it. Acknowledgements after the deployment ended do not count: the
    gateway rolled back to it, because its successor was refused."""
    last = delivery.acknowledged_last
    return delivery.acknowledged_at if last and ended and last > ended else last


def _everywhere(times: Sequence[str | None]) -> str | None:
    """The latest of `times`; None if one is missing."""
    reached = [t for t in times if t is not None]
    return max(reached) if reached and len(reached) == len(times) else None


def _began(delivery: Delivery, time: str) -> bool:
    """Whether the first fact was reported at `time` or before."""
    first = (delivery.published_at, delivery.acknowledged_at, delivery.serving_at, delivery.refused_at)
    return any(at is not None and at <= time for at in first)


def _then(delivery: Delivery, time: str) -> Delivery:
    def last(first: str | None, last: str | None) -> str | None:
        return last if last and last <= time else first if first and first <= time else None

    return delivery._replace(
        published_at=last(None, delivery.published_at),
        acknowledged_last=last(delivery.acknowledged_at, delivery.acknowledged_last),
        serving_at=last(None, delivery.serving_at),
        refused_last=last(delivery.refused_at, delivery.refused_last),
    )


def _refusal(report: Report) -> dict[str, Any]:
    return {"gateway": report.gateway, "node": report.node, "at": report.last_at, "reason": report.reason}


def _rejection(delivery: Delivery) -> dict[str, Any]:
    return {
        "gateway": delivery.gateway,
        "node": delivery.refused_by,
        "at": delivery.refused_last,
        "reason": delivery.reason,
    }


def _gateway(target: _Target, deployment: str, known: ObservedDeployment, nodes: bool) -> dict[str, Any]:
    api = known.apis.get(target.gateway)
    shown: dict[str, Any] = {
        "connected": target.connected,
        "acknowledged": target.acknowledged,
        "live": {"deployment": api.live, "revision": api.live_revision, "since": api.since}
        if api is not None and api.live
        else None,
    }
    if nodes:
        shown["nodes"] = _nodes(target, known)
    return shown


def _nodes(target: _Target, known: ObservedDeployment) -> dict[str, Any]:
    """The reports on the gateway as a whole and of each connected node."""
    delivery = target.delivery
    if delivery is None:
        return {}
    shown: dict[str, Any] = {}
    whole: dict[str, Any] = {}
    if delivery.published_at:
        whole["published"] = _fact(delivery.published_at, delivery.published_at, delivery.version)
    if delivery.rejected and delivery.refused_by == WHOLE_GATEWAY and delivery.refused_at:
        last = delivery.refused_last or delivery.refused_at
        whole["refused"] = _fact(delivery.refused_at, last, "", delivery.reason)
    if whole:
        shown[WHOLE_GATEWAY] = whole
    configured = is_configured(delivery, known.apis.get(target.gateway))
    reports = known.reports.get(target.gateway, NO_REPORTS)
    for name, node in sorted(known.nodes.get(target.gateway, NO_NODES).nodes.items()):
        report = reports.get(name)
        if report is not None:
            shown[name] = {report.state: _fact(report.at, report.last_at, report.version, report.reason)}
            if report.serving_at:
                shown[name]["serving"] = _fact(report.serving_at, report.serving_at)
        elif configured and delivery.acknowledged_at and covers(node.acknowledged, delivery.position):
            last = delivery.acknowledged_last or delivery.acknowledged_at
            shown[name] = {"acknowledged": _fact(delivery.acknowledged_at, last)}
    return shown


def _fact(first: str, last: str, version: str = "", reason: str = "") -> dict[str, str]:
    return {"first_at": first, "last_at": last, "version": version, "reason": reason}
