"""The progress of deployments: read from the server, awaited, and as text."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from signalbox.cli.http.client import Client
from signalbox.cli.http.documents import Document, document, documents
from signalbox.cli.moments import ago, between, clock
from signalbox.cli.resources.live import keeps_serving
from signalbox.cli.tables import cell, table

FACTS = ("requested", "decided", "published", "acknowledged", "serving")
OPEN = ("pending", "offline")
"""States that end when a node answers."""
REFUSED = ("refused", "partly-refused")
"""States in which some node, or every one, has rejected a deployment."""
_SINCE = {"offline": "acknowledged", "pending": "published", "partly-refused": "refused"}
"""The fact that began a state, where its name differs from the state's."""
CHUNK = 500
WAIT = 5.0
"""Seconds that the server waits for a change, per request."""

BREATH = 0.05


def standing(deployment: Mapping[str, Any]) -> tuple[str, str | None, str]:
    """The state of a deployment, its begin, and a remark: the reason, or the revision that serves instead.

    An ended one is `superseded` or `stopped` since its end.
    """
    known = document(deployment.get("status"))
    changed: str | None = document(deployment.get("metadata")).get("changed_at")
    state = known.get("state")
    if state is None or state == "stopped":
        still = documents(known.get("live"))
        return str(deployment.get("state") or "-"), changed, f"still live on {cell(still)}" if still else ""
    since = known.get("since") or known["facts"].get(_SINCE.get(state, state)) or changed
    remarks = [refusal(known)] if state in REFUSED else []
    remarks += no_node(known)
    if state == "pending":
        published = known["facts"].get("published")
        if known["facts"].get("acknowledged"):
            remarks.insert(0, "its nodes are expected to connect again")
        else:
            remarks.insert(0, "published, not acknowledged yet" if published else "not published yet")
        if published and not documents(known.get("offline")):
            remarks += [f"see `signalbox describe gateway {name}`" for name in unanswered(known)]
        if documents(known.get("refusals")):
            remarks.insert(1, f"refused by {refusing_nodes(known)}: {reason(known)}")
    if state in ("refused", "pending"):
        remarks += keeps_serving(deployment, known)
    return str(state), since, "; ".join(remarks)


def _reached(item: Mapping[str, Any]) -> Document:
    """The gateways that a deployment reached, also after it ended."""
    return document(document(item.get("status")).get("gateways"))


def deployments(items: Sequence[Mapping[str, Any]], present: float, api: bool = True) -> str:
    """The table of deployments: API, gateways, state, since when; a remark if another revision is live.

    `api`: whether to have the column of the API.
    """
    headers = ["api", "revision", "gateways", "state", "since", "deployment"]
    rows: list[list[str]] = []
    for item in items:
        state, since, why = standing(item)
        rows.append(
            [
                cell(item.get("api")),
                cell(item.get("revision")),
                cell(item.get("gateways") or item.get("left") or sorted(_reached(item))),
                state,
                ago(since, present) if since else "-",
                cell(item.get("name")),
                " ".join(why.split()),
            ]
        )
    first = 0 if api else 1
    if any(row[-1] for row in rows):
        return table([*headers, "remark"][first:], [row[first:] for row in rows])
    return table(headers[first:], [row[first:-1] for row in rows])


def no_node(known: Mapping[str, Any]) -> list[str]:
    """The gateways of a deployment without connected nodes, as text."""
    offline = documents(known.get("offline"))
    gateways = "the gateway" if len(offline) == 1 else "the gateways"
    return [f"no node of {gateways} {cell(offline)} is connected"] if offline else []


def unanswered(known: Mapping[str, Any]) -> list[str]:
    """The gateways with connected nodes that have not acknowledged it."""
    gateways = {name: document(there) for name, there in document(known.get("gateways")).items()}
    return [name for name, n in gateways.items() if (n.get("connected") or 0) > (n.get("acknowledged") or 0)]


def not_listening(client: Client, gateways: Sequence[str]) -> list[str]:
    """Why connected nodes of gateways do not listen, and so cannot serve deployments."""
    reasons: list[str] = []
    for name in gateways:
        found = client.get(client.organization("gateways", name)).body
        reasons += [
            f"{node['node']} of {name} does not listen at the gateway's address: {node['listener_refused']}"
            for node in documents(found.get("nodes"))
            if node.get("connected") and node.get("listener_refused")
        ]
    return reasons


def reason(known: Mapping[str, Any]) -> str:
    """Why a deployment was refused."""
    refusals = documents(known.get("refusals"))
    return str(refusals[0].get("reason") or "no reason given") if refusals else "no reason given"


def refusing_nodes(known: Mapping[str, Any]) -> str:
    """The nodes that refuse a deployment."""
    return ", ".join(dict.fromkeys(str(r["node"]) for r in documents(known.get("refusals"))))


def refusal(known: Mapping[str, Any]) -> str:
    """Why a deployment was refused; if some nodes acknowledged it, their number and the nodes that refuse
    it."""
    if known["state"] != "partly-refused":
        return reason(known)
    gateways = list(document(known.get("gateways")).values())
    connected, acknowledged = (
        sum(document(there).get(count) or 0 for there in gateways) for count in ("connected", "acknowledged")
    )
    has = f"acknowledged by {acknowledged} of {connected} nodes"
    return f"{has}, refused by {refusing_nodes(known)}: {reason(known)}"


def way_out(deployment: str, command: str) -> str:
    """How to retry a refused deployment; `command` is the command that requests it again."""
    return f"`signalbox undeploy {deployment}`, then {command} tries it again"


def timeline(known: Mapping[str, Any]) -> str:
    """The facts in one line: the time of the request, and the time from there to each other fact."""
    times = known["facts"]
    requested = times.get("requested")
    if not requested:
        return ""
    steps = [f"{fact} {between(requested, times[fact])}" for fact in FACTS[1:] if times.get(fact)]
    return ", ".join([f"requested {clock(requested)[11:]}", *steps])


def unchanged(known: Mapping[str, Any]) -> str:
    """Text about a deployment that is requested again."""
    began = "asked for at" if known["state"] == "refused" else "deployed since"
    return f"unchanged, {began} {since(known)}"


def since(known: Mapping[str, Any]) -> str:
    """When a deployment was acknowledged first, or else requested: `2026-11-21 09:30:01.012 UTC`."""
    times = known["facts"]
    at = times.get("acknowledged") or times.get("requested")
    return f"{clock(at)} UTC" if at else "a time that is not known"


def wait_for(
    client: Client,
    names: Sequence[str],
    patience: float,
    settled: Callable[[str, Document], None],
    waiting_for: Callable[[str, Document], None] = lambda name, known: None,
) -> list[str]:
    """Calls `settled` with the facts of each deployment that all nodes acknowledged, or that was refused.

    `waiting_for` is called repeatedly with the facts of pending ones. Returns the names of those still
    pending after `patience` seconds without a change.
    """
    waiting = list(names)
    where = client.organization("deployments", "facts")
    until = time.monotonic() + patience
    while waiting and (left := until - time.monotonic()) > 0:
        asked, others = waiting[:CHUNK], waiting[CHUNK:]
        began = time.monotonic()
        seconds = min(left, WAIT)
        answer = client.ask("POST", where, {"names": asked, "wait": seconds}, seconds=seconds + 30)
        still: list[str] = []
        for name in asked:
            known = answer.body.get(name)
            if known is None or known["state"] in OPEN:
                still.append(name)
                if known is not None:
                    waiting_for(name, known)
            else:
                settled(name, known)
        if len(still) < len(asked):
            until = time.monotonic() + patience
        elif time.monotonic() - began < BREATH:
            time.sleep(BREATH)  # no tight loop with a server that does not wait
        waiting = [*others, *still]
    return waiting
