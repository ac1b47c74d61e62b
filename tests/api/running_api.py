"""The application over the real embedded engine, decider, read models and document store."""

import asyncio
import atexit
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from api.app import create_app
from api.authentication import DigestAuthenticator, Principal
from api.ports import ReadModelRunner, Services, Settings
from projections.queries import ReadModels
from projections.store import open_store
from schemas.codecs import asyncapi
from schemas.codecs.canonical import sha256_hex
from schemas.envelope import Envelope
from schemas.identity import uuid7
from schemas.outcome import Outcome
from schemas.status import Status
from streams.decider.decider import Decider
from streams.log import LogUnavailable
from streams.projection.runner import ProjectionRunner
from streams.sqlite.documents import SqliteDocuments
from streams.sqlite.log import SqliteLog
from streams.submission.command_port import CommandPort
from tests.support.hang_guard import HANG_SECONDS

ADMIN = "admin-token"
ACME = "acme-token"
ORG = "/api/v1/organizations/default"

TOKENS: Mapping[str, Principal] = {
    ADMIN: Principal("admin", None, frozenset({"admin"})),
    ACME: Principal("ann", frozenset({"acme"})),
}

API = """\
apiVersion: signalbox.io/v1
kind: API
metadata:
  name: {name}
spec:
  context: {context}
  version: v1
  upstreams:
    - name: main
      endpoints:
        - url: http://127.0.0.1:9000
  backends:
    - upstream: main
  operations:
    - method: GET
      path: /orders/{{id}}
"""


def definition(name: str, context: str | None = None) -> str:
    return API.format(name=name, context=context or f"/{name}")


def spec(context: str) -> dict[str, Any]:
    return {
        "context": context,
        "upstreams": [{"name": "main", "endpoints": [{"url": "http://127.0.0.1:9000"}]}],
        "backends": [{"upstream": "main"}],
        "operations": [{"method": "GET", "path": "/orders/{id}"}],
    }


class RefusableCommands(CommandPort):
    """Commands that can be refused, as a full disk does."""

    refuse: str = ""

    async def submit(self, envelopes: Sequence[Envelope]) -> None:
        if self.refuse:
            raise LogUnavailable(f"/var/lib/signalbox/log.db: {self.refuse} (SQLITE_FULL)", self.refuse)
        await super().submit(envelopes)


@dataclass
class RunningApi:
    app: FastAPI
    client: httpx.AsyncClient
    services: Services
    log: SqliteLog
    commands: RefusableCommands
    decider: Decider
    deciding: "asyncio.Task[None]"
    reasons: list[str] = field(default_factory=list[str])

    async def put(self, path: str, json: Any = None, *, wait: int = 10, **headers: str) -> httpx.Response:
        return await self.client.put(
            path, json={} if json is None else json, headers={"Prefer": f"wait={wait}", **_dashed(headers)}
        )

    async def post(self, path: str, json: Any, *, wait: int = 10, **headers: str) -> httpx.Response:
        return await self.client.post(path, json=json, headers={"Prefer": f"wait={wait}", **_dashed(headers)})

    async def delete(self, path: str, *, wait: int = 10, **headers: str) -> httpx.Response:
        return await self.client.delete(path, headers={"Prefer": f"wait={wait}", **_dashed(headers)})

    async def publish(self, name: str, context: str | None = None) -> httpx.Response:
        """An API as a CloudEvent: no definition is read."""
        return await self.command("api.command.publish", {"name": name, "spec": spec(context or f"/{name}")})

    async def command(
        self, type: str, data: Mapping[str, Any], organization: str = "default"
    ) -> httpx.Response:
        event = {
            "specversion": "1.0",
            "id": f"test-{sha256_hex(repr((type, data)).encode())[:32]}",
            "source": "/tests",
            "type": f"io.signalbox.{type}.v1",
            "data": {"organization": organization, **data},
        }
        return await self.client.post(
            f"/api/v1/organizations/{organization}/commands",
            json=event,
            headers={"Prefer": "wait=10", "Content-Type": "application/cloudevents+json"},
        )

    def with_settings(self, settings: Settings, runner: ReadModelRunner | None = None) -> httpx.AsyncClient:
        """A client of the same services with other bounds."""
        services = replace(
            self.services, settings=settings, read_model_runner=runner or self.services.read_model_runner
        )
        app = create_app(services)
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://signalbox", headers=self.client.headers
        )

    async def report(self, *messages: Status) -> None:
        """What a gateway says; returns when the read model has it."""
        envelopes = [
            Envelope(
                id=uuid7(),
                type=message.type(),
                source="/tests",
                subject=message.name,
                time=message.at,
                partitionkey=message.organization,
                data=message.data(),
            )
            for message in messages
        ]
        positions = await self.log.append("status", envelopes)
        partition = self.log.partition_of(messages[0].organization)
        async with asyncio.timeout(HANG_SECONDS):
            await self.services.read_model_runner.wait_for("deliveries", partition, positions[-1])

    async def pause(self) -> None:
        """No command is decided from here on."""
        self.deciding.cancel()
        with suppress(asyncio.CancelledError):
            await self.deciding

    def resume(self) -> None:
        self.deciding = asyncio.create_task(self.decider.run())


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@asynccontextmanager
async def running_api(directory: Path) -> AsyncIterator[RunningApi]:
    """Organizations `default` and `acme`; in `default` an environment, a project and a gateway."""
    await _copy_prepared(directory)
    async with _opened(directory) as made:
        yield made


_prepared: Path | None = None


async def _copy_prepared(directory: Path) -> None:
    """Copies the directory with the default resources, which is made once per process."""
    global _prepared
    if _prepared is None:
        prepared = Path(tempfile.mkdtemp(prefix="signalbox-test-api-"))
        atexit.register(shutil.rmtree, prepared, ignore_errors=True)
        async with _opened(prepared) as made:
            await _create_default_resources(made)
        _prepared = prepared
    shutil.copytree(_prepared, directory, dirs_exist_ok=True)


@asynccontextmanager
async def _opened(directory: Path) -> AsyncIterator[RunningApi]:
    async with AsyncExitStack() as stack:
        log = await SqliteLog.open(directory / "log")
        stack.push_async_callback(log.close)
        documents = await SqliteDocuments.open(directory / "documents")
        stack.push_async_callback(documents.close)
        store = open_store(directory / "readmodels.db")
        stack.callback(store.close)
        commands = RefusableCommands(log)

        def decided(results: Sequence[tuple[Envelope, Outcome]], seconds: float) -> None:
            commands.decided(outcome for _, outcome in results)

        decider = Decider(log=log, partition=0, source="/decider", decided=decided, repeated=commands.decided)
        decider.source_of_commands = log.command_source
        await decider.start()
        # Longer than in one process: a read that does not wait for the read models shows it.
        runner = ProjectionRunner(log, store, gather_seconds=0.2)
        models = ReadModels(store, partition_of=log.partition_of, progress=runner)
        stack.callback(models.close)
        reasons: list[str] = []
        services = Services(
            commands=commands,
            read_models=models,
            read_model_runner=runner,
            dead_letters=runner,
            log=log,
            documents=documents,
            authenticator=DigestAuthenticator({sha256_hex(t.encode()): p for t, p in TOKENS.items()}),
            ready=lambda: reasons[0] if reasons else None,
            metrics=lambda: b"signalbox_up 1\n",
            stopping=asyncio.Event(),
        )
        app = create_app(services, asyncapi.document)
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                base_url="http://signalbox",
                headers={"Authorization": f"Bearer {ADMIN}"},
            )
        )
        deciding = asyncio.create_task(decider.run())
        running = asyncio.create_task(runner.run())
        made = RunningApi(app, client, services, log, commands, decider, deciding, reasons)
        stack.push_async_callback(_stop, running)
        stack.push_async_callback(made.pause)
        await runner.ready.wait()
        yield made


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _create_default_resources(made: RunningApi) -> None:
    for organization in ("default", "acme"):
        answer = await made.put(f"/api/v1/organizations/{organization}")
        assert answer.status_code == 201, answer.text
    for path in ("environments/development", "projects/default"):
        answer = await made.put(f"{ORG}/{path}")
        assert answer.status_code == 201, answer.text
    answer = await made.post(f"{ORG}/gateways", {"name": "local"})
    assert answer.status_code == 201, answer.text
