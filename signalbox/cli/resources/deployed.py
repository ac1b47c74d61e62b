"""The table of deployments."""

from collections.abc import Mapping, Sequence
from typing import Any

from signalbox.cli.http.documents import Document, document
from signalbox.cli.moments import ago
from signalbox.cli.resources.facts import standing
from signalbox.cli.tables import cell, table


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
