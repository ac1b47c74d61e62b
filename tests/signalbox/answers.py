"""What the server answers, for the tests of the command line."""

from textwrap import dedent
from typing import Any

from tests.signalbox.server_stand_in import Scripted

ORG = "/organizations/default"
T = "2026-11-21T09:30:0"


def metadata(changed: str = f"{T}7.000000Z") -> dict[str, Any]:
    return {"version": 2, "position": 9, "created_at": f"{T}0.000000Z", "changed_at": changed}


def api(name: str, revision: int = 1) -> dict[str, Any]:
    spec = {"version": "v1", "context": f"/{name}", "operations": [{"method": "GET", "path": "/"}]}
    return {"name": name, "project": "default", "revision": revision, "spec": spec, "metadata": metadata()}


def fact(at: str, reason: str = "") -> dict[str, str]:
    return {"first_at": at, "last_at": at, "version": "1", "reason": reason}


def live(gateway: str, revision: int) -> dict[str, Any]:
    """What is live on a gateway."""
    return {
        "gateway": gateway,
        "api": "orders",
        "revision": revision,
        "deployment": f"d-{revision}",
        "since": f"{T}2.000000Z",
        "nodes": {"connected": 2, "acknowledged": 1},
    }


PENDING = {"state": "pending", "facts": {}, "gateways": {}, "refusals": []}
SERVING = {
    "state": "serving",
    "facts": {
        "requested": f"{T}1.000000Z",
        "decided": f"{T}1.001500Z",
        "published": f"{T}1.003500Z",
        "acknowledged": f"{T}1.012000Z",
        "serving": f"{T}2.500000Z",
        "refused": None,
    },
    "gateways": {
        "local": {
            "nodes": {
                "*": {"published": fact(f"{T}1.003500Z")},
                "envoy-1": {"acknowledged": fact(f"{T}1.012000Z"), "serving": fact(f"{T}2.500000Z")},
            }
        }
    },
    "refusals": [],
}
REFUSED = {
    "state": "refused",
    "facts": {
        "requested": f"{T}1.000000Z",
        "decided": f"{T}1.001500Z",
        "published": f"{T}1.003500Z",
        "acknowledged": None,
        "serving": None,
        "refused": f"{T}1.020000Z",
    },
    "gateways": {"local": {"nodes": {"envoy-1": {"refused": fact(f"{T}1.020000Z", "bad regex")}}}},
    "refusals": [{"gateway": "local", "node": "envoy-1", "at": f"{T}1.020000Z", "reason": "bad regex"}],
}


def deployment(name: str, facts: Any) -> dict[str, Any]:
    return {
        "name": name,
        "api": "orders",
        "revision": 3,
        "gateways": ["local"],
        "context": "/orders",
        "hosts": ["*"],
        "requested_at": f"{T}1.000000Z",
        "state": "active",
        "status": facts,
        "metadata": metadata(),
    }


def page(*items: Any, cursor: str | None = None) -> Scripted:
    return Scripted({"items": list(items), "next_cursor": cursor})


def golden(text: str) -> str:
    return dedent(text).lstrip("\n")
