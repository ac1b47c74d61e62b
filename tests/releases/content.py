"""The resources in the kept data of a release, and the answers of the HTTP API on them."""

import json
from typing import Any

from tests.support.calls import Calls, specification
from tests.support.running_signalbox import RunningSignalbox

ORGANIZATIONS = "/api/v1/organizations"
MOMENTARY = frozenset({"nodes", "last_seen", "connected", "status", "running"})
"""Fields that depend on the gateways that are connected now."""


def fill(calls: Calls, upstream: str) -> None:
    """Two organizations, APIs with revisions, a second gateway; active, replaced and stopped deployments."""
    for name in ("acme", "default"):
        _put(calls, f"{ORGANIZATIONS}/{name}", {"display_name": f"The organization {name}"})
        _put(calls, f"{ORGANIZATIONS}/{name}/projects/default", {})
    registered = calls.command("gateway.command.register", {"name": "edge", "token_digest": "0" * 64})
    assert registered.status == 200, str(registered)
    for title in ("Orders", "Orders and returns"):
        calls.publish("orders", specification("/orders", upstream, display_name=title))
        assert calls.settled(calls.deploy("orders"))["state"] == "serving"
    for name in ("billing", "stock"):
        calls.publish(name, specification(f"/{name}", upstream, display_name=name.title()))
    assert calls.settled(calls.deploy("billing"))["state"] == "serving"
    stopped = calls.deploy("stock")
    assert calls.settled(stopped)["state"] == "serving"
    assert calls.undeploy(stopped).status == 200
    command = {
        "specversion": "1.0",
        "id": "acme-publishes-reports",
        "source": "/releases",
        "type": "io.signalbox.api.command.publish.v1",
        "data": {"organization": "acme", "name": "reports", "spec": specification("/reports", upstream)},
    }
    sent = calls.send(
        "POST",
        f"{ORGANIZATIONS}/acme/commands",
        json.dumps(command).encode(),
        content_type="application/cloudevents+json",
        prefer="wait=60",
    )
    assert sent.status == 200, str(sent)


def _put(calls: Calls, path: str, body: object) -> None:
    sent = calls.send("PUT", path, json.dumps(body).encode(), prefer="wait=60", if_none_match="*")
    assert sent.status in (200, 201, 409, 412, 428), f"{path}: {sent}"


def answers(harness: RunningSignalbox, at: str) -> dict[str, Any]:
    """By path: lists of resources, revisions and the live view as of `at` (RFC 3339), and the events up to
    then. Later changes, such as a gateway's new port, do not count."""
    calls = harness.calls()
    found: dict[str, Any] = {}
    for organization in ("acme", "default"):
        below = f"{ORGANIZATIONS}/{organization}"
        for path in ("apis", "projects", "gateways", "deployments", "live"):
            found[f"{below}/{path}"] = _got(calls, f"{below}/{path}?as_of={at}")
        events = _got(calls, f"{below}/events?limit=1000")
        found[f"{below}/events"] = [event for event in events if event["time"] <= at]
    revisions = f"{ORGANIZATIONS}/default/apis/orders/revisions"
    found[revisions] = _got(calls, f"{revisions}?as_of={at}")
    calls.close()
    return found


def parked(harness: RunningSignalbox) -> list[str]:
    """The reasons of the messages on the dead-letter topic."""
    calls = harness.calls()
    reply = calls.send("GET", "/api/v1/parked/topic")
    calls.close()
    assert reply.status == 200, str(reply)
    return [item["reason"] for item in reply.json["items"]]


def _got(calls: Calls, path: str) -> Any:
    reply = calls.send("GET", path)
    assert reply.status == 200, f"{path}: {reply}"
    body = reply.json
    return _lasting(body["items"] if isinstance(body, dict) and "items" in body else body)


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lasting(each) for name, each in value.items() if name not in MOMENTARY}
    if isinstance(value, list):
        return [_lasting(each) for each in value]
    return value
