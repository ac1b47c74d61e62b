"""How far deployments have come: read from the server, waited for, and told."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from signalbox.cli.client import Client
from signalbox.cli.documents import Document, document, documents
from signalbox.cli.live import keeps_serving
from signalbox.cli.moments import between, clock
from signalbox.cli.tables import cell

FACTS = ("requested", "decided", "published", "acknowledged", "serving")
OPEN = ("pending", "offline")
"""States that end when a node answers."""
REFUSED = ("refused", "partly-refused")
"""States in which some node, or every one, has rejected a deployment."""
_SINCE = {"offline": "acknowledged", "pending": "published", "partly-refused": "refused"}
"""The fact since which a deployment is in a state, where it is not called like the state."""
CHUNK = 500
WAIT = 5.0
"""Seconds the server is asked to wait for news, per question."""

BREATH = 0.05


def standing(deployment: Mapping[str, Any]) -> tuple[str, str | None, str]:
    """The state of a deployment, since when, and why, or what serves instead of it.

    One that ended is `superseded` or `stopped`, since it ended.
    """
    known = document(deployment.get("status"))
    changed: str | None = document(deployment.get("metadata")).get("changed_at")
    state = known.get("state")
    if state is None or state == "stopped":
        still = documents(known.get("live"))
        return str(deployment.get("state") or "-"), changed, f"still live on {cell(still)}" if still else ""
    since = known["facts"].get(_SINCE.get(state, state)) or changed
    remarks = [refusal(known)] if state in REFUSED else []
    remarks += no_node(known)
    if state == "pending":
        published = known["facts"].get("published")
        remarks.insert(0, "published, not acknowledged yet" if published else "not published yet")
        if published and not documents(known.get("offline")):
            remarks += [f"see `signalbox describe gateway {name}`" for name in unanswered(known)]
        if documents(known.get("refusals")):
            remarks.insert(1, f"refused by {refusing_nodes(known)}: {reason(known)}")
    if state in ("refused", "pending"):
        remarks += keeps_serving(deployment, known)
    return str(state), since, "; ".join(remarks)


def no_node(known: Mapping[str, Any]) -> list[str]:
    """Which of a deployment's gateways have no connected node."""
    offline = documents(known.get("offline"))
    gateways = "the gateway" if len(offline) == 1 else "the gateways"
    return [f"no node of {gateways} {cell(offline)} is connected"] if offline else []


def unanswered(known: Mapping[str, Any]) -> list[str]:
    """The gateways with connected nodes that have not all acknowledged it."""
    gateways = {name: document(there) for name, there in document(known.get("gateways")).items()}
    return [name for name, n in gateways.items() if (n.get("connected") or 0) > (n.get("acknowledged") or 0)]


def not_listening(client: Client, gateways: Sequence[str]) -> list[str]:
    """Why connected nodes of gateways do not listen, so that they can take no deployment."""
    told: list[str] = []
    for name in gateways:
        found = client.get(client.organization("gateways", name)).body
        told += [
            f"{node['node']} of {name} does not listen at the gateway's address: {node['listener_refused']}"
            for node in documents(found.get("nodes"))
            if node.get("connected") and node.get("listener_refused")
        ]
    return told


def reason(known: Mapping[str, Any]) -> str:
    """Why a deployment was refused."""
    refusals = documents(known.get("refusals"))
    return str(refusals[0].get("reason") or "no reason given") if refusals else "no reason given"


def refusing_nodes(known: Mapping[str, Any]) -> str:
    """The nodes that refuse a deployment."""
    return ", ".join(dict.fromkeys(str(r["node"]) for r in documents(known.get("refusals"))))


def refusal(known: Mapping[str, Any]) -> str:
    """Why a deployment was refused; when some nodes have it, how many, and which refuse it."""
    if known["state"] != "partly-refused":
        return reason(known)
    gateways = list(document(known.get("gateways")).values())
    connected, acknowledged = (
        sum(document(there).get(count) or 0 for there in gateways) for count in ("connected", "acknowledged")
    )
    has = f"acknowledged by {acknowledged} of {connected} nodes"
    return f"{has}, refused by {refusing_nodes(known)}: {reason(known)}"


def way_out(deployment: str, command: str) -> str:
    """How a deployment that was refused is tried again; `command` is what asks for it anew."""
    return f"`signalbox undeploy {deployment}`, then {command} tries it again"


def timeline(known: Mapping[str, Any]) -> str:
    """The facts in one line: when it was requested, and how long after that each of the others came."""
    times = known["facts"]
    requested = times.get("requested")
    if not requested:
        return ""
    steps = [f"{fact} {between(requested, times[fact])}" for fact in FACTS[1:] if times.get(fact)]
    return ", ".join([f"requested {clock(requested)[11:]}", *steps])


def unchanged(known: Mapping[str, Any]) -> str:
    """What to say of a deployment that is asked for again."""
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
    """Calls `settled` with the facts of each deployment that every node has, or that was refused.

    `waiting_for` gets, again and again, the facts of those that are waited for. Answers the names of those
    that still are after `patience` seconds without any news.
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
            time.sleep(BREATH)  # a server that does not wait must not be asked in a tight loop
        waiting = [*others, *still]
    return waiting
