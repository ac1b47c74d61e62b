"""Deployments: reading shows the five facts, per gateway and node."""

from collections.abc import Sequence
from typing import Any, get_args

from api.endpoint import Call
from api.presenter import Presenter
from projections.asking import AsOf
from projections.statistics import rollouts_in
from schemas.status import RolloutState


async def _facts(call: Call, organization: str, shown: dict[str, Any], as_of: AsOf) -> None:
    name = shown["name"]
    shown["status"] = await call.services.read_models.deployment_facts(organization, name, as_of)
    if as_of is None:
        told = await call.services.read_models.ask(lambda s: rollouts_in(s, organization, [name]))
        if told is not None and name in told:
            shown["rollout"] = told[name]


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
    },
    "rollout": {
        "type": "object",
        "description": "Its state as it was told last. On Kafka, once a node has answered; of one "
        "deployment, not with `as_of`.",
        "properties": {
            "state": {"enum": list(get_args(RolloutState))},
            "nodes": {"type": "integer", "description": "How many are to take it."},
            "reached": {"type": "integer", "description": "How many of them have acknowledged it."},
            "reason": {"type": "string", "description": "Why it is refused."},
            "since": {"type": "string", "format": "date-time"},
        },
    },
}

PRESENTER = Presenter(
    filters=("api", "state", "environment"),
    one=_facts,
    many=_all_facts,
    additions=_STATUS,
)
