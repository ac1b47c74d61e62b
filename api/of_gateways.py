"""Gateways: registering makes the token its nodes connect with; reading shows the nodes."""

import secrets
from collections.abc import Mapping
from typing import Any

from api.endpoint import Call
from api.presenter import Presenter, json_object
from api.problems import Problem
from api.submission import Draft
from projections.asking import AsOf
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
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    return Draft(
        {**fields, "token_digest": sha256_hex(token.encode())},
        chosen=frozenset({"token_digest"}),
        secret={"token": token},
    )


async def _nodes(call: Call, organization: str, shown: dict[str, Any], as_of: AsOf) -> None:
    nodes = await call.services.read_models.nodes(organization, shown["name"])
    shown["nodes"] = [_node(node) for node in nodes]


def _node(node: Mapping[str, Any]) -> dict[str, Any]:
    return dict(node)


PRESENTER = Presenter(
    filters=("environment", "kind"),
    one=_nodes,
    additions={
        "nodes": {
            "type": "array",
            "description": "The proxies that run this gateway, and when each was seen.",
            "items": {"type": "object"},
        }
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
