"""What exists from the first start on, and what a later start makes of what went wrong."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from definitions.reading import read
from projections.queries import ReadModels
from projections.store import open_store
from schemas.aggregates.api import API, DeleteApi, PublishApi
from schemas.aggregates.deployment import DeploymentStarted, StartDeployment, StopDeployment
from schemas.aggregates.gateway import RegisterGateway
from schemas.catalog import GATEWAY
from schemas.codecs.avro import dataschema
from schemas.envelope import Envelope
from schemas.identity import timestamp, uuid7
from schemas.message import Command
from signalbox.first_start.default_resources import FirstStartFailed, create_default_resources
from signalbox.first_start.sample import deploy_sample, sample
from signalbox.settings import Address, Settings
from streams.decider.decider import Decider
from streams.projection import ProjectionRunner
from streams.sqlite.documents import SqliteDocuments
from streams.sqlite.log import SqliteLog
from streams.submission.command_port import CommandPort

Start = Callable[..., Awaitable[bool]]


@asynccontextmanager
async def commanding(directory: Path) -> AsyncIterator[tuple[SqliteLog, CommandPort]]:
    log = await SqliteLog.open(directory)
    commands = CommandPort(log)
    decider = Decider(log, 0, "/test", lambda done, _: commands.decided(outcome for _, outcome in done))
    await decider.start()
    deciding = asyncio.create_task(decider.run())
    try:
        yield log, commands
    finally:
        deciding.cancel()
        await asyncio.gather(deciding, return_exceptions=True)
        await log.close()


async def subjects(log: SqliteLog) -> list[str]:
    return [r.envelope.subject for r in await log.read("events", 0, 0, 100)]


DEFAULT_RESOURCES = [
    "organizations/default",
    "organizations/default/projects/default",
    "organizations/default/environments/development",
    "organizations/default/gateways/local",
]


async def test_the_harness_is_made_once(tmp_path: Path):
    async with commanding(tmp_path) as (log, commands):
        await create_default_resources(commands, Settings(), "token")
        assert await subjects(log) == DEFAULT_RESOURCES
        await create_default_resources(commands, Settings(), "another")
        assert await subjects(log) == DEFAULT_RESOURCES


async def test_a_rejected_command_is_sent_again(tmp_path: Path):
    async with commanding(tmp_path) as (log, commands):
        with pytest.raises(FirstStartFailed, match="IP address"):
            await create_default_resources(commands, Settings(gateway=Address("some.host", 8000)), "token")
        await create_default_resources(commands, Settings(), "token")
        assert await subjects(log) == DEFAULT_RESOURCES


HELLO = API.subject("default", "hello")


@asynccontextmanager
async def signalbox(directory: Path) -> AsyncIterator[tuple[SqliteLog, CommandPort, Start]]:
    """As `commanding`, with the harness, and a `start` that deploys the sample."""
    async with commanding(directory) as (log, commands):
        await create_default_resources(commands, Settings(), "token")
        store = open_store(directory / "readmodels.db")
        runner = ProjectionRunner(log, store)
        projecting = asyncio.create_task(runner.run())
        documents = await SqliteDocuments.open(directory)
        await runner.ready.wait()

        async def start(upstream: str = "http://127.0.0.1:9000") -> bool:
            await runner.wait_for("resources", 0, await log.end("events", 0))
            return await deploy_sample(commands, log, ReadModels(store), documents, upstream)

        try:
            yield log, commands, start
        finally:
            projecting.cancel()
            await asyncio.gather(projecting, return_exceptions=True)
            await documents.close()
            store.close()


async def carry_out(commands: CommandPort, command: Command, subject: str, authid: str = "ann") -> None:
    id = uuid7()
    envelope = Envelope(
        id=id,
        type=command.type(),
        source="/tests",
        subject=subject,
        time=timestamp(),
        partitionkey="default",
        data=command.data(),
        dataschema=dataschema(type(command)),
        authtype="user" if authid != "signalbox" else "system",
        authid=authid,
    )
    (outcome,) = (await commands.execute([envelope], 10)).values()
    assert outcome.accepted, outcome.message


async def test_the_sample_is_deployed_once(tmp_path: Path) -> None:
    async with signalbox(tmp_path) as (log, _, start):
        assert await start()
        end = await log.end("events", 0)
        assert await start()
        assert await log.end("events", 0) == end


async def test_an_unchanged_sample_follows_its_upstream(tmp_path: Path) -> None:
    async with signalbox(tmp_path) as (log, _, start):
        await start()
        assert await start("http://127.0.0.1:9001")
        assert len(await log.read_subject("events", HELLO)) == 2


async def test_a_sample_on_two_gateways_follows_its_upstream_on_both(tmp_path: Path) -> None:
    async with signalbox(tmp_path) as (log, commands, start):
        await start()
        second = RegisterGateway(
            organization="default", name="second", environment="development", token_digest="0" * 64
        )
        await carry_out(commands, second, GATEWAY.subject("default", "second"))
        to_second = StartDeployment(organization="default", api="hello", gateway="second")
        await carry_out(commands, to_second, "")
        before = await log.end("events", 0)
        assert await start("http://127.0.0.1:9001")
        after = [r.envelope for r in await log.read("events", 0, before, 100)]
        started = [e.data for e in after if e.type == DeploymentStarted.type()]
        assert sorted((e["revision"], *e["gateways"]) for e in started) == [(2, "local"), (2, "second")]


async def test_a_changed_sample_is_left_alone(tmp_path: Path) -> None:
    async with signalbox(tmp_path) as (log, commands, start):
        await start()
        (published,) = await log.read_subject("events", HELLO)
        spec = {**published.envelope.data["spec"], "display_name": "Mine"}
        mine = PublishApi.model_validate({"organization": "default", "name": "hello", "spec": spec})
        await carry_out(commands, mine, HELLO)
        end = await log.end("events", 0)
        assert not await start("http://127.0.0.1:9001")
        assert await log.end("events", 0) == end


@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("earlier_version", [False, True])
async def test_a_sample_that_was_undeployed_or_deleted_stays_so(
    tmp_path: Path, deleted: bool, earlier_version: bool
) -> None:
    async with signalbox(tmp_path) as (log, commands, start):
        if earlier_version:  # it published and deployed the sample under new ids at each start
            (definition,) = read(sample("http://127.0.0.1:9000").encode(), "hello.yaml").definitions
            publish = PublishApi.model_validate(
                {"organization": "default", "name": "hello", "spec": definition.spec}
            )
            await carry_out(commands, publish, HELLO, "signalbox")
            deploy = StartDeployment(organization="default", api="hello", gateway="local")
            await carry_out(commands, deploy, "", "signalbox")
        else:
            await start()
        deployments = [s for s in await subjects(log) if "/deployments/" in s]
        name = deployments[-1].rpartition("/")[2]
        await carry_out(commands, StopDeployment(organization="default", name=name), deployments[-1])
        if deleted:
            await carry_out(commands, DeleteApi(organization="default", name="hello"), HELLO)
        end = await log.end("events", 0)
        assert not await start()
        assert await log.end("events", 0) == end
