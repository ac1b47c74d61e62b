"""`signalbox describe`."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from signalbox.cli.http.client import Client
from signalbox.cli.http.connection import Connection, connected
from signalbox.cli.http.documents import Document, documents, is_list, is_object
from signalbox.cli.http.documents import document as members
from signalbox.cli.moment import as_of_option
from signalbox.cli.moments import ago, between, clock, now
from signalbox.cli.output import OutputFormat, emit, formed
from signalbox.cli.resources.facts import (
    FACTS,
    REFUSED,
    deployments,
    no_node,
    not_listening,
    unanswered,
    way_out,
)
from signalbox.cli.resources.live import keeps_serving, listing, live
from signalbox.cli.resources.reading import one
from signalbox.cli.tables import UNSET, cell, fields, table

MOST = 20
"""Maximal rows of an additional table."""

ELSEWHERE = frozenset(
    {"metadata", "status", "nodes", "deployments", "refusals", "live", "rollout", "liveness"}
)
"""Fields that have their own sections."""

Section = tuple[str, str]


@click.command()
@click.argument("kind")
@click.argument("name")
@as_of_option
@formed
@connected
def describe(where: Connection, kind: str, name: str, as_of: str | None, form: OutputFormat) -> int:
    """Show all details of the resource NAME of KIND."""
    from signalbox.cli.resources.kinds import kind as kind_of

    aggregate = kind_of(kind)
    client = Client(where)
    document = one(client, aggregate, name, as_of)
    if form != "table":
        emit(document, form)
        return 0
    sections = [("", page(document))]
    if more := MORE.get(aggregate.name):
        sections += more(client, document, as_of)
    for title, text in sections:
        if title:
            click.echo(f"\n{title}")
        click.echo(text)
    return 0


def page(document: Mapping[str, Any]) -> str:
    """The fields of a resource and the times of its creation and last change; nested fields are indented."""
    shown = {"name": document["name"]} if "name" in document else {}
    shown.update((k, _timed(k, v)) for k, v in document.items() if k not in ELSEWHERE)
    metadata = members(document.get("metadata"))
    present = now()
    for label, key in (("created", "created_at"), ("changed", "changed_at")):
        if at := metadata.get(key):
            shown[label] = f"{clock(at)} ({ago(at, present)})"
    if "version" in metadata:
        shown.setdefault("version", metadata["version"])
    return "\n".join(_lines(shown, ""))


def _timed(key: str, value: Any) -> Any:
    return clock(value) if key.endswith("_at") and isinstance(value, str) else value


def _lines(document: Mapping[str, Any], indent: str) -> list[str]:
    lines: list[str] = []
    plain: list[tuple[str, str]] = []
    nested: list[tuple[str, Any]] = []
    for key, value in document.items():
        label = key.replace("_", " ")
        if value in UNSET:
            continue
        if is_object(value) or (is_list(value) and any(map(is_object, value))):
            nested.append((label, value))
        else:
            plain.append((label, cell(value)))
    if plain:
        lines.append(fields(plain, indent))
    for label, value in nested:
        lines.append(f"{indent}{label}:")
        if is_object(value):
            lines += _lines(value, indent + "  ")
        else:
            lines += [f"{indent}  {cell(entry)}" for entry in value]
    return lines


def _deployment(client: Client, document: Document, as_of: str | None) -> list[Section]:
    known = members(document.get("status"))
    if not known:
        return []
    times: Mapping[str, str | None] = known["facts"]
    rows: list[list[str]] = []
    requested = times.get("requested")
    before: str | None = None
    for fact in FACTS:
        at = times.get(fact)
        if not at:
            rows.append([fact, "not yet", "", ""])
            continue
        since = between(requested, at) if before and requested else ""
        rows.append([fact, clock(at), since, between(before, at) if before else ""])
        before = at
    sections = [("Facts", table(["fact", "when (utc)", "since request", "step"], rows))]
    nodes = [
        [gateway, "all nodes" if node == "*" else node, fact, clock(seen["first_at"]), _last(seen)]
        for gateway, report in members(known.get("gateways")).items()
        for node, reported in members(report.get("nodes")).items()
        for fact, seen in sorted(members(reported).items(), key=_first)
    ]
    if nodes:
        sections.append(
            ("Gateways and nodes", table(["gateway", "node", "fact", "first (utc)", "last (utc)"], nodes))
        )
    refusals = [
        f"{r['gateway']}, node {r['node']}, at {clock(r['at'])}: {r.get('reason') or 'no reason given'}"
        for r in documents(known.get("refusals"))
    ]
    if refusals:
        if known.get("state") in REFUSED:
            refusals.append(_again(document))
        some = known.get("state") == "partly-refused"
        sections.append(("Refused by some nodes" if some else "Refused", "\n".join(refusals)))
    if (
        known.get("state") == "pending"
        and as_of is None
        and (deaf := not_listening(client, unanswered(known)))
    ):
        sections.append(("Not listening", "\n".join(deaf)))
    remarks = no_node(known) + keeps_serving(document, known)
    if still := documents(known.get("live")):
        remarks.append(f"this deployment is live on {cell(still)}")
    if remarks:
        sections.append(("Live", "\n".join(remarks)))
    if rollout := members(document.get("rollout")):
        have = "have it" if rollout["nodes"] != 1 else "has it"
        why = f"; {rollout['reason']}" if rollout.get("reason") else ""
        sections.append(("Rollout", f"{_derived(rollout, 'reached')} {have}{why}"))
    return sections


def _again(document: Document) -> str:
    """How to retry a refused deployment."""
    gateways = [str(gateway) for gateway in document.get("gateways") or ()]
    target = document.get("environment") or (gateways[0] if len(gateways) == 1 else "GATEWAY")
    command = f"`signalbox deploy {document.get('api')}@{document.get('revision')} --to {target}`"
    return way_out(str(document.get("name")), command)


def _derived(report: Mapping[str, Any], counted: str) -> str:
    """A state from a derived stream: since when, and for how many nodes."""
    nodes = "node" if report["nodes"] == 1 else "nodes"
    since = f"{clock(report['since'])} UTC ({ago(report['since'], now())})"
    return f"{report['state']} since {since}: {report[counted]:,} of {report['nodes']:,} {nodes}"


def _first(entry: tuple[str, Any]) -> str:
    return entry[1]["first_at"]


def _last(seen: Mapping[str, Any]) -> str:
    return "-" if seen["last_at"] == seen["first_at"] else clock(seen["last_at"])


def _api(client: Client, document: Document, as_of: str | None) -> list[Section]:
    name = document["name"]
    present = now()
    query = {"as_of": as_of}
    revisions = list(client.items(client.organization("apis", name, "revisions"), query))
    listed = [
        [str(r["revision"]), cell(r["spec"]["version"]), cell(r["spec"]["context"]), _changed(r, present)]
        for r in reversed(revisions[-MOST:])
    ]
    title = "Revisions" if len(revisions) <= MOST else f"Revisions (the newest {MOST} of {len(revisions)})"
    sections = [(title, table(["revision", "version", "context", "published"], listed))]
    where = client.organization("deployments")
    running = list(client.items(where, {"api": name, "state": "active", **query}, MOST))
    sections.append(("Deployed", deployments(running, present, api=False) if running else "nowhere"))
    there = live(client, api=name, as_of=as_of)
    return [*sections, ("Live", listing(there, present, without=("api",)) if there else "nowhere")]


def _gateway(client: Client, document: Document, as_of: str | None) -> list[Section]:
    present = now()
    nodes = documents(document.get("nodes"))
    if as_of is not None:
        sections = [("Nodes", "not known: only the present state of nodes is stored")]
    elif not nodes:
        sections = [("Nodes", "none yet")]
    else:
        rows = [[*_seen(node, present), *_runs(members(node.get("deployments")))] for node in nodes]
        headers = [
            "node",
            "connected",
            "agent",
            "last seen",
            "acknowledged",
            "refused",
            "pending",
            "withheld",
        ]
        sections = [("Nodes", table(headers, rows))]
    deaf = [f"{node['node']}: {node['listener_refused']}" for node in nodes if node.get("listener_refused")]
    if deaf:
        sections.append(("Not listening at the gateway's address", "\n".join(deaf)))
    if liveness := members(document.get("liveness")):
        sections.append(("Liveness", f"{_derived(liveness, 'heard')} alive"))
    elif as_of is None:
        expected = "not known yet: its nodes are expected to connect again"
        sections.append(("Liveness", expected if nodes else "no node has connected yet"))
    counts = members(document.get("deployments"))
    if counts:
        refused = f", {counts['refused']:,} of them refused" if counts["refused"] else ""
        sections.append(("Deployments", f"{counts['desired']:,} in force{refused}"))
    refusals = documents(document.get("refusals"))
    if refusals:
        count = counts.get("refused", len(refusals))
        title = "Refused" if count <= len(refusals) else f"Refused (the newest {len(refusals)} of {count:,})"
        connected = sum(bool(node.get("connected")) for node in nodes)
        report = [
            f"{r['api']} revision {r['revision']}, {_refusers(r, connected, present)}: "
            f"{r['reason'] or 'no reason given'}"
            for r in refusals
        ]
        sections.append((title, "\n".join(report)))
    there = live(client, gateway=document["name"], as_of=as_of, most=MOST + 1)
    title = "Live" if len(there) <= MOST else f"Live (the first {MOST}; `signalbox get live` lists all)"
    return [*sections, (title, listing(there[:MOST], present, without=("gateway",)) if there else "nothing")]


def _seen(node: Mapping[str, Any], present: float) -> list[str]:
    connected = bool(node.get("connected"))
    seen = "now" if connected else ago(node["last_seen"], present)
    return [node["node"], cell(connected), cell(node.get("agent")), seen]


def _runs(counts: Mapping[str, int]) -> list[str]:
    """Numbers of deployments in force: acknowledged, refused, not answered yet, and not sent to this node."""
    if not counts:
        return ["-", "-", "-", "-"]
    desired, acknowledged, refused, pending = (
        counts[k] for k in ("desired", "acknowledged", "refused", "pending")
    )
    return [f"{acknowledged:,} of {desired:,}", f"{refused:,}", f"{pending:,}", cell(counts.get("withheld"))]


def _refusers(refusal: Mapping[str, Any], connected: int, present: float) -> str:
    """The connected nodes that refused it, and when. It is withheld when it is no longer sent to any
    node."""
    nodes, node = refusal["nodes"], refusal.get("refused_by")
    if nodes == 0 and not refusal.get("withheld", True):
        return f"refused by {node}, no connected node has answered yet, {ago(refusal['at'], present)}"
    if nodes == 0 and node not in (None, "*"):
        return f"refused by {node}, withheld since {clock(refusal['at'])} UTC"
    if 0 < nodes < connected:
        who = f"by {nodes:,} of {connected:,} nodes, last by {node or 'one'}"
    else:
        who = f"by {nodes:,} node{'s' if nodes > 1 else ''}" if nodes else "not sent to any node"
    return f"{who}, {ago(refusal['at'], present)}"


def _changed(document: Mapping[str, Any], present: float) -> str:
    at: str | None = members(document.get("metadata")).get("created_at")
    return ago(at, present) if at else "-"


MORE: Mapping[str, Callable[[Client, Document, str | None], list[Section]]] = {
    "deployment": _deployment,
    "api": _api,
    "gateway": _gateway,
}
"""Additional sections by kind."""
