"""Live revisions, as tables and text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from signalbox.cli.http.client import Client
from signalbox.cli.http.documents import Document
from signalbox.cli.http.documents import document as members
from signalbox.cli.moments import ago
from signalbox.cli.tables import cell, table


def live(
    client: Client,
    *,
    gateway: str | None = None,
    api: str | None = None,
    as_of: str | None = None,
    most: int | None = None,
) -> list[Document]:
    """The live revisions, now or at `as_of`: `{gateway, api, revision, deployment, since, nodes}`, by
    gateway and API."""
    query = {"gateway": gateway, "api": api, "as_of": as_of}
    return list(client.items(client.organization("live"), query, most))


def listing(items: Iterable[Mapping[str, Any]], present: float, *, without: Sequence[str] = ()) -> str:
    """The table of live revisions; `without` names columns that are left out."""
    headers = ["api", "revision", "gateway", "nodes", "since", "deployment"]
    shown = [i for i, name in enumerate(headers) if name not in without]
    rows = [
        [
            cell(item.get("api")),
            cell(item.get("revision")),
            cell(item.get("gateway")),
            nodes(item),
            ago(item["since"], present) if item.get("since") else "-",
            cell(item.get("deployment")),
        ]
        for item in items
    ]
    return table([headers[i] for i in shown], [[row[i] for i in shown] for row in rows])


def nodes(item: Mapping[str, Any]) -> str:
    """The number of connected nodes that have it; not known of the past."""
    counts = members(item.get("nodes"))
    if not counts:
        return "-"
    return (
        f"{counts['acknowledged']:,} of {counts['connected']:,}" if counts["connected"] else "none connected"
    )


def places(items: Iterable[Mapping[str, Any]]) -> str:
    """The live revisions by gateway: `4@local, 3@edge (no node connected)`."""
    return cell([f"{item['revision']}@{item['gateway']}{_outage(item)}" for item in items])


def _outage(item: Mapping[str, Any]) -> str:
    counts = members(item.get("nodes"))
    return " (no node connected)" if counts and not counts["connected"] else ""


def keeps_serving(deployment: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """The revisions of a deployment's API that are live instead of it: `orders@4 keeps serving on local`.

    For a gateway without connected nodes: `orders@4 was live on edge`.
    """
    kept: dict[tuple[str, str], list[str]] = {}
    for gateway, status in members(known.get("gateways")).items():
        there = members(members(status).get("live"))
        if there and there["deployment"] != deployment.get("name"):
            what = f"{deployment.get('api') or 'revision '}@{there['revision']}"
            does = "was live" if members(status).get("connected") == 0 else "keeps serving"
            kept.setdefault((what, does), []).append(gateway)
    return [f"{what} {does} on {cell(gateways)}" for (what, does), gateways in kept.items()]
