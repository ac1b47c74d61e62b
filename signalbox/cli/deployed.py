"""The table of deployments."""

from collections.abc import Mapping, Sequence
from typing import Any

from signalbox.cli.documents import Document, document
from signalbox.cli.facts import standing
from signalbox.cli.moments import ago
from signalbox.cli.tables import cell, table


def _reached(item: Mapping[str, Any]) -> Document:
    """The gateways that a deployment reached, also when it is in force on none any more."""
    return document(document(item.get("status")).get("gateways"))


def deployments(items: Sequence[Mapping[str, Any]], present: float, api: bool = True) -> str:
    """What runs where, how far it has come and since when; why it is not what serves, of those that are not.

    `api`: whether to name the API.
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
