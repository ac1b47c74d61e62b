"""Commands that become durable in one transaction with their decisions."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from sqlite3 import Connection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from schemas.envelope import Envelope
from schemas.outcome import Outcome
from streams.decider.decider import Decider
from streams.log import LogUnavailable
from streams.sqlite.log import SqliteLog
from streams.sqlite.writer import LogUnit
from streams.submission.command_port import CommandPort
from tests.commands.shop import ORG
from tests.streams.decider_cases import envelope
from tests.support.hang_guard import HANG_SECONDS
from tests.support.laws import SHARED_FIXTURE, examples


def project(name: str) -> Envelope:
    return envelope(DefineProject(organization=ORG, name=name), f"define-{name}")


async def turns(many: int) -> None:
    """Lets the other tasks of the event loop continue."""
    for _ in range(many):
        await asyncio.sleep(0)


@dataclass
class Deciding:
    """A decider that reads commands before they are durable, and the port to it."""

    log: SqliteLog
    port: CommandPort
    decider: Decider
    task: asyncio.Task[None]
    seen: list[int] = field(default_factory=list[int])
    """The end of the commands at each answer."""

    async def until_waiting(self) -> None:
        """Returns when the decider waits for commands."""
        while not self.log.command_source.awaited(0):
            await turns(1)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@asynccontextmanager
async def deciding(directory: Path) -> AsyncIterator[Deciding]:
    log = await SqliteLog.open(directory)
    port = CommandPort(log)

    def decided(done: Sequence[tuple[Envelope, Outcome]], seconds: float) -> None:
        at.seen.append(log.readable("commands", 0))
        port.decided(outcome for _, outcome in done)

    decider = Decider(log, 0, "/test", decided)
    decider.repeated = port.decided
    decider.source_of_commands = log.command_source
    await decider.start()
    at = Deciding(log, port, decider, asyncio.create_task(decider.run()))
    try:
        await at.until_waiting()
        yield at
    finally:
        await at.stop()
        await log.close()


async def start(at: Deciding) -> None:
    """Defines the organization."""
    (outcome,) = (
        await at.port.execute([envelope(DefineOrganization(organization=ORG, name=ORG))], HANG_SECONDS)
    ).values()
    assert outcome.accepted
    await at.until_waiting()


async def consistent(directory: Path) -> list[str]:
    """The names of the projects on a log whose commands are all decided, each once."""
    log = await SqliteLog.open(directory)
    commands = await log.read("commands", 0, 0, 10_000)
    outcomes = await log.read("outcomes", 0, 0, 10_000)
    events = await log.read("events", 0, 0, 10_000)
    consumed = await log.consumed("decider", "commands", 0)
    await log.close()
    assert consumed == len(commands)
    assert [o.envelope.id for o in outcomes] == [c.envelope.id for c in commands]
    assert all(o.envelope.data["accepted"] for o in outcomes)
    assert [e.envelope.causationid for e in events] == [c.envelope.id for c in commands]
    return [str(e.envelope.data["name"]) for e in events[1:]]


async def test_a_command_and_its_decision_are_one_transaction(tmp_path: Path) -> None:
    async with deciding(tmp_path) as at:
        await start(at)
        before = at.log.transactions
        outcomes = await at.port.execute([project("one")], HANG_SECONDS)
        assert outcomes[ORG, "define-one"].accepted
        assert at.log.transactions == before + 1
        assert at.seen == [1, 2]  # nothing is answered before it is durable
    assert await consistent(tmp_path) == ["one"]


async def test_commands_of_one_turn_share_a_transaction(tmp_path: Path) -> None:
    names = [f"p-{number}" for number in range(64)]
    async with deciding(tmp_path) as at:
        await start(at)
        before = at.log.transactions
        await asyncio.gather(*(at.port.execute([project(name)], HANG_SECONDS) for name in names))
        assert at.log.transactions == before + 1
    assert await consistent(tmp_path) == names


async def test_a_command_without_a_decider_is_durable(tmp_path: Path) -> None:
    async with deciding(tmp_path) as at:
        await start(at)
        appending = asyncio.create_task(at.port.submit([project("one")]))
        await turns(1)
        await at.stop()
        await appending
        await at.port.submit([project("two")])
        assert await at.log.end("commands", 0) == 3
    async with deciding(tmp_path) as at:
        await at.port.outcomes([(ORG, "define-two")], HANG_SECONDS)
    assert await consistent(tmp_path) == ["one", "two"]


@pytest.mark.parametrize("error", ["full", "odd"])
async def test_a_commit_that_fails_leaves_nothing(
    tmp_path: Path, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the state of the decider: the same command is decided as new afterwards."""
    failures = [error]
    write = LogUnit.write

    def failing(self: LogUnit, db: Connection) -> None:
        write(self, db)
        if failures:
            failures.pop()
            if error == "full":
                raise LogUnavailable("the disk is full", "the disk is full")
            raise ValueError("an odd command")

    async with deciding(tmp_path) as at:
        await start(at)
        monkeypatch.setattr(LogUnit, "write", failing)
        if error == "full":
            with pytest.raises(LogUnavailable):
                await at.port.execute([project("one")], HANG_SECONDS)
            assert await at.log.end("commands", 0) == 1
            assert at.decider.head.sequence == 1
        outcomes = await at.port.execute([project("one")], HANG_SECONDS)
        assert outcomes[ORG, "define-one"].accepted
        assert not failures
    assert await consistent(tmp_path) == ["one"]


async def test_an_odd_command_does_not_hurt_those_beside_it(tmp_path: Path) -> None:
    odd = replace(project("odd"), subject="\ud800")
    async with deciding(tmp_path) as at:
        await start(at)
        done = await asyncio.gather(
            *(at.port.execute([each], HANG_SECONDS) for each in (project("one"), odd, project("two"))),
            return_exceptions=True,
        )
        assert isinstance(done[1], UnicodeEncodeError)
    assert await consistent(tmp_path) == ["one", "two"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("single"), st.integers(1, 5)),
        st.tuples(st.just("many"), st.integers(2, 5)),
        st.tuples(st.just("turns"), st.integers(1, 30)),
        st.tuples(st.just("fail"), st.integers(1, 2)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=30,
)


@examples(60, SHARED_FIXTURE)
@given(steps=STEPS)
async def test_whatever_happens_each_durable_command_is_decided_once(
    tmp_path_factory: pytest.TempPathFactory, steps: Sequence[tuple[str, int]]
) -> None:
    """Singles, several at once, failing commits and deciders that are replaced, at any moment."""
    directory = tmp_path_factory.mktemp("log")
    write, failures = LogUnit.write, [0]

    def failing(self: LogUnit, db: Connection) -> None:
        write(self, db)
        if failures[0]:
            failures[0] -= 1
            raise LogUnavailable("the disk is full", "the disk is full")

    made = 0
    acknowledged: set[str] = set()
    tasks: list[asyncio.Task[None]] = []

    async def submit(port: CommandPort, names: Sequence[str]) -> None:
        try:
            await port.submit([project(name) for name in names])
            acknowledged.update(names)
        except LogUnavailable:
            return

    with pytest.MonkeyPatch.context() as patch:
        async with deciding(directory) as at:
            await start(at)
            patch.setattr(LogUnit, "write", failing)
            for step, number in steps:
                names = [f"p-{made + i}" for i in range(number)]
                if step == "single":
                    tasks += [asyncio.create_task(submit(at.port, [name])) for name in names]
                    made += number
                elif step == "many":
                    tasks.append(asyncio.create_task(submit(at.port, names)))
                    made += number
                elif step == "turns":
                    await turns(number)
                elif step == "fail":
                    failures[0] = number
                else:
                    await asyncio.gather(*tasks)
                    await at.stop()
                    await at.decider.start()
                    at.task = asyncio.create_task(at.decider.run())
            await asyncio.gather(*tasks)
            failures[0] = 0
            last = await at.port.execute([project("last")], HANG_SECONDS)
            assert last[ORG, "define-last"].accepted
    names = await consistent(directory)
    assert acknowledged <= set(names)
