"""Requests to a Signalbox: commands, facts of deployments, the event log."""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from schemas.identity import uuid7
from tests.support.connection import HANG_SECONDS, Answer, Connection

T = TypeVar("T")
ORGANIZATION = "/api/v1/organizations/default"
CLOUDEVENT = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
LONGEST_WAIT = 60.0
"""Seconds that the HTTP API waits at most."""
SETTLED = ("serving", "partly-refused", "refused", "stopped")


def until(
    wanted: Callable[[], T | None], what: str, seconds: float = HANG_SECONDS, pause: float = 0.005
) -> T:
    """The first value of `wanted` that is neither None nor False. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while True:
        value = wanted()
        if value is not None and value is not False:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(pause)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    def __str__(self) -> str:
        return f"{self.status} {self.body[:800].decode(errors='replace')}"


def specification(context: str, upstream: str, **fields: Any) -> dict[str, Any]:
    """The specification of an API of three operations."""
    return {
        "context": context,
        "upstreams": [{"name": "main", "endpoints": [{"url": upstream}]}],
        "backends": [{"upstream": "main"}],
        "operations": [
            {"method": "GET", "path": "/items"},
            {"method": "POST", "path": "/items"},
            {"method": "GET", "path": "/items/{id}"},
        ],
        **fields,
    }


def event(type: str, fields: Mapping[str, Any], id: str = "") -> dict[str, Any]:
    """A command of type `io.signalbox.<type>.v1` as a structured CloudEvent."""
    return {
        "specversion": "1.0",
        "id": id or uuid7(),
        "source": "/caller",
        "type": f"io.signalbox.{type}.v1",
        "data": {"organization": "default", **fields},
    }


class Calls:
    """One caller with one connection, for one thread. Paths are below the organization.

    Raises OSError (ConnectionError, TimeoutError) without an answer.
    """

    def __init__(self, port: int, token: str, seconds: float = HANG_SECONDS) -> None:
        self._port = port
        self._token = token
        self._seconds = seconds
        self._connection: Connection | None = None

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        return self.send(method, ORGANIZATION + path, b"" if body is None else orjson.dumps(body), **headers)

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        """One request with a raw body; `path` is not below the organization."""
        given = {"authorization": f"Bearer {self._token}", "content_type": "application/json", **headers}
        if self._connection is None:
            self._connection = Connection(self._port, self._seconds)
        try:
            answer: Answer = self._connection.ask(method, path, body, **given)
        except BaseException:
            self.close()
            raise
        if answer[1].get("connection") == "close":
            self.close()
        return Reply(*answer)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def command(
        self, type: str, fields: Mapping[str, Any], *, id: str = "", wait: float = LONGEST_WAIT
    ) -> Reply:
        """Any command as a CloudEvent; `wait` 0 does not wait for the outcome."""
        headers = {"prefer": f"wait={wait:g}"} if wait else {}
        return self.ask("POST", "/commands", event(type, fields, id), content_type=CLOUDEVENT, **headers)

    def batch(self, events: list[dict[str, Any]], *, wait: float = LONGEST_WAIT) -> Reply:
        headers = {"prefer": f"wait={wait:g}"} if wait else {}
        return self.ask("POST", "/commands", events, content_type=BATCH, **headers)

    def publish(self, name: str, spec: Mapping[str, Any], **fields: Any) -> int:
        """Publishes a revision of an API; returns its number. Raises RuntimeError when it is rejected."""
        reply = self.command("api.command.publish", {"name": name, "spec": spec, **fields})
        if reply.status != 200:
            raise RuntimeError(f"publish {name}: {reply}")
        operation = reply.json
        found = self.ask("GET", f"/apis/{name}?min_position={operation['position']}")
        return int(found.json["revision"])

    def deploy(self, api: str, revision: int | None = None) -> str:
        """Deploys an API; returns the deployment's name. Raises RuntimeError when it is rejected."""
        body = {"api": api, "gateway": "local"} | ({"revision": revision} if revision else {})
        reply = self.ask("POST", "/deployments", body, prefer=f"wait={LONGEST_WAIT:g}")
        if reply.status not in (200, 201):
            raise RuntimeError(f"deploy {api}: {reply}")
        return str(reply.json["name"])

    def undeploy(self, deployment: str) -> Reply:
        return self.ask("DELETE", f"/deployments/{deployment}", if_match="*", prefer=f"wait={LONGEST_WAIT:g}")

    def status(self, deployment: str) -> dict[str, Any]:
        """The progress of a deployment: `state`, `facts`, `refusals`."""
        reply = self.ask("GET", f"/deployments/{deployment}")
        if reply.status != 200:
            raise RuntimeError(f"deployment {deployment}: {reply}")
        return reply.json["status"]

    def settled(self, deployment: str, seconds: float = HANG_SECONDS) -> dict[str, Any]:
        """The status of a deployment once it serves, was stopped, or refused by some nodes or all.

        Raises TimeoutError.
        """
        last: dict[str, Any] = {}

        def settled() -> dict[str, Any] | None:
            last.update(self.status(deployment))
            return last if last["state"] in SETTLED else None

        with contextlib.suppress(TimeoutError):
            return until(settled, "", seconds)
        raise TimeoutError(f"deployment {deployment} is not settled within {seconds:g} s: {last}")

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        """All events of the event log after a position."""
        return self.events_on(after)[0]

    def events_on(self, after: int) -> tuple[list[dict[str, Any]], int]:
        """All events of the event log after a position, and the position of the last."""
        found: list[dict[str, Any]] = []
        while True:
            reply = self.ask("GET", f"/events?after={after}&limit=1000")
            if reply.status != 200:
                raise RuntimeError(f"events: {reply}")
            found += reply.json
            after = int(reply.headers["signalbox-position"].partition(":")[2])
            if "link" not in reply.headers:
                return found, after

    def end(self) -> int:
        """The current position of the read model of resources."""
        return int(self.ask("GET", "/projects").headers["signalbox-position"].partition(":")[2])

    def all(self, plural: str) -> list[dict[str, Any]]:
        """All resources of a kind, page by page."""
        items: list[dict[str, Any]] = []
        cursor = ""
        while True:
            reply = self.ask("GET", f"/{plural}?limit=1000" + (f"&cursor={cursor}" if cursor else ""))
            if reply.status != 200:
                raise RuntimeError(f"{plural}: {reply}")
            items += reply.json["items"]
            cursor = reply.json["next_cursor"]
            if not cursor:
                return items
