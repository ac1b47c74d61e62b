"""The five facts of a deployment: requested, decided, published, acknowledged, serving.

Pure: from the deployment's row, what its gateways' nodes reported and which nodes are connected. A fact
holds for a gateway when the gateway as a whole (`*`) or every node that counts reported it. The connected
nodes count; when none is connected, all that ever reported. It holds for the deployment when it does for each
of its gateways.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from projections.asking import Row

WHOLE = "*"
Reports = dict[str, dict[str, dict[str, Mapping[str, Any]]]]
"""Gateway -> node -> fact -> its row in `deliveries`."""


def facts(
    row: Row, deliveries: Iterable[Mapping[str, Any]], nodes: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """`{state, facts: {fact: time | None}, gateways: {name: {nodes: {node: {fact: {}}}}}, refusals: [{}]}`.

    `state` is pending, acknowledged, serving, refused or stopped (superseded included: the document
    tells them apart). Times are RFC 3339. `requested` and `decided` are always there.
    """
    reports = _reports(row.document.get("gateways", ()), deliveries)
    # One that is in force nowhere any more keeps the facts of where it was.
    targets: Sequence[str] = row.document.get("gateways") or row.document.get("left") or sorted(reports)
    for target in targets:
        reports.setdefault(target, {})
    connected: dict[str, list[str]] = {}
    for node in nodes:
        if node["connected"]:
            connected.setdefault(node["gateway"], []).append(node["node"])
    times = {
        fact: _everywhere([_since(reports[g], fact, connected.get(g, [])) for g in targets])
        for fact in ("published", "acknowledged", "serving")
    }
    refusals = [
        {"gateway": g, "node": n, "at": said["refused"]["last_at"], "reason": said["refused"]["reason"]}
        for g in targets
        for n, said in reports[g].items()
        if _refuses(said) and not (n == WHOLE and any(_refuses(reports[g][o]) for o in reports[g] if o != n))
    ]
    return {
        "state": _state(row.document.get("state", "active"), times, bool(refusals)),
        "facts": {
            "requested": row.document.get("requested_at"),
            "decided": row.created,
            **times,
            "refused": max((r["at"] for r in refusals), default=None),
        },
        "gateways": {g: {"nodes": {n: _shown(said) for n, said in r.items()}} for g, r in reports.items()},
        "refusals": refusals,
    }


def as_of(deliveries: Iterable[Mapping[str, Any]], time: str) -> list[dict[str, Any]]:
    """The facts that were known at `time`. Only first and last are kept: of a fact that occurred before and
    after, the first occurrence is what was known."""
    return [
        {**d, "last_at": d["last_at"] if d["last_at"] <= time else d["first_at"]}
        for d in deliveries
        if d["first_at"] <= time
    ]


def _reports(targets: Sequence[str], deliveries: Iterable[Mapping[str, Any]]) -> Reports:
    reports: Reports = {g: {} for g in targets}
    for d in deliveries:
        reports.setdefault(d["gateway"], {}).setdefault(d["node"], {})[d["fact"]] = d
    return reports


def _since(
    nodes: Mapping[str, Mapping[str, Mapping[str, Any]]], fact: str, connected: Sequence[str]
) -> str | None:
    """When `fact` first held for a gateway."""
    if fact in nodes.get(WHOLE, {}):
        return nodes[WHOLE][fact]["first_at"]
    counted = connected or [n for n in nodes if n != WHOLE]
    if not counted:
        return None
    return _everywhere(
        [nodes[n][fact]["first_at"] if n in nodes and fact in nodes[n] else None for n in counted]
    )


def _everywhere(times: Sequence[str | None]) -> str | None:
    """The latest of `times` when there is one everywhere."""
    reached = [t for t in times if t is not None]
    return max(reached) if reached and len(reached) == len(times) else None


def _refuses(said: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a node's last word is a refusal."""
    if "refused" not in said:
        return False
    taken = said.get("acknowledged")
    return taken is None or (taken["last_at"], taken["position"]) < (
        said["refused"]["last_at"],
        said["refused"]["position"],
    )


def _state(state: str, times: Mapping[str, str | None], refused: bool) -> str:
    if state != "active":
        return "stopped"
    if refused:
        return "refused"
    if times["acknowledged"] is None:
        return "pending"
    return "serving" if times["serving"] is not None else "acknowledged"


def _shown(said: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        fact: {name: d[name] for name in ("first_at", "last_at", "version", "reason")}
        for fact, d in said.items()
    }
