"""The decider: what one transaction writes, and what a restart finds."""

import asyncio
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.aggregates.api import DeleteApi, Document
from schemas.aggregates.deployment import StopDeployment
from schemas.aggregates.environment import DefineEnvironment
from schemas.aggregates.gateway import RegisterGateway
from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject, DeleteProject
from schemas.envelope import GENESIS
from schemas.message import Command
from streams.log import LogDamaged, LogUnavailable, Transaction
from streams.sqlite.log import SqliteLog
from tests.commands.shop import ORG, TOKEN, deploy, publish, spec
from tests.streams.decider_cases import desk, envelope
from tests.support.hang_guard import HANG_SECONDS
from tests.support.laws import SHARED_FIXTURE, examples

DEFAULT_RESOURCES: tuple[Command, ...] = (
    DefineOrganization(organization=ORG, name=ORG),
    DefineProject(organization=ORG, name="shop"),
    DefineEnvironment(organization=ORG, name="production"),
    RegisterGateway(organization=ORG, name="east", environment="production", token_digest=TOKEN),
)


async def test_events_follow_each_other_by_sequence_and_hash(tmp_path: Path):
    async with desk(tmp_path) as at:
        await at.decide(*(envelope(c) for c in DEFAULT_RESOURCES))
        events = await at.events()
    assert [e.sequence for e in events] == [f"{n:020d}" for n in range(1, 5)]
    assert [e.previoushash for e in events] == [GENESIS, *(e.hash() for e in events[:-1])]


async def test_an_event_has_its_cause_and_its_actor(tmp_path: Path):
    async with desk(tmp_path) as at:
        asked = envelope(DEFAULT_RESOURCES[0], "cmd-7")
        (outcome,) = await at.decide(asked)
        (event,) = await at.events()
    assert (event.causationid, event.correlationid, event.authid) == ("cmd-7", "cmd-7", "tester")
    assert (outcome.name, outcome.accepted, outcome.position, outcome.version) == ("cmd-7", True, 1, 1)
    assert outcome.requested_at == asked.time


async def test_an_event_refers_to_its_document(tmp_path: Path):
    written = Document(sha256="ab" * 32, size=12, form="signalbox.io/v1")
    async with desk(tmp_path) as at:
        await at.decide(*(envelope(c) for c in DEFAULT_RESOURCES), envelope(publish(document=written)))
        *before, published = await at.events()
    assert {e.dataref for e in before} == {""}
    assert published.dataref == f"/api/v1/organizations/acme/documents/{written.sha256}"


async def test_a_command_id_is_decided_once(tmp_path: Path):
    async with desk(tmp_path) as at:
        asked = envelope(DEFAULT_RESOURCES[0], "cmd-1")
        (first,) = await at.decide(asked, asked)
        (again,) = await at.decide(asked)
        assert first == again
        assert len(await at.events()) == 1
        assert await at.log.end("outcomes", 0) == 1


@pytest.mark.parametrize("together", [True, False])
async def test_an_id_is_decided_once_for_each_organization(tmp_path: Path, together: bool):
    async with desk(tmp_path) as at:
        one, other = (
            envelope(DefineOrganization(organization=name, name=name), "cmd-1") for name in (ORG, "other")
        )
        if together:
            await at.decide(one, other)
        else:
            await at.decide(one)
            await at.decide(other)

        assert {o.organization: o.accepted for o in await at.decide(one, other)} == {ORG: True, "other": True}
        assert [e.partitionkey for e in await at.events()] == [ORG, "other"]
        stands = [await at.log.find("outcomes", (name, "cmd-1")) for name in (ORG, "other")]
        assert [r.envelope.data["organization"] for r in stands if r is not None] == [ORG, "other"]


async def test_outcomes_are_written_in_the_order_of_the_commands(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        names = ("one", "two", "three")
        ids = ("cmd-1", "cmd-1", "cmd-2")  # the second one is rejected without using up its id
        await at.decide(*(envelope(c) for c in DEFAULT_RESOURCES))
        await at.decide(
            *(envelope(DefineProject(organization=ORG, name=n), id) for n, id in zip(names, ids, strict=True))
        )
        written = [r.envelope for r in await at.log.read("outcomes", 0, len(DEFAULT_RESOURCES), 10)]
        assert [(o.data["name"], o.data["accepted"]) for o in written] == [
            ("cmd-1", True),
            ("cmd-1", False),
            ("cmd-2", True),
        ]


@pytest.mark.parametrize("together", [True, False])
async def test_an_id_that_comes_with_another_body_is_rejected_and_the_first_answer_stands(
    tmp_path: Path, together: bool
):
    async with desk(tmp_path) as at:
        await at.decide(*(envelope(c) for c in DEFAULT_RESOURCES))
        first = envelope(DefineProject(organization=ORG, name="one"), "cmd-1")
        other = envelope(DefineProject(organization=ORG, name="two"), "cmd-1")
        if together:
            await at.decide(first, other)
        else:
            await at.decide(first)
            await at.decide(other)
        texts = [r.envelope.data for r in await at.log.read("outcomes", 0, len(DEFAULT_RESOURCES), 10)]
        assert [(o["accepted"], o["rule"]) for o in texts] == [(True, ""), (False, "command-id-reused")]
        stands = await at.log.find("outcomes", (ORG, "cmd-1"))
        assert stands is not None and stands.envelope.data["accepted"]
        assert [e.subject for e in await at.events()][len(DEFAULT_RESOURCES) :] == [
            "organizations/acme/projects/one"
        ]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"type": "io.signalbox.api.command.explode.v1"}, "unknown-command"),
        ({"data": {"organization": ORG, "name": ORG, "colour": "red"}}, "invalid-command"),
        ({"partitionkey": "other"}, "wrong-partition-key"),
    ],
)
async def test_an_invalid_command_is_rejected_and_stops_nothing(
    tmp_path: Path, change: dict[str, object], rule: str
):
    from dataclasses import replace

    async with desk(tmp_path) as at:
        bad = replace(envelope(DEFAULT_RESOURCES[0]), **change)
        rejected, accepted = await at.decide(bad, envelope(DEFAULT_RESOURCES[0]))
        assert (rejected.accepted, rejected.rule, accepted.accepted) == (False, rule, True)


async def test_commands_of_one_batch_see_each_other(tmp_path: Path):
    async with desk(tmp_path) as at:
        outcomes = await at.decide(
            *(envelope(c) for c in DEFAULT_RESOURCES),
            envelope(publish()),
            envelope(deploy()),
            envelope(deploy()),
        )
        assert [(o.accepted, o.events) for o in outcomes[-2:]] == [(True, 1), (True, 0)]
        assert outcomes[-1].subject == outcomes[-2].subject


async def test_a_refused_transaction_leaves_the_state_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with desk(tmp_path) as at:
        await at.log.append("commands", [envelope(c) for c in DEFAULT_RESOURCES])
        records = await at.log.read("commands", 0, 0, 10)
        commit = at.log.commit

        async def full(transaction: Transaction) -> list[list[int]]:
            raise LogUnavailable("disk full")

        monkeypatch.setattr(at.log, "commit", full)
        with pytest.raises(LogUnavailable, match="disk full"):
            await at.decider.decide(records, records[-1].position)
        assert at.decider.partition_state.states == {} and at.notified == []
        monkeypatch.setattr(at.log, "commit", commit)
        await at.decider.decide(records, records[-1].position)
        assert len(await at.events()) == len(DEFAULT_RESOURCES) == len(at.notified)


async def test_a_broken_chain_stops_the_start(tmp_path: Path):
    from dataclasses import replace

    async with desk(tmp_path) as at:
        await at.decide(*(envelope(c) for c in DEFAULT_RESOURCES))
        (last,) = (await at.events())[-1:]
        await at.log.append("events", [replace(last, sequence=f"{5:020d}", previoushash="f" * 64)])
        with pytest.raises(LogDamaged, match="position 5"):
            await at.decider.start()


async def test_a_log_that_ends_before_the_snapshot_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with desk(tmp_path) as at:
        await at.decide(*(envelope(c) for c in DEFAULT_RESOURCES))
        await at.decider.stop()

        async def end(self: SqliteLog, topic: str, partition: int) -> int:
            return 2

        monkeypatch.setattr(SqliteLog, "end", end)
        with pytest.raises(LogDamaged, match=r"events/0 ends at position 2 .* events were lost"):
            await at.decider.start()


async def test_it_decides_the_commands_left_undecided(tmp_path: Path):
    log = await SqliteLog.open(tmp_path)
    await log.append("commands", [envelope(c) for c in DEFAULT_RESOURCES])
    await log.close()
    async with desk(tmp_path) as at:
        running = asyncio.create_task(at.decider.run())
        async with asyncio.timeout(HANG_SECONDS):
            await at.log.wait("outcomes", 0, len(DEFAULT_RESOURCES) - 1)
        running.cancel()
        assert len(await at.events()) == len(DEFAULT_RESOURCES)


COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.sampled_from(DEFAULT_RESOURCES),
    st.builds(
        lambda name, url: publish(name, spec(f"/{name}", url)),
        st.sampled_from(["orders", "carts"]),
        st.sampled_from(["http://127.0.0.1:1", "http://127.0.0.1:2"]),
    ),
    st.builds(deploy, st.sampled_from(["orders", "carts"])),
    st.builds(DeleteApi, organization=st.just(ORG), name=st.just("orders")),
    st.builds(DeleteProject, organization=st.just(ORG), name=st.just("shop")),
    st.builds(StopDeployment, organization=st.just(ORG), name=st.sampled_from([f"c{i}" for i in range(12)])),
)


@examples(30, SHARED_FIXTURE)
@given(commands=st.lists(COMMANDS, max_size=25), every=st.sampled_from([1, 3, 1000]))
async def test_replay_and_snapshots_give_the_live_state(
    tmp_path_factory: pytest.TempPathFactory, commands: list[Command], every: int
):
    directory = tmp_path_factory.mktemp("log")
    async with desk(directory, every) as at:
        for number, command in enumerate((*DEFAULT_RESOURCES, *commands)):
            await at.decide(envelope(command, f"c{number}"))
        live, head = at.decider.partition_state, at.decider.head
    async with desk(directory) as again:
        assert (again.decider.partition_state, again.decider.head) == (live, head)
    async with desk(directory) as stopped:
        await stopped.decider.stop()
    async with desk(directory) as restored:
        assert (restored.decider.partition_state.states, restored.decider.head) == (live.states, head)
        assert restored.decider.partition_state.versions == live.versions


async def test_snapshots_of_an_older_form_are_skipped_and_written_again(tmp_path: Path):
    sandboxed = spec(sandbox_hosts=["s.test"], sandbox_backends=[{"upstream": "main"}])
    async with desk(tmp_path) as at:
        await at.decide(
            *(envelope(c) for c in DEFAULT_RESOURCES), envelope(publish(of=sandboxed)), envelope(deploy())
        )
        await at.decider.stop()
        live = at.decider.partition_state
        position, kept = await at.log.snapshots("decider", 0)
        older = [replace(s, state=_of_form_1(s.state)) for s in kept]
        await at.log.commit(Transaction(snapshots=older))
        assert (await at.log.snapshots("decider", 0))[0] == position
    async with desk(tmp_path) as again:
        assert again.decider.partition_state == live
        assert again.decider.head.position == position
        await again.decider.stop()
        assert {s.subject: s.state for s in (await again.log.snapshots("decider", 0))[1]} == {
            s.subject: s.state for s in kept
        }


def _of_form_1(state: bytes) -> bytes:
    """The snapshot as the first version wrote it."""
    content = orjson.loads(state)
    content.pop("fingerprint", None)
    for revision in (content.get("state") or {}).get("revisions", ()):
        del revision["sandbox_hosts"]
    return orjson.dumps(content)


@pytest.mark.parametrize("snapshot", [True, False])
async def test_time_does_not_go_back_with_the_clock(
    tmp_path: Path, snapshot: bool, caplog: pytest.LogCaptureFixture
):
    early, late, later = (f"2026-11-21T02:12:{n:02d}.000000Z" for n in (1, 5, 6))
    async with desk(tmp_path) as at:
        at.decider.clock = lambda: late
        await at.decide(envelope(DEFAULT_RESOURCES[0]))
        at.decider.clock = lambda: early
        (outcome,) = await at.decide(envelope(DEFAULT_RESOURCES[1]))
        assert outcome.decided_at == late
        if snapshot:
            await at.decider.stop()
    async with desk(tmp_path) as again:
        again.decider.clock = lambda: early
        await again.decide(envelope(DEFAULT_RESOURCES[2]))
        again.decider.clock = lambda: later
        await again.decide(envelope(DEFAULT_RESOURCES[3]))
        assert [event.time for event in await again.events()] == [late, late, late, later]
    assert f"the clock is at {early}" in caplog.text


async def test_an_interrupted_decision_leaves_no_snapshot_of_uncommitted_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with desk(tmp_path) as at:
        await at.decide(*(envelope(c) for c in DEFAULT_RESOURCES))
        await at.log.append("commands", [envelope(publish())])
        records = await at.log.read("commands", 0, at.position, 10)
        begun, commit = asyncio.Event(), at.log.commit

        async def noticed(transaction: Transaction) -> list[list[int]]:
            begun.set()
            return await commit(transaction)

        with monkeypatch.context() as patched:
            patched.setattr(at.log, "commit", noticed)
            deciding = asyncio.create_task(at.decider.decide(records, records[-1].position))
            await begun.wait()
            deciding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await deciding
        await at.decider.stop()
    async with desk(tmp_path) as again:
        events = await again.events()
        partition_state = again.decider.partition_state
        assert partition_state.version(f"organizations/{ORG}/apis/orders") == len(events) - len(
            DEFAULT_RESOURCES
        )
        assert again.decider.head.sequence == len(events)


async def test_a_stop_without_space_for_a_snapshot_is_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def full(transaction: Transaction) -> list[list[int]]:
        raise LogUnavailable("disk full")

    async with desk(tmp_path) as at:
        await at.decide(*(envelope(c) for c in DEFAULT_RESOURCES))
        with monkeypatch.context() as patched:
            patched.setattr(at.log, "commit", full)
            await at.decider.stop()
    async with desk(tmp_path) as again:
        assert again.decider.head.sequence == len(DEFAULT_RESOURCES)
