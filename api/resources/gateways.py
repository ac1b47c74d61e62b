"""Gateways: registering creates the token of the nodes; reading shows the nodes and their deployments."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from api.call import Call, Schema
from api.problems import invalid_body
from api.resources.presenter import Presenter, command_body, json_object
from api.submission import CommandDraft
from projections.deliveries.gateway_facts import MOST_REFUSALS
from projections.pages import AsOf
from schemas.aggregates.gateway import TOKEN_PREFIX, RegisterGateway
from schemas.codecs.canonical import sha256_hex
from schemas.message import Command


async def _register(call: Call, model: type[Command], name: str | None) -> CommandDraft:
    fields = json_object(await command_body(call))
    if "token_digest" in fields:
        raise invalid_body(
            {"pointer": "/token_digest", "detail": "the server creates the token", "rule": "extra-forbidden"}
        )
    return registration(fields)


def registration(fields: Mapping[str, Any]) -> CommandDraft:
    """The fields of a RegisterGateway with the digest of a new token, which is shown once."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    return CommandDraft(
        {**fields, "token_digest": sha256_hex(token.encode())},
        chosen=frozenset({"token_digest"}),
        secret={"token": token},
    )


async def _running(call: Call, organization: str, shown: dict[str, Any], as_of: AsOf) -> None:
    if as_of is not None:
        return  # only current nodes are stored
    page = await call.services.read_models.gateway_page(organization, shown["name"])
    facts = page.facts
    shown["nodes"] = [{name: value for name, value in n.items() if name != "connection"} for n in page.nodes]
    shown["connected"] = sum(node["connected"] for node in page.nodes)
    if page.liveness is not None:
        shown["liveness"] = page.liveness
    for node in shown["nodes"]:
        if node["connected"] and (counts := facts.nodes.get(node["node"])) is not None:
            node["deployments"] = {"desired": facts.desired, **counts}
    shown["deployments"] = {
        "desired": facts.desired,
        "refused": facts.refused,
        "withheld": facts.withheld,
    }
    shown["refusals"] = list(facts.refusals)


async def _connected(call: Call, organization: str, items: Sequence[dict[str, Any]], as_of: AsOf) -> None:
    if as_of is not None or not items:
        return
    counts = await call.services.read_models.connected(organization, [item["name"] for item in items])
    for item in items:
        item["connected"] = counts[item["name"]]


def _counts(**described: str) -> Schema:
    return {
        "type": "object",
        "required": list(described),
        "properties": {
            name: {"type": "integer", "minimum": 0, "description": text} for name, text in described.items()
        },
    }


_DESIRED = "Deployments in force on this gateway."
_REFUSED = (
    "Those of them that are refused, by a node or by the gateway as a whole. The refusal of a node that has "
    "left counts until a node acknowledges the deployment."
)
_WITHHELD = (
    "Those of them that are sent to no node: this kind of gateway does not support them, or they were "
    "refused and rolled back."
)
_NODE: Schema = {
    "type": "object",
    "required": ["node", "connected", "agent", "first_seen", "last_seen", "listener_refused"],
    "properties": {
        "node": {"type": "string", "examples": ["envoy-1"]},
        "connected": {"type": "boolean"},
        "agent": {"type": "string", "examples": ["envoy 1.40.0"]},
        "first_seen": {"type": "string", "format": "date-time"},
        "last_seen": {"type": "string", "format": "date-time"},
        "listener_refused": {
            "type": "string",
            "description": "Why the node does not listen at the gateway's address, such as a port that is "
            "taken; empty when it does.",
        },
        "deployments": _counts(
            desired=_DESIRED,
            acknowledged="Those that the node acknowledged on its current connection.",
            refused="Those that it refused.",
            pending="Those that are or will be sent to it, and that it has not answered.",
            withheld="Those that are not sent to it: refused, and rolled back.",
        ),
    },
}
_REFUSAL: Schema = {
    "type": "object",
    "required": ["deployment", "api", "revision", "reason", "at", "nodes", "refused_by", "withheld"],
    "properties": {
        "deployment": {"type": "string"},
        "api": {"type": "string"},
        "revision": {"type": "integer"},
        "reason": {"type": "string"},
        "at": {"type": "string", "format": "date-time"},
        "nodes": {
            "type": "integer",
            "description": "Connected nodes that refuse it; 0 when it is withheld, and while the node "
            "that refused it has left and no other one has answered.",
        },
        "refused_by": {
            "type": "string",
            "description": "The node that refused it last; `*` when it was refused for the gateway as a "
            "whole, before it was sent to any node.",
            "examples": ["envoy-1"],
        },
        "withheld": {
            "type": "boolean",
            "description": "Whether it is sent to no node: its kind of gateway does not support it, or it "
            "was rolled back, and no connected node refuses it any more.",
        },
    },
}

PRESENTER = Presenter(
    filters=("environment", "kind"),
    extend_item=_running,
    extend_list=_connected,
    additions={
        "connected": {
            "type": "integer",
            "minimum": 0,
            "description": "The number of connected nodes. Not with `as_of`: only current nodes are stored.",
        },
        "nodes": {
            "type": "array",
            "description": "The proxies of this gateway, the times each was seen, and for connected ones the "
            "numbers of deployments they run. A node that left is removed after an hour. Not with `as_of`: "
            "only current nodes are stored.",
            "items": _NODE,
        },
        "liveness": {
            "type": "object",
            "description": "Whether its nodes are connected, and since when. Present once a node was "
            "connected; not with `as_of`, and not while its nodes are expected to reconnect, for up to "
            "30 seconds after a start of Signalbox.",
            "properties": {
                "state": {"enum": ["healthy", "degraded", "offline"]},
                "nodes": {"type": "integer", "description": "The number of expected nodes."},
                "heard": {"type": "integer", "description": "The number of them with a recent heartbeat."},
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
                "description": "The token that the nodes connect with. Shown once, and not stored.",
                "examples": ["sbg_Zm9vYmFyYmF6"],
            }
        }
    },
)
