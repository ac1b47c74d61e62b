"""Deployments: reading shows the five facts, per gateway and node."""

from collections.abc import Sequence
from typing import Any, get_args

from api.call import Call
from api.resources.presenter import Presenter
from projections.deliveries.deployment_facts import State
from projections.derived.rollouts import rollout_state
from projections.pages import AsOf
from schemas.status import RolloutState


async def _facts(call: Call, organization: str, shown: dict[str, Any], as_of: AsOf) -> None:
    status = await call.services.read_models.deployment_facts(organization, shown["name"], as_of)
    shown["status"] = status
    if as_of is None and status is not None:
        rollout = rollout_state(status, shown.get("gateways") or ())
        if rollout["state"] != "pending":
            shown["rollout"] = {**rollout, "since": status["since"]}


async def _all_facts(call: Call, organization: str, items: Sequence[dict[str, Any]], as_of: AsOf) -> None:
    if not items:
        return
    facts = await call.services.read_models.facts_of(organization, [item["name"] for item in items], as_of)
    for item in items:
        item["status"] = facts.get(item["name"])


_TIME = {"type": ["string", "null"], "format": "date-time"}
_STATUS = {
    "status": {
        "type": ["object", "null"],
        "description": "Its progress: the facts with their times, per gateway and node.",
        "properties": {
            "state": {
                "enum": list(get_args(State)),
                "description": "`acknowledged`: every connected node has it, on every gateway; "
                "`partly-refused`: some connected nodes have it, others refuse it; `refused`: all of them "
                "refuse it, or the gateway rolled back; `offline`: it "
                "was acknowledged, and a gateway has no connected node now; `stopping`: asked to stop, and "
                "a node still has it. With `as_of` the state then; `offline` is not available then.",
            },
            "since": {
                "type": "string",
                "format": "date-time",
                "description": "When the state began. Not with `as_of`.",
            },
            "facts": {
                "type": "object",
                "properties": dict.fromkeys(
                    ("requested", "decided", "published", "acknowledged", "serving", "refused"), _TIME
                ),
            },
            "gateways": {
                "type": "object",
                "description": "By gateway; with `as_of` only `live`: current nodes alone are stored.",
                "additionalProperties": {
                    "type": "object",
                    "properties": {
                        "connected": {"type": "integer", "description": "Connected nodes."},
                        "acknowledged": {"type": "integer", "description": "Those that have it."},
                        "live": {
                            "type": ["object", "null"],
                            "description": "The API's live revision there, even if another was requested.",
                            "properties": {
                                "deployment": {"type": "string"},
                                "revision": {"type": "integer"},
                                "since": {"type": "string", "format": "date-time"},
                            },
                        },
                        "nodes": {
                            "type": "object",
                            "description": "Each connected node's answer (for a single deployment only).",
                        },
                    },
                },
            },
            "refusals": {"type": "array", "items": {"type": "object"}},
            "live": {
                "type": "array",
                "items": {"type": "string"},
                "description": "The gateways where this deployment is live, even if another was requested "
                "later.",
            },
            "offline": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Its gateways without a connected node.",
            },
        },
    },
    "rollout": {
        "type": "object",
        "description": "Its published state, once a node has answered; for a single deployment, not with "
        "`as_of`.",
        "properties": {
            "state": {"enum": list(get_args(RolloutState))},
            "nodes": {"type": "integer", "description": "The number of nodes it is for."},
            "reached": {"type": "integer", "description": "The number of nodes that acknowledged it."},
            "reason": {"type": "string", "description": "Why it is refused, or partly refused."},
            "since": {"type": "string", "format": "date-time"},
        },
    },
}

PRESENTER = Presenter(
    filters=("api", "gateways", "state", "environment"),
    extend_item=_facts,
    extend_list=_all_facts,
    additions=_STATUS,
)
