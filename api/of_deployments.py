"""Deployments: reading shows the five facts, per gateway and node."""

from collections.abc import Sequence
from typing import Any

from api.endpoint import Call
from api.presenter import Presenter
from projections.asking import AsOf


async def _facts(call: Call, organization: str, shown: dict[str, Any], as_of: AsOf) -> None:
    shown["status"] = await call.services.read_models.deployment_facts(organization, shown["name"], as_of)


async def _all_facts(call: Call, organization: str, items: Sequence[dict[str, Any]], as_of: AsOf) -> None:
    if as_of is not None or not items:
        return
    facts = await call.services.read_models.facts_of(organization, [item["name"] for item in items])
    for item in items:
        item["status"] = facts.get(item["name"])


_TIME = {"type": ["string", "null"], "format": "date-time"}
_STATUS = {
    "status": {
        "type": ["object", "null"],
        "description": "How far it has come: the facts with their times, per gateway and node.",
        "properties": {
            "state": {"enum": ["pending", "acknowledged", "serving", "refused", "stopped"]},
            "facts": {
                "type": "object",
                "properties": dict.fromkeys(
                    ("requested", "decided", "published", "acknowledged", "serving", "refused"), _TIME
                ),
            },
            "gateways": {"type": "object"},
            "refusals": {"type": "array", "items": {"type": "object"}},
        },
    }
}

PRESENTER = Presenter(
    filters=("api", "state", "environment"),
    one=_facts,
    many=_all_facts,
    additions=_STATUS,
)
