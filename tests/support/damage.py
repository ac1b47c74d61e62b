"""Damages a data directory, and checks the next start: it has the right state, or fails with a clear error.

Signalbox runs in this process, without Envoy; an xDS client replaces it.
"""

import asyncio
import contextlib
import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
from envoy_data_plane.envoy.config.core.v3 import Node
from envoy_data_plane.envoy.service.discovery.v3 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from signalbox.roles.runner import everything
from signalbox.settings import Address, Settings
from signalbox.up import EXPECTED
from tests.support.calls import LONGEST_WAIT, Calls, specification, until
from tests.support.connection import HANG_SECONDS
from tests.support.running_signalbox import free_port
from xds.server.discovery import SERVICE
from xds.types import CLUSTER, LISTENER, ROUTES, SCOPED_ROUTES

APIS = 4
LOCAL = "organizations/default/gateways/local"
FILES = (
    "log.db",
    "log.db-wal",
    "config.db",
    "config.db-wal",
    "documents.db",
    "documents.db-wal",
    "readmodels.db",
    "readmodels.db-wal",
    "contents",
    "sealed",
    "admin.token",
    "gateway.token",
    "probe.key",
    "lock",
)
DOCUMENT = b"openapi: 3.1.0\ninfo: {title: Damage, version: '1'}\npaths: {}\n"

OBSERVED = ("status", "connected", "live")
"""Fields that depend on connected nodes, which differ at each start."""

State = dict[str, Any]


def settings(data: Path) -> Settings:
    """Settings of a Signalbox that listens on free ports, with an unchanged gateway address."""
    http, xds = (Address("127.0.0.1", free_port()) for _ in range(2))
    return Settings(data=data, http=http, xds=xds, envoy=False, sample=False)


# -- the expected state


async def fill(data: Path, killed: Path) -> State:
    """Creates a directory with a small history, and a copy `killed` as after a kill; returns the state of
    both."""
    here = settings(data)
    async with everything(here) as roles:
        await roles.started()
        calls = _calls(here)
        for number in range(APIS):
            await asyncio.to_thread(_one, calls, number)
        for number in range(APIS):
            spec = specification(f"/a{number}", "http://127.0.0.1:9000", display_name=f"Second {number}")
            await asyncio.to_thread(calls.publish, f"a{number}", spec)
        await asyncio.to_thread(calls.deploy, "a1")
        # At once after a change: a moment later the journals are written back.
        await asyncio.to_thread(calls.command, "project.command.define", {"name": "last"})
        shutil.copytree(data, killed)
        await asyncio.to_thread(_until_published, calls)
        calls.close()
        return await observe(here, here.gateway_token.read_text().strip())


def _until_published(calls: Calls) -> None:
    """Waits until the configuration has all deployments."""
    for name in [item["name"] for item in calls.all("deployments") if item["state"] == "active"]:
        until(lambda name=name: calls.status(name)["facts"]["published"], f"{name} is published")


def _one(calls: Calls, number: int) -> None:
    sha256 = hashlib.sha256(DOCUMENT).hexdigest()
    spec = specification(f"/a{number}", f"http://127.0.0.1:90{number:02}")
    calls.publish(f"a{number}", spec)
    calls.deploy(f"a{number}")
    definition = f"""apiVersion: signalbox.io/v1
kind: API
metadata: {{name: written-{number}}}
spec:
  version: v1
  context: /written-{number}
  upstream: {{url: "http://127.0.0.1:9100"}}
  operations: [{{method: GET, path: /items}}]
"""
    reply = calls.send(
        "PUT",
        f"/api/v1/organizations/default/apis/written-{number}",
        definition.encode(),
        content_type="application/yaml",
        prefer=f"wait={LONGEST_WAIT:g}",
    )
    if reply.status not in (200, 201):
        raise RuntimeError(f"{sha256}: {reply}")


def _calls(here: Settings) -> Calls:
    return Calls(here.http.port, here.admin_token.read_text().strip())


async def observe(here: Settings, token: str, served: Mapping[str, str] | None = None) -> State:
    """The state that callers and a proxy observe; the proxy reads until it has `served`, by default until
    it has everything of all APIs."""
    calls = _calls(here)
    try:
        state = await asyncio.to_thread(_asked, calls)
    finally:
        calls.close()
    state["served"] = await _served(here, token, served)
    state["token"] = token
    return state


def _asked(calls: Calls) -> State:
    state: State = {"events": calls.events()}
    until(lambda: _read(calls, f"/projects?min_position={len(state['events'])}"), "the events are projected")
    for kind in ("projects", "environments", "gateways", "apis", "deployments"):
        state[kind] = [{k: v for k, v in item.items() if k not in OBSERVED} for item in calls.all(kind)]
    state["documents"] = {}
    state["outcomes"] = {}
    for number, event in enumerate(state["events"]):
        document = event["data"].get("document")
        if document:
            reply = calls.ask("GET", f"/documents/{document['sha256']}")
            state["documents"][document["sha256"]] = (reply.status, reply.body)
        if number % 5:
            continue  # each takes a while
        reply = calls.send("GET", f"/api/v1/operations/{event['causationid']}")
        state["outcomes"][event["causationid"]] = (reply.status, reply.body)
    return state


def _read(calls: Calls, path: str) -> bool:
    """Whether it is answered; for a position that is not projected yet, there is no answer."""
    return calls.ask("GET", path).status == 200


async def _served(here: Settings, token: str, wanted: Mapping[str, str] | None) -> dict[str, str]:
    """Resources by type and name, as the digest of their bodies."""
    found: dict[str, str] = {}

    def complete() -> bool:
        if wanted is not None:
            return found == wanted
        kinds = Counter(key.partition(" ")[0] for key in found)
        return bool(kinds[LISTENER]) and kinds[SCOPED_ROUTES] >= APIS and kinds[ROUTES] >= APIS

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HANG_SECONDS), grpc.aio.insecure_channel(str(here.xds)) as channel:
            while not complete():
                found.clear()
                # The server rejects a proxy that it does not know yet; the proxy reconnects.
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await _receive(channel, token, found, complete)
                await asyncio.sleep(0.01)
    return found


async def _receive(
    channel: grpc.aio.Channel, token: str, found: dict[str, str], complete: Callable[[], bool]
) -> None:
    """Keeps `found` as one stream has it, until it is complete or the stream ends."""
    call = channel.stream_stream(f"/{SERVICE}/DeltaAggregatedResources", None, None)(
        None, metadata=(("authorization", f"Bearer {token}"),)
    )

    async def ask(type: str, nonce: str = "", names: tuple[str, ...] = ()) -> None:
        node = Node(id="damage", cluster=LOCAL, user_agent_name="envoy")
        await call.write(
            bytes(
                DeltaDiscoveryRequest(
                    node=node, type_url=type, response_nonce=nonce, resource_names_subscribe=list(names)
                )
            )
        )

    try:
        for type in (CLUSTER, LISTENER, SCOPED_ROUTES):
            await ask(type)
        while not complete():
            answer = await call.read()
            if not isinstance(answer, bytes):
                return
            response = DeltaDiscoveryResponse.parse(answer)
            for one in response.resources:
                digest = hashlib.sha256(one.resource.value if one.resource else b"").hexdigest()
                if response.type_url == LISTENER:
                    digest = "there"  # its content depends on the process that compiled it
                found[f"{response.type_url} {one.name}"] = digest
            for name in response.removed_resources:
                found.pop(f"{response.type_url} {name}", None)
            await ask(response.type_url, response.nonce)
            if response.type_url == SCOPED_ROUTES:
                names = (one.name.replace("/scopes/", "/routes/") for one in response.resources)
                await ask(ROUTES, "", tuple(names))
    finally:
        call.cancel()


# -- damages of a file


def lost(file: Path, at: float) -> None:
    file.unlink()


def emptied(file: Path, at: float) -> None:
    file.write_bytes(b"")


def truncated(file: Path, at: float) -> None:
    with file.open("r+b") as opened:
        opened.truncate(int(file.stat().st_size * at))


def flipped(file: Path, at: float) -> None:
    """All bits of one byte; `at` 0 is the first byte and 1 the last."""
    with file.open("r+b") as opened:
        size = file.stat().st_size
        opened.seek(round((size - 1) * at))
        byte = opened.read(1)[0]
        opened.seek(-1, 1)
        opened.write(bytes([byte ^ 0xFF]))


@dataclass(frozen=True, slots=True)
class Damage:
    what: Callable[[Path, float], None]
    at: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.what.__name__} at {self.at:.4f}"
            if self.what in (truncated, flipped)
            else self.what.__name__
        )


DAMAGES = (
    Damage(lost),
    Damage(emptied),
    Damage(truncated, 0.5),
    Damage(flipped, 0.0),
    Damage(flipped, 0.5),
    Damage(flipped, 1.0),
)


# -- outcomes


@dataclass(frozen=True, slots=True)
class Outcome:
    """`verdict` is `right`, `refused` (with the sentence), `error` (right, except that requests for a
    damaged document fail), `wrong` or `traceback`."""

    verdict: str
    sentence: str = ""


async def start(data: Path, right: State) -> Outcome:
    """Starts in a damaged directory, and compares the state that callers and a proxy observe with the
    expected one."""
    here = settings(data)
    try:
        async with everything(here) as roles:
            async with asyncio.timeout(HANG_SECONDS):
                await roles.started()
            now = await observe(here, right["token"], right["served"])
    except TimeoutError as error:
        return Outcome("traceback", f"not up, or not there, within {HANG_SECONDS:g} s: {error}")
    except EXPECTED as error:
        return Outcome("refused", str(error))
    except Exception as error:  # a finding of this benchmark
        return Outcome("traceback", f"{type(error).__name__}: {error}")
    return compared(right, now)


def compared(right: State, now: State) -> Outcome:
    """Compares two states: an error as answer is no wrong state, a different answer is."""
    differing = [key for key in right if right[key] != now.get(key)]
    if not differing:
        return Outcome("right")
    if differing == ["documents"]:
        documents = now["documents"]
        gone = [name for name, answer in right["documents"].items() if answer != documents.get(name)]
        if all(documents.get(name, (404,))[0] != 200 for name in gone):
            return Outcome("error", f"the documents {gone} are not served")
    differences: list[str] = []
    for key in differing:
        before, after = right[key], now.get(key)
        if isinstance(before, dict):
            after = after or {}
            names = [n for n in {*before, *after} if before.get(n) != after.get(n)]
            differences.append(f"{key}: {[(n, before.get(n), after.get(n)) for n in names][:3]}")
        else:
            pairs = [pair for pair in zip(before, after or (), strict=False) if pair[0] != pair[1]]
            differences.append(f"{key}: {len(before)} and {len(after or ())}: {pairs[:1]}")
    return Outcome("wrong", "; ".join(differences)[:1500])


async def damaged(template: Path, file: str, damage: Damage, right: State) -> Outcome | None:
    """The outcome for a copy of the template; None when it has no such file."""
    if not (template / file).exists():
        return None
    with tempfile.TemporaryDirectory(prefix="signalbox-damage-") as work:
        data = Path(work, "data")
        shutil.copytree(template, data)
        if (data / file).stat().st_size == 0 and damage.what is flipped:
            return None
        damage.what(data / file, damage.at)
        return await start(data, right)
