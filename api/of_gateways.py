"""Gateways: registering makes the token its nodes connect with; reading shows the nodes and what they run."""

import secrets
from collections.abc import Mapping
from typing import Any

from api.endpoint import Call, Schema
from api.presenter import Presenter, json_object
from api.problems import Problem
from api.submission import Draft
from projections.asking import AsOf
from projections.gateway_facts import MOST_REFUSALS
from projections.statistics import liveness_in
from schemas.canonical import sha256_hex
from schemas.gateway import RegisterGateway
from schemas.message import Command

TOKEN_PREFIX = "sbg_"


async def _register(call: Call, model: type[Command], name: str | None) -> Draft:
    fields = json_object(await call.request.body())
    if "token_digest" in fields:
        raise Problem(
            422,
            "invalid-command",
            "The body is not valid.",
            errors=[
                {"pointer": "/token_digest", "detail": "the token is made here", "rule": "extra-forbidden"}
            ],
        )
    return registration(fields)


def registration(fields: Mapping[str, Any]) -> Draft:
    """The fields of a RegisterGateway with the digest of a new token, which is shown once."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    return Draft(
        {**fields, "token_digest": sha256_hex(token.encode())},
        chosen=frozenset({"token_digest"}),
        secret={"token": token},
    )


async def _running(call: Call, organization: str, shown: dict[str, Any], as_of: AsOf) -> None:
    read_models = call.services.read_models
    nodes = await read_models.nodes(organization, shown["name"])
    shown["nodes"] = [dict(node) for node in nodes]
    if as_of is not None:
        return  # of each node only its last word is kept: what it ran then is not known
    told = await read_models.ask(lambda s: liveness_in(s, organization, shown["name"]))
    if told is not None:
        shown["liveness"] = told
    facts = await read_models.gateway_facts(organization, shown["name"])
    said_nothing = {"acknowledged": 0, "refused": 0}
    for node in shown["nodes"]:
        said = facts.nodes.get(node["node"], said_nothing)
        pending = facts.desired - facts.withheld - sum(said.values())
        node["deployments"] = {"desired": facts.desired, **said, "pending": max(pending, 0)}
    shown["deployments"] = {
        "desired": facts.desired,
        "refused": facts.refused,
        "withheld": facts.withheld,
    }
    shown["refusals"] = list(facts.refusals)


def _counts(**described: str) -> Schema:
    return {
        "type": "object",
        "required": list(described),
        "properties": {
            name: {"type": "integer", "minimum": 0, "description": text} for name, text in described.items()
        },
    }


_DESIRED = "Deployments in force on this gateway."
_REFUSED = "Those of them that are refused, by a node or by the gateway as a whole."
_WITHHELD = "Those of them that no node is sent: they cannot be put on this kind of gateway."
_NODE: Schema = {
    "type": "object",
    "required": ["node", "connected", "agent", "first_seen", "last_seen"],
    "properties": {
        "node": {"type": "string", "examples": ["envoy-1"]},
        "connected": {"type": "boolean"},
        "agent": {"type": "string", "examples": ["envoy 1.40.0"]},
        "first_seen": {"type": "string", "format": "date-time"},
        "last_seen": {"type": "string", "format": "date-time"},
        "deployments": _counts(
            desired=_DESIRED,
            acknowledged="Those the node took, as its last word.",
            refused="Those it refused, as its last word.",
            pending="Those it was sent, or will be, and has not answered.",
        ),
    },
}
_REFUSAL: Schema = {
    "type": "object",
    "required": ["deployment", "api", "revision", "reason", "at", "nodes"],
    "properties": {
        "deployment": {"type": "string"},
        "api": {"type": "string"},
        "revision": {"type": "integer"},
        "reason": {"type": "string"},
        "at": {"type": "string", "format": "date-time"},
        "nodes": {
            "type": "integer",
            "description": "How many nodes refuse it; 0 when none was asked: it cannot be put on this kind "
            "of gateway.",
        },
    },
}

PRESENTER = Presenter(
    filters=("environment", "kind"),
    one=_running,
    additions={
        "nodes": {
            "type": "array",
            "description": "The proxies that run this gateway, when each was seen, and how much of what is "
            "desired it runs (not with `as_of`).",
            "items": _NODE,
        },
        "liveness": {
            "type": "object",
            "description": "Whether its nodes are heard of, and since when it is so. On Kafka, once a node "
            "was there; not with `as_of`.",
            "properties": {
                "state": {"enum": ["healthy", "degraded", "offline"]},
                "nodes": {"type": "integer", "description": "How many count."},
                "heard": {"type": "integer", "description": "How many of them were heard of lately."},
                "since": {"type": "string", "format": "date-time"},
            },
        },
        "deployments": _counts(desired=_DESIRED, refused=_REFUSED, withheld=_WITHHELD),
        "refusals": {
            "type": "array",
            "description": f"The newest refusals of deployments in force, at most {MOST_REFUSALS}.",
            "items": _REFUSAL,
        },
    },
    drafts={RegisterGateway: _register},
    omitted=frozenset({"token_digest"}),
    secrets={
        RegisterGateway: {
            "token": {
                "type": "string",
                "description": "What the nodes connect with. Shown once, and kept nowhere.",
                "examples": ["sbg_Zm9vYmFyYmF6"],
            }
        }
    },
)
